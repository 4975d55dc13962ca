"""Whether a bucket can be used: it writes, reads, reads by a link, and deletes, before anybody relies on it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from datetime import timedelta

import structlog
import trio

from gocdnext.blobs.s3 import answers
from gocdnext.blobs.s3.bucket import RefusedError
from gocdnext.blobs.s3.store import S3Store
from gocdnext.blobs.store import StoreTroubleError

BUDGET = 30.0
"""Seconds for a whole check."""
AWS_DEFAULT = "us-east-1"

_log = structlog.get_logger(__name__)


async def check(store: S3Store) -> None:
    """Writes, reads and deletes a small blob. Raises StoreTroubleError, whose message says what to do."""
    with trio.move_on_after(BUDGET) as scope:
        await _ensure_bucket(store)
        await _try(store)
    if scope.cancelled_caught:
        raise StoreTroubleError(f"{store.bucket.name} did not do within {BUDGET:g} s what was asked; is it overloaded?")


async def prepare(store: S3Store) -> None:
    """At a start: the check, but a store that cannot be used does not keep the server from coming up."""
    try:
        await check(store)
    except StoreTroubleError as error:
        _log.error("the artifact store cannot be used: jobs that deliver or fetch something fail", error=str(error))


async def _ensure_bucket(store: S3Store) -> None:
    """Creates the bucket where that is wanted and it is not there."""
    settings = store.bucket.settings
    if not settings.ensure_bucket:
        return
    try:
        await store.bucket.call("HEAD")
    except RefusedError as error:
        if error.status != 404:
            raise
        content = b"" if settings.region == AWS_DEFAULT else answers.location(settings.region)
        await store.bucket.call("PUT", content=content)
        _log.info("bucket created", bucket=settings.bucket)


async def _try(store: S3Store) -> None:
    key, content = f"check/{secrets.token_hex(16)}", secrets.token_bytes(1024)

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    await store.put(key, pieces())
    try:
        async with store.open(key) as blob:
            read = b"" if blob is None else b"".join([piece async for piece in blob.pieces(0, blob.size)])
        if read != content:
            raise StoreTroubleError(f"{store.bucket.name} gives back something else than was written; do not use it")
        answer = await store.bucket.fetch(store.bucket.presigned("GET", key, timedelta(minutes=1)))
        if answer.content != content:
            raise StoreTroubleError(
                f"{store.bucket.name} does not take presigned links ({answer.status}); set direct=false"
            )
    finally:
        with trio.move_on_after(5, shield=True):  # short: one request
            gone = await store.delete([key])
    if gone != [key]:
        raise StoreTroubleError(f"{store.bucket.name} does not delete: the key needs s3:DeleteObject")
