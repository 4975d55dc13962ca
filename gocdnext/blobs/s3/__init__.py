"""Blobs in a bucket of an S3-compatible store: signatures, calls, the store, and links that lead to it directly."""
