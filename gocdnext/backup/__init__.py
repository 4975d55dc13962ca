"""Backups of a server: one archive of database, blobs and, if asked, sealed keys; restored into an empty state; verified."""
