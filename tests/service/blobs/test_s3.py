"""The store in a bucket, against a real S3 server on loopback: up, down, in parts, by link, and what is not there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from moto.server import ThreadedMotoServer

from gocdnext.blobs.s3 import checking
from gocdnext.blobs.s3 import store as s3_store
from gocdnext.blobs.s3.bucket import Bucket, S3Settings
from gocdnext.blobs.s3.signing import Credentials
from gocdnext.blobs.s3.store import S3Store
from gocdnext.blobs.store import StoreTroubleError
from gocdnext.errors import TooLargeError
from gocdnext.outbound.client import Outbound
from gocdnext.outbound.hosts import Hosts
from gocdnext.outbound.policy import Policy

KEY = "run/1/job/2/3"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


async def store_of(endpoint: str, name: str, *, ensure: bool = True) -> AsyncIterator[S3Store]:
    async with Outbound(Policy(allow=Hosts.parse("127.0.0.1")), lambda: datetime.now(UTC), attempts=1) as outbound:
        settings = S3Settings(bucket=name, endpoint=endpoint, use_path_style=True, ensure_bucket=ensure)
        yield S3Store(Bucket(settings, Credentials("key", "secret"), outbound, lambda: datetime.now(UTC)))


@pytest.fixture
async def store(endpoint: str) -> AsyncIterator[S3Store]:
    async for made in store_of(endpoint, "blobs"):
        await checking.check(made)
        yield made


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def content(store: S3Store, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
    async with store.open(key) as blob:
        if blob is None:
            return None
        return b"".join([piece async for piece in blob.pieces(start, blob.size if stop is None else stop)])


@pytest.mark.parametrize("size", [0, 10, 5 * 2**20, 11 * 2**20 + 3])
async def test_up_and_down(store: S3Store, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_store, "PART", 5 * 2**20)  # the least that S3 takes
    data = os.urandom(size)
    stored = await store.put(KEY, pieces(data[:7], data[7:]))
    assert (stored.size, stored.sha256) == (size, hashlib.sha256(data).hexdigest())
    assert await content(store, KEY) == data
    assert await content(store, KEY, min(3, size), min(8, size)) == data[3:8]
    assert await store.sizes([KEY, "run/none"]) == {KEY: size}
    assert [entry.key async for page in store.pages("run") for entry in page] == [KEY]
    assert await store.delete([KEY, "run/none"]) == [KEY, "run/none"]
    assert await content(store, KEY) is None


async def test_half_an_upload_leaves_nothing(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_store, "PART", 5 * 2**20)

    async def broken() -> AsyncIterator[bytes]:
        yield bytes(6 * 2**20)
        raise OSError("the agent is gone")

    with pytest.raises(OSError, match="agent is gone"):
        await store.put(KEY, broken())
    with pytest.raises(TooLargeError):
        await store.put(KEY, pieces(bytes(100)), limit=99)
    assert await content(store, KEY) is None
    assert await store.clean(datetime.now(UTC) + timedelta(days=1)) == 0


async def test_links(store: S3Store) -> None:
    async with httpx.AsyncClient() as http:
        put = store.bucket.presigned("PUT", KEY, timedelta(minutes=1))
        assert (await http.put(put, content=b"by an agent")).status_code == 200
        assert (await http.get(store.bucket.presigned("GET", KEY, timedelta(minutes=1)))).content == b"by an agent"


async def test_no_bucket(endpoint: str) -> None:
    async for store in store_of(endpoint, "nobody", ensure=False):
        with pytest.raises(StoreTroubleError, match=r"NoSuchBucket.*create it, or set ensure_bucket"):
            await checking.check(store)


async def test_nobody_there() -> None:
    async for store in store_of("http://127.0.0.1:1", "blobs", ensure=False):
        with pytest.raises(StoreTroubleError, match="cannot be reached: cannot connect to 127"):
            await checking.check(store)
