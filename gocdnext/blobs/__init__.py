"""Artifacts and caches: the bytes in a store, the rows that say what they are, the signed addresses that lead to them."""
