"""Blobs as objects of a bucket. A large one goes in parts, so that memory stays flat; nothing is kept of one that broke off.

A blob that is read is asked for again from where it broke off. Unlike a file it does not stay readable when it is deleted
meanwhile. Whether it is whole is checked by the store, part by part, against the hash that signs each request.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime

import structlog
import trio

from gocdnext.blobs.s3 import answers
from gocdnext.blobs.s3.answers import NoXmlError
from gocdnext.blobs.s3.bucket import Bucket, RefusedError
from gocdnext.blobs.store import Blob, Listed, Piece, Stored, StoreTroubleError, check_key
from gocdnext.errors import TooLargeError
from gocdnext.outbound.errors import OutboundError, UnreachableError

PART = 8 * 1024 * 1024
"""Bytes of a part, which are held in memory while it goes out."""
MAX_PARTS = 10_000
"""What S3 takes: with parts of this size 78 GiB."""
AT_ONCE = 8
"""Requests at a time where many blobs are asked about."""
READ_TRIES = 4
DELETED_AT_ONCE = 1000
_MISSING = frozenset({404})

_log = structlog.get_logger(__name__)


class S3Store:
    """Implements `BlobStore`."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.direct = bucket.settings.direct

    async def put(self, key: str, pieces: AsyncIterable[Piece], *, expected: int = 0, limit: int = 0) -> Stored:
        """See `BlobStore.put`."""
        check_key(key)
        if limit and expected > limit:
            raise TooLargeError("artifact exceeds max size")
        upload = _Upload(self.bucket, key)
        kept = False
        try:
            async for piece in pieces:
                if limit and upload.size + len(piece) > limit:
                    raise TooLargeError("artifact exceeds max size")
                await upload.add(piece)
            stored = await upload.finish()
            kept = True
        finally:
            if not kept:
                # Short: one request. What is left all the same, `clean` removes.
                with trio.move_on_after(5, shield=True):
                    await upload.abort()
        return stored

    @contextlib.asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[Blob | None]:
        """See `BlobStore.open`."""
        try:
            answer = await self.bucket.call("HEAD", check_key(key))
        except RefusedError as error:
            if error.status not in _MISSING:
                raise
            blob = None
        else:
            blob = _Object(self.bucket, key, _length(answer.headers), answer.headers.get("etag", ""))
        yield blob

    async def sizes(self, keys: Sequence[str]) -> Mapping[str, int]:
        """See `BlobStore.sizes`."""
        found: dict[str, int] = {}
        waiting = [check_key(key) for key in reversed(keys)]

        async def look() -> None:
            while waiting:
                key = waiting.pop()
                async with self.open(key) as blob:
                    if blob is not None:
                        found[key] = blob.size

        trouble: list[StoreTroubleError] = []
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(min(AT_ONCE, len(waiting))):
                    nursery.start_soon(look)
        except* StoreTroubleError as group:
            trouble += [error for error in group.exceptions if isinstance(error, StoreTroubleError)]
        if trouble:
            raise trouble[0]
        return found

    async def delete(self, keys: Sequence[str]) -> list[str]:
        """See `BlobStore.delete`. What cannot be removed is logged."""
        gone = []
        for start in range(0, len(keys), DELETED_AT_ONCE):
            some = [check_key(key) for key in keys[start : start + DELETED_AT_ONCE]]
            content = answers.deletion(some)
            md5 = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
            headers = {"Content-MD5": md5, "Content-Type": "application/xml"}
            answer = await self.bucket.call("POST", query={"delete": ""}, content=content, headers=headers)
            with _understood(self.bucket):
                left = answers.undeleted(answer.content)
            for key, why in left.items():
                _log.warning("a blob cannot be removed", key=key, error=why)
            gone += [key for key in some if key not in left]
        return gone

    async def pages(self, prefix: str) -> AsyncIterator[list[Listed]]:
        """See `BlobStore.pages`."""
        query = {"list-type": "2", "prefix": f"{check_key(prefix)}/"}
        while True:
            answer = await self.bucket.call("GET", query=query)
            with _understood(self.bucket):
                page = answers.page(answer.content)
            if page.blobs:
                yield page.blobs
            if not page.next:
                return
            query["continuation-token"] = page.next

    async def clean(self, older_than: datetime) -> int:
        """See `BlobStore.clean`."""
        removed, marker = 0, {"uploads": ""}
        while marker:
            answer = await self.bucket.call("GET", query=marker)
            with _understood(self.bucket):
                found, more = answers.pending(answer.content)
            for upload in found:
                if upload.since < older_than:
                    await _abort(self.bucket, upload.key, upload.upload_id)
                    removed += 1
            marker = {"uploads": "", **more} if more else {}
        return removed


class _Object:
    """Implements `Blob`."""

    def __init__(self, bucket: Bucket, key: str, size: int, etag: str) -> None:
        self._bucket = bucket
        self._key = key
        self._etag = etag
        self.size = size

    async def pieces(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """See `Blob.pieces`. Raises StoreTroubleError when it is another one by now, or cannot be read to its end."""
        tries = 0
        while start < stop:
            trouble: OutboundError | None = None
            try:
                async with (
                    self._bucket.read(self._key, start, stop, self._etag) as streamed,
                    contextlib.aclosing(streamed.pieces()) as pieces,
                ):
                    async for piece in pieces:
                        start, tries = start + len(piece), 0
                        yield piece
            except OutboundError as error:
                trouble = error
            except RefusedError as error:
                if error.status < 500 or tries + 1 >= READ_TRIES:
                    raise
            tries += 1
            if tries >= READ_TRIES or (trouble is not None and not isinstance(trouble, UnreachableError)):
                raise StoreTroubleError(
                    f"a blob cannot be read to its end: {trouble or 'the store gave less than it has'}"
                )


class _Upload:
    """A blob on its way in: whole if it is small, else in parts."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self._buffer = bytearray()
        self._hash = hashlib.sha256()
        self._id = ""
        self._etags: list[str] = []
        self.size = 0

    async def add(self, piece: Piece) -> None:
        rest = memoryview(piece)
        while rest:
            taken = rest[: PART - len(self._buffer)]
            self._buffer += taken
            self.size += len(taken)
            rest = rest[len(taken) :]
            if len(self._buffer) == PART and rest:
                await self._send_part()

    async def finish(self) -> Stored:
        if not self._id and len(self._buffer) <= PART:
            content, sha256 = await self._taken()
            await self._bucket.call("PUT", self._key, content=content, sha256=sha256)
            return Stored(self.size, self._hash.hexdigest())
        if self._buffer:
            await self._send_part()
        query = {"uploadId": self._id}
        await self._bucket.call("POST", self._key, query, content=answers.completion(self._etags))
        return Stored(self.size, self._hash.hexdigest())

    async def abort(self) -> None:
        if self._id:
            with contextlib.suppress(StoreTroubleError):
                await _abort(self._bucket, self._key, self._id)

    async def _send_part(self) -> None:
        if not self._id:
            answer = await self._bucket.call("POST", self._key, {"uploads": ""})
            with _understood(self._bucket):
                self._id = answers.upload_id(answer.content)
        if len(self._etags) == MAX_PARTS:
            raise TooLargeError(f"an upload has at most {MAX_PARTS * PART // 2**30} GiB in an S3 store")
        content, sha256 = await self._taken()
        query = {"partNumber": str(len(self._etags) + 1), "uploadId": self._id}
        answer = await self._bucket.call("PUT", self._key, query, content=content, sha256=sha256)
        self._etags.append(answer.headers.get("etag", ""))

    async def _taken(self) -> tuple[bytes, str]:
        """What is in the buffer, which is empty then, and its hash."""
        content = bytes(self._buffer)
        self._buffer.clear()

        def hashed() -> str:
            self._hash.update(content)
            return hashlib.sha256(content).hexdigest()

        return content, await trio.to_thread.run_sync(hashed)


async def _abort(bucket: Bucket, key: str, upload_id: str) -> None:
    try:
        await bucket.call("DELETE", key, {"uploadId": upload_id})
    except RefusedError as error:
        if error.status not in _MISSING:
            raise


@contextlib.contextmanager
def _understood(bucket: Bucket) -> Iterator[None]:
    try:
        yield
    except NoXmlError as error:
        raise StoreTroubleError(f"{bucket.name} answered with {error}: is that an S3-compatible store?") from None


def _length(headers: Mapping[str, str]) -> int:
    said = headers.get("content-length", "")
    if not said.isascii() or not said.isdigit():
        raise StoreTroubleError("the artifact store does not say how long a blob is")
    return int(said[:18])
