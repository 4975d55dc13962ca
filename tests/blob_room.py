"""A blob store in a folder of the test, with links of a known key."""

from __future__ import annotations

from pathlib import Path

from gocdnext.blobs.filesystem import FilesystemStore
from gocdnext.blobs.links import Links
from gocdnext.blobs.room import Blobs
from gocdnext.blobs.uploads import Uploads
from gocdnext.db.pool import Database

SIGN_KEY = b"a key that signs links of tests!"
BASE = "http://blobs.test"
LIMIT = 8 * 2**20
"""Bytes that an upload may have."""


def blobs_in(folder: Path, db: Database, *, base: str = BASE, min_free: int = 0) -> Blobs:
    """Blobs below the folder, LIMIT bytes each at most."""
    store = FilesystemStore(folder / "artifacts", min_free=min_free)
    return Blobs(store, Links(SIGN_KEY, base), Uploads(db, store, LIMIT))
