"""Transfers to and from a real HTTP server: what is tried again, what is an error, and what errors never say."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from gocdnext.agent import transfer
from gocdnext.agent.disk import DiskFullError
from gocdnext.agent.transfer import TransferError, Transfers
from tests.agent.store import TOKEN, Store, serving_store

PATIENCE = 20.0
LIMIT = 2**30


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(transfer, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(transfer, "TRIES", 3)
    with serving_store() as it:
        yield it


async def test_up_and_down(store: Store, tmp_path: Path) -> None:
    content = os.urandom(3 * transfer.CHUNK + 17)
    (tmp_path / "up").write_bytes(content)
    async with Transfers() as transfers:
        await transfers.put(store.url("x"), str(tmp_path / "up"), len(content))
        assert store.get("x") == content
        fetched = await transfers.get(store.url("x"), str(tmp_path / "down"), LIMIT)
    assert (tmp_path / "down").read_bytes() == content
    assert (fetched.size, fetched.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    headers = store.requests[0][2]
    assert headers["Content-Length"] == str(len(content))
    assert headers["Content-Type"] == "application/gzip"
    assert not {"Authorization", "Transfer-Encoding"} & set(headers)


async def test_a_proxy_is_not_asked_for_this_machine(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    store.put("x", b"content")
    async with Transfers() as transfers:
        assert (await transfers.get(store.url("x"), str(tmp_path / "down"), LIMIT)).size == 7
        with pytest.raises(TransferError, match=r"http://ci\.example\.org cannot be reached: .*PUBLIC_BASE"):
            await transfers.get("http://ci.example.org/x", str(tmp_path / "down"), LIMIT)


async def test_nothing_at_all_can_be_moved(store: Store, tmp_path: Path) -> None:
    (tmp_path / "up").touch()
    async with Transfers() as transfers:
        await transfers.put(store.url("x"), str(tmp_path / "up"), 0)
        assert (await transfers.get(store.url("x"), str(tmp_path / "down"), LIMIT)).size == 0


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
async def test_passing_trouble_is_tried_again(store: Store, tmp_path: Path, status: int) -> None:
    (tmp_path / "up").write_bytes(b"content")
    async with Transfers() as transfers:
        store.statuses = [(status, "not now")] * 2
        await transfers.put(store.url("x"), str(tmp_path / "up"), 7)
        store.statuses = [(status, "not now")] * 2
        assert (await transfers.get(store.url("x"), str(tmp_path / "down"), LIMIT)).size == 7
        store.statuses = [(status, "not now")] * 3
        with pytest.raises(TransferError, match=rf"http://127\.0\.0\.1:\d+ answered {status} .*\(not now\)$"):
            await transfers.get(store.url("x"), str(tmp_path / "down"), LIMIT)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 507, 301])
async def test_a_clear_no_is_not_asked_again(store: Store, tmp_path: Path, status: int) -> None:
    (tmp_path / "up").write_bytes(b"content")
    store.statuses = [(status, '{"error": "too large"}')]
    async with Transfers() as transfers:
        with pytest.raises(TransferError, match=rf"answered {status} .*\(too large\)$"):
            await transfers.put(store.url("x"), str(tmp_path / "up"), 7)
    assert len(store.requests) == 1


async def test_a_truncated_download_fails(store: Store, tmp_path: Path) -> None:
    store.put("x", b"x" * 1000)
    store.truncate = 100
    async with Transfers() as transfers:
        with pytest.raises(TransferError, match=r"broke: .*received 900 bytes, expected 1000"):
            await transfers.get(store.url("x"), str(tmp_path / "down"), LIMIT)
    assert len(store.requests) == 3


async def test_redirects_of_downloads_are_followed(store: Store, tmp_path: Path) -> None:
    store.put("x", b"content")
    url = store.url("x").replace("/artifacts/", "/elsewhere/artifacts/")
    async with Transfers() as transfers:
        assert (await transfers.get(url, str(tmp_path / "down"), LIMIT)).size == 7


async def test_downloads_are_bounded(store: Store, tmp_path: Path) -> None:
    store.put("x", b"x" * 1000)
    async with Transfers() as transfers:
        with pytest.raises(TransferError, match="larger than 0 MiB; that is the limit"):
            await transfers.get(store.url("x"), str(tmp_path / "down"), 999)


async def test_a_full_disk_ends_a_download(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("x", b"x" * 1000)
    monkeypatch.setattr("gocdnext.agent.disk.RESERVE", 2**60)
    monkeypatch.setattr("gocdnext.agent.disk.PART", 1)
    async with Transfers() as transfers:
        with pytest.raises(DiskFullError, match="the disk of the agent's work root is full"):
            await transfers.get(store.url("x"), str(tmp_path / "down"), LIMIT)
    assert len(store.requests) == 1


async def test_nobody_there(tmp_path: Path, store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with Transfers() as transfers:
        with pytest.raises(TransferError, match=f"http://127.0.0.1:{port} cannot be reached"):
            await transfers.get(f"http://127.0.0.1:{port}/{TOKEN}", str(tmp_path / "down"), LIMIT)


@pytest.mark.parametrize(
    "url", ["", "ftp://host/x", "file:///etc/passwd", "http://", "nonsense", "http://[::1", "http:///x"]
)
async def test_an_address_that_is_none(tmp_path: Path, url: str) -> None:
    async with Transfers() as transfers:
        with pytest.raises(TransferError, match="no HTTP URL"):
            await transfers.get(url, str(tmp_path / "down"), LIMIT)


async def test_a_server_that_says_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "STALL", 0.05)
    store.put("x", b"x" * 1000)
    store.stall = threading.Event()
    async with Transfers() as transfers:
        with pytest.raises(TransferError, match="did not answer in time"):
            await transfers.get(store.url("x"), str(tmp_path / "down"), LIMIT)


async def test_a_cancel_ends_a_transfer_at_once(store: Store, tmp_path: Path) -> None:
    store.put("x", b"x" * 1000)
    store.stall = threading.Event()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery, Transfers() as transfers:
            nursery.start_soon(transfers.get, store.url("x"), str(tmp_path / "down"), LIMIT)
            await trio.to_thread.run_sync(store.stalled.wait, PATIENCE)
            nursery.cancel_scope.cancel()


async def test_nothing_tells_the_token(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "up").write_bytes(b"content")
    errors: list[str] = []
    async with Transfers() as transfers:
        for status, body in (
            (401, f"bad token {TOKEN}"),
            (403, f"<Error>{TOKEN}</Error>"),
            (404, f"/artifacts/{TOKEN}.x"),
        ):
            store.statuses = [(status, body)]
            with pytest.raises(TransferError) as caught:
                await transfers.put(store.url("x"), str(tmp_path / "up"), 7)
            errors.append(str(caught.value))
        for broken in (
            f"http://127.0.0.1:1/{TOKEN}",
            f"gopher://127.0.0.1/{TOKEN}",
            f"http://user:{TOKEN}@127.0.0.1:1/",
        ):
            with pytest.raises(TransferError) as caught:
                await transfers.get(broken, str(tmp_path / "down"), LIMIT)
            errors.append(str(caught.value))
        await transfers.put(store.url("x"), str(tmp_path / "up"), 7)
    assert TOKEN not in "".join(errors)
    assert TOKEN not in caplog.text
