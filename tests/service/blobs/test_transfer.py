"""PUT and GET of signed links (contract-runs 9): what is refused, and that nothing half done stays."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest
import structlog
import trio
import trio.testing

from gocdnext.api import body
from gocdnext.db.pool import Database
from gocdnext.pipeline import model
from tests.blob_room import BASE, LIMIT
from tests.service.blobs.conftest import Plant, job, running_plant
from tests.service.fleet.conftest import Agent

JOB = job("compile", artifacts=model.Artifacts(when="always", required=("app",)))


@contextlib.asynccontextmanager
async def ticket(plant: Plant, *paths: str) -> AsyncIterator[tuple[Any, Agent, Any]]:
    """A ticket of a running job, its agent and the assignment."""
    await plant.start(await plant.pipeline("main", [JOB]))
    async with plant.agent() as client:
        assigned = (await client.receive()).assign
        (first, *_) = await plant.tickets(client, assigned, *(paths or ("app",)))
        yield first, client, assigned


async def ready(plant: Plant, content: bytes) -> str:
    """A link to a blob that is there."""
    key = "run/1/job/2/3"

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    await plant.blobs.store.put(key, pieces())
    return plant.blobs.links.download(key, plant.clock()).url


def error(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["error"])


async def test_bodies_of_every_kind(plant: Plant) -> None:
    content = os.urandom(LIMIT)

    async def chunked() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 300_000):
            yield content[start : start + 300_000]

    async with ticket(plant) as (one, _, _):
        # With a length, in chunks, and nothing at all. A PUT may be repeated until it is confirmed.
        for sent, whole in ((content, content), (chunked(), content), (b"", b"")):
            answer = await plant.put(one.put_url, sent)
            assert (answer.status_code, answer.headers["x-artifact-size"]) == (204, str(len(whole)))
            assert (plant.root / one.storage_key).read_bytes() == whole
    assert plant.files() == [one.storage_key]


async def test_more_than_ever_fits_into_memory_arrives_piece_by_piece(plant: Plant, monkeypatch: Any) -> None:
    """A reader that is slower than the sender makes it wait: the body never grows."""
    most = 0
    append = body.StreamedBody.append

    def watched(self: body.StreamedBody, data: bytes) -> None:
        nonlocal most
        append(self, data)
        most = max(most, len(self._data))

    monkeypatch.setattr(body.StreamedBody, "append", watched)
    monkeypatch.setattr(body, "PIECE", 64 * 1024)
    monkeypatch.setattr(body, "BACKLOG", 256 * 1024)
    put = plant.blobs.store.put

    async def slow(key: str, pieces: AsyncIterator[bytes], **options: Any) -> Any:
        async def slowly() -> AsyncIterator[bytes]:
            async for piece in pieces:
                await trio.testing.wait_all_tasks_blocked(0.001)
                yield piece

        return await put(key, slowly(), **options)

    monkeypatch.setattr(plant.blobs.store, "put", slow)
    async with ticket(plant) as (one, _, _):
        assert (await plant.put(one.put_url, b"x" * LIMIT)).status_code == 204
    assert 256 * 1024 <= most < 512 * 1024


@pytest.mark.parametrize("announced", [True, False])
async def test_more_than_the_limit(plant: Plant, announced: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b"x" * (LIMIT // 8)

    async with ticket(plant) as (one, _, _):
        answer = await plant.put(one.put_url, b"x" * (LIMIT + 1) if announced else chunks())
        assert error(answer, 413) == "artifact exceeds max size"
    assert plant.files() == []


async def test_a_client_that_asks_before_it_sends(plant: Plant) -> None:
    """curl does: it waits for `100 Continue`, and sends nothing to a server that refuses."""
    where = plant.http.base_url
    assert where.port is not None
    async with ticket(plant) as (one, _, _):
        for path, answers in (
            (one.put_url.removeprefix(BASE), (b"HTTP/1.1 100", b"HTTP/1.1 204")),
            ("/artifacts/a.PUT.1.b", (b"HTTP/1.1 100", b"HTTP/1.1 401")),
        ):
            stream = await trio.open_tcp_stream(where.host, where.port)
            head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
            with trio.fail_after(10):
                await stream.send_all(head.encode())
                assert (await stream.receive_some()).startswith(answers[0])
                await stream.send_all(b"12345")
                assert (await stream.receive_some()).startswith(answers[1])
                await stream.aclose()
        assert (plant.root / one.storage_key).read_bytes() == b"12345"


async def test_a_client_that_leaves_in_the_middle(plant: Plant) -> None:
    for length in (b"Content-Length: 1000", b"Transfer-Encoding: chunked"):
        async with ticket(plant) as (one, client, assigned):
            where = plant.http.base_url
            assert where.port is not None
            stream = await trio.open_tcp_stream(where.host, where.port)
            head = f"PUT {one.put_url.removeprefix(BASE)} HTTP/1.1\r\nHost: x\r\n".encode() + length
            await stream.send_all(head + b"\r\n\r\n" + (b"5\r\n12345\r\n" if b"chunked" in length else b"12345"))
            with trio.fail_after(10):
                while not plant.files():
                    await trio.testing.wait_all_tasks_blocked(0.002)
                await stream.aclose()
                while plant.files():
                    await trio.testing.wait_all_tasks_blocked(0.002)
            assert await plant.db.fetchval("SELECT size_bytes FROM artifacts WHERE path = 'app'") is None
            # The ticket is good for another try.
            assert (await plant.put(one.put_url, b"whole")).status_code == 204
            await plant.db.execute("DELETE FROM pipelines")
            await plant.blobs.store.delete([one.storage_key])
            assert client.name == "runner"
            assert assigned.name == "compile"


async def test_a_client_that_stops_sending(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "PIECE_TIMEOUT", 0.05)
    never = trio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield b"x"
        await never.wait()

    async with ticket(plant) as (one, _, _):
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:

                async def put() -> None:
                    with contextlib.suppress(httpx.TransportError):
                        await plant.put(one.put_url, stuck())

                nursery.start_soon(put)
                while not plant.files():
                    await trio.testing.wait_all_tasks_blocked(0.001)
                while plant.files():
                    await trio.testing.wait_all_tasks_blocked(0.001)
                nursery.cancel_scope.cancel()


async def test_two_at_once_for_one_blob(plant: Plant) -> None:
    begun, go_on = trio.Event(), trio.Event()

    async def held() -> AsyncIterator[bytes]:
        yield b"first"
        begun.set()
        await go_on.wait()

    async with ticket(plant) as (one, _, _), trio.open_nursery() as nursery:
        answers: list[httpx.Response] = []

        async def first() -> None:
            answers.append(await plant.put(one.put_url, held()))

        nursery.start_soon(first)
        await begun.wait()
        with trio.fail_after(10):
            while not plant.files():
                await trio.testing.wait_all_tasks_blocked(0.001)
        assert error(await plant.put(one.put_url, b"second"), 409) == "this is being uploaded already"
        go_on.set()
    assert [answer.status_code for answer in answers] == [204]
    assert (plant.root / one.storage_key).read_bytes() == b"first"


async def test_what_is_confirmed_is_never_written_again(plant: Plant) -> None:
    async with ticket(plant) as (one, client, assigned):
        (app,) = await plant.deliver(client, assigned, app=b"good")
        await plant.report(client, assigned, app.ref)
        await plant.ended(UUID(assigned.run_id), "compile")
        assert error(await plant.put(one.put_url, b"evil"), 409) == "this upload is complete already"
    assert (plant.root / one.storage_key).read_bytes() == b"good"


async def test_an_upload_that_is_under_way_cannot_be_confirmed(plant: Plant) -> None:
    """The result speaks of the first content while a second one is replacing it."""
    async with ticket(plant) as (one, client, assigned):
        (app,) = await plant.deliver(client, assigned, app=b"good")
        begun, go_on = trio.Event(), trio.Event()

        async def held() -> AsyncIterator[bytes]:
            begun.set()
            await go_on.wait()
            yield b"evil"

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: plant.put(one.put_url, held()))
            await begun.wait()
            with trio.fail_after(10):
                while not any(name.startswith(".incoming") for name in plant.files()):
                    await trio.testing.wait_all_tasks_blocked(0.001)
            await plant.report(client, assigned, app.ref)
            assert (await plant.ended(UUID(assigned.run_id), "compile"))["status"] == "failed"
            go_on.set()


async def test_a_run_that_is_deleted_while_its_artifact_comes_in(plant: Plant) -> None:
    async with ticket(plant) as (one, _, _):
        begun, go_on = trio.Event(), trio.Event()

        async def held() -> AsyncIterator[bytes]:
            yield b"x"
            begun.set()
            await go_on.wait()

        async with trio.open_nursery() as nursery:
            answers: list[httpx.Response] = []

            async def put() -> None:
                answers.append(await plant.put(one.put_url, held()))

            nursery.start_soon(put)
            with trio.fail_after(10):
                while not plant.files():
                    await trio.testing.wait_all_tasks_blocked(0.001)
            await plant.db.execute("DELETE FROM pipelines")
            go_on.set()
        assert error(answers[0], 404) == "not found"
    assert plant.files() == []


async def test_tokens_that_do_not_open(plant: Plant) -> None:
    content = os.urandom(100)
    good = await ready(plant, content)
    async with ticket(plant) as (one, _, _):
        key, _, until, signature = urlsplit(good).path.removeprefix("/artifacts/").split(".")
        for wrong in (
            f"{key}.PUT.{until}.{signature}",
            f"{key}.GET.{int(until) + 3600}.{signature}",
            f"{key[:-2]}AA.GET.{until}.{signature}",
            f"{key}.GET.{until}.{signature[:-1]}",
            f"{key}.GET.{until}",
            "x",
            "%2e%2e.GET.1.x",
            "é",
        ):
            for method in ("GET", "PUT"):
                answer = await plant.http.request(method, f"/artifacts/{wrong}")
                assert error(answer, 401) == "bad token"
        assert error(await plant.put(good, b"evil"), 401) == "bad token"
        assert error(await plant.get(one.put_url), 401) == "bad token"
        assert (await plant.get(good)).content == content
        for method in ("HEAD", "POST", "DELETE"):
            answer = await plant.http.request(method, urlsplit(good).path)
            assert answer.status_code == 405
        plant.clock.now = plant.clock.now.replace(year=plant.clock.now.year + 1)
        assert error(await plant.get(good), 401) == "bad token"
        assert error(await plant.put(one.put_url, b"late"), 401) == "bad token"


async def test_a_refused_upload_is_not_read_to_its_end(plant: Plant) -> None:
    """The answer comes although the client still sends."""
    where = plant.http.base_url
    assert where.port is not None
    stream = await trio.open_tcp_stream(where.host, where.port)
    await stream.send_all(b"PUT /artifacts/a.PUT.1.b HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n")
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                with contextlib.suppress(trio.BrokenResourceError):
                    while True:
                        await stream.send_all(b"x" * 65536)

            nursery.start_soon(send)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 401")
            nursery.cancel_scope.cancel()
    await stream.aclose()


async def test_blobs_that_are_gone(plant: Plant) -> None:
    link = await ready(plant, b"x")
    await plant.blobs.store.delete(["run/1/job/2/3"])
    assert error(await plant.get(link), 404) == "not found"
    unknown = plant.blobs.links.upload("run/1/job/2/9", plant.clock()).url
    assert error(await plant.put(unknown, b"x"), 404) == "not found"
    # Signed or not, a key never leads out of the store.
    outside = plant.blobs.links.download("../../etc/passwd", plant.clock()).url
    assert error(await plant.get(outside), 500) == "internal error"


@pytest.mark.parametrize(
    ("said", "status", "span"),
    [
        (None, 200, (0, 1000)),
        ("bytes=0-99", 206, (0, 100)),
        ("bytes=100-", 206, (100, 1000)),
        ("bytes=-100", 206, (900, 1000)),
        ("bytes=-5000", 200, (0, 1000)),
        ("bytes=999-5000", 206, (999, 1000)),
        ("bytes=0-99999999999999999999999999", 200, (0, 1000)),
        # Several ranges, reversed ones and nonsense count as none.
        ("bytes=0-1,5-6", 200, (0, 1000)),
        ("bytes=9-5", 200, (0, 1000)),
        ("bytes=-0", 200, (0, 1000)),
        ("bytes=", 200, (0, 1000)),
        ("bytes=a-b", 200, (0, 1000)),
        ("lines=0-1", 200, (0, 1000)),
        (",".join(["bytes=0-"] * 200), 200, (0, 1000)),
        # Behind the end there is nothing.
        ("bytes=1000-", 416, None),
        ("bytes=5000-6000", 416, None),
    ],
)
async def test_ranges(plant: Plant, said: str | None, status: int, span: tuple[int, int] | None) -> None:
    content = os.urandom(1000)
    answer = await plant.get(await ready(plant, content), headers={} if said is None else {"Range": said})
    assert answer.status_code == status
    if span is None:
        assert answer.headers["content-range"] == "bytes */1000"
        assert error(answer, 416)
        return
    assert answer.content == content[slice(*span)]
    assert answer.headers["content-length"] == str(span[1] - span[0])
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-type"] == "application/gzip"
    assert answer.headers.get("content-range") == (f"bytes {span[0]}-{span[1] - 1}/1000" if status == 206 else None)


async def test_a_range_on_a_condition_is_the_whole(plant: Plant) -> None:
    answer = await plant.get(await ready(plant, b"abc"), headers={"Range": "bytes=0-0", "If-Range": '"x"'})
    assert (answer.status_code, answer.content) == (200, b"abc")


@pytest.mark.parametrize(
    ("name", "disposition"),
    [
        ("", "attachment"),
        ("app.tar.gz", 'attachment; filename="app.tar.gz"'),
        ('a"b\\c/d\r\nSet-Cookie: x=1', 'attachment; filename="abcdSet-Cookie: x=1"'),
        ("/", "attachment"),
        ("é.gz", "attachment; filename=\"_.gz\"; filename*=UTF-8''%C3%A9.gz"),
        ("x" * 300, f'attachment; filename="{"x" * 200}"'),
    ],
)
async def test_what_a_download_is_saved_as(plant: Plant, name: str, disposition: str) -> None:
    answer = await plant.get(await ready(plant, b"<script>"), params={"filename": name})
    assert answer.headers["content-disposition"] == disposition
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in answer.headers


async def test_a_disk_that_is_nearly_full(db: Database, tmp_path: Path) -> None:
    async with running_plant(db, tmp_path, min_free=2**60) as plant, ticket(plant) as (one, _, _):
        for sent in (b"x", b""):
            answer = await plant.put(one.put_url, sent)
            assert "GOCDNEXT_ARTIFACTS_MIN_FREE_MB" in error(answer, 507)
        assert plant.files() == []
        # What is there already can be fetched.
        plant.blobs.store._min_free = 0  # type: ignore[attr-defined]
        assert (await plant.get(await ready(plant, b"x"))).content == b"x"


async def test_tokens_are_in_no_log(plant: Plant, capfd: pytest.CaptureFixture[str]) -> None:
    with structlog.testing.capture_logs() as events:
        async with ticket(plant) as (one, client, assigned):
            await plant.deliver(client, assigned, app=b"x")
            outside = plant.blobs.links.download("../x", plant.clock()).url
            await plant.get(outside)
            await plant.get(one.put_url)
    written = repr(events) + "".join(capfd.readouterr())
    assert "request failed" in written
    for link in (one.put_url, outside):
        assert link.rpartition(".")[2] not in written
