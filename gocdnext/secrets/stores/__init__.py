"""Stores outside of the database that values of secrets come from (contract-admin 5.7, 5.8)."""
