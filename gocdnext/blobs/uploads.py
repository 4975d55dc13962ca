"""Taking blobs in: is it expected, store it, keep what was seen of it with its row. Trio side."""

from __future__ import annotations

from collections.abc import AsyncIterable

from gocdnext.blobs.store import BlobStore, Piece, Stored
from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.errors import ConflictError, NotFoundError

_SQL = queries.load("blobs")


class Uploads:
    """The uploads of this process."""

    def __init__(self, db: Database, store: BlobStore, limit: int) -> None:
        """`limit` is the most bytes that one may have, 0 for any."""
        self._db = db
        self._store = store
        self._limit = limit
        self._under_way: set[str] = set()

    async def receive(self, key: str, pieces: AsyncIterable[Piece], expected: int) -> Stored:
        """Stores what comes; `expected` are the bytes that were announced, or 0. It may come again until it is confirmed.

        Raises NotFoundError when nobody waits for it any more (its job was repeated, its run is gone), ConflictError when
        it is confirmed or being uploaded now, TooLargeError, NoRoomError, DatabaseUnavailableError, OSError.
        """
        if key in self._under_way:
            raise ConflictError("this is being uploaded already")
        self._under_way.add(key)
        try:
            # Nobody confirms the old content while it is replaced.
            if not await self._db.fetchval(_SQL.record_upload, key, None, None):
                await self._refuse(key)
            stored = await self._store.put(key, pieces, expected=expected, limit=self._limit)
            if not await self._db.fetchval(_SQL.record_upload, key, stored.size, stored.sha256):
                await self._store.delete([key])
                raise NotFoundError("not found")
        finally:
            self._under_way.discard(key)
        return stored

    async def _refuse(self, key: str) -> None:
        if await self._db.fetchval(_SQL.upload_status, key) is None:
            raise NotFoundError("not found")
        raise ConflictError("this upload is complete already")
