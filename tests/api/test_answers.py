"""What is done to every answer: tags and 304, gzip, request ids, totals of bare arrays (contract-runs 0.4, issue 7)."""

from __future__ import annotations

import gzip
from collections.abc import MutableMapping
from typing import Any

import pytest
import structlog
import trio

from tests.api.test_conventions import error
from tests.api.test_runs import get, log, one_run
from tests.api.world import World, partitioned, pipeline


async def test_what_a_client_has_is_not_sent_again(world: World) -> None:
    await world.apply()
    first = await world.http.get("/api/v1/projects")
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    assert first.headers["cache-control"] == "private, no-cache"
    for said in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        again = await world.http.get("/api/v1/projects", headers={"If-None-Match": said})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
        assert again.headers["access-control-allow-origin"] == "*"
        assert "content-type" not in again.headers
    for said in ('"other"', "nonsense", ""):
        again = await world.http.get("/api/v1/projects", headers={"If-None-Match": said})
        assert (again.status_code, again.content) == (200, first.content)
    await world.apply("second")
    changed = await world.http.get("/api/v1/projects", headers={"If-None-Match": tag})
    assert (changed.status_code, len(changed.json()["projects"])) == (200, 2)
    assert changed.headers["etag"] != tag


async def test_what_has_no_tag(world: World) -> None:
    made = await world.apply()
    source = f"/api/v1/pipelines/{made['pipelines'][0]['pipeline_id']}/yaml"
    for path in (source, "/healthz", "/metrics", "/api/v1/runs/nonsense"):
        answer = await world.http.get(path, headers={"If-None-Match": "*"})
        assert answer.status_code in (200, 400)
        assert "etag" not in answer.headers
    answer = await world.http.post("/api/v1/projects/apply", json={"slug": "x"}, headers={"If-None-Match": "*"})
    assert answer.status_code == 200
    assert "etag" not in answer.headers


@pytest.mark.parametrize("pipelines", [5, 400])
async def test_gzip(world: World, pipelines: int) -> None:
    """The larger answer is over 64 KiB."""
    await world.apply(files={f"p{n}.yaml": pipeline(f"p{n}") for n in range(pipelines)})
    path = "/api/v1/projects/billing"
    plain = await world.http.get(path, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert (len(plain.content) > 64 * 1024) is (pipelines == 400)
    async with world.http.stream("GET", path, headers={"Accept-Encoding": "br, gzip;q=0.5"}) as answer:
        raw = b"".join([piece async for piece in answer.aiter_raw()])
        assert answer.headers["content-encoding"] == "gzip"
        assert int(answer.headers["content-length"]) == len(raw) < len(plain.content) / 3
        assert {"Accept-Encoding", "Origin"} & set(answer.headers["vary"].split(", ")) == {"Accept-Encoding"}
        assert answer.headers["etag"] == plain.headers["etag"]
    assert gzip.decompress(raw) == plain.content
    again = await world.http.get(path, headers={"If-None-Match": plain.headers["etag"]})
    assert (again.status_code, again.headers["vary"]) == (304, "Accept-Encoding")
    for said in ("gzip;q=0", "", "br"):
        answer = await world.http.get(path, headers={"Accept-Encoding": said})
        assert "content-encoding" not in answer.headers
        assert "Accept-Encoding" in answer.headers["vary"]
    answer = await world.http.get("/healthz", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers


async def test_a_stream_is_never_compressed(world: World) -> None:
    await partitioned(world.db)
    _, run_id = await one_run(world)
    job = (await get(world, f"/api/v1/runs/{run_id}"))["stages"][0]["jobs"][0]
    await log(world, run_id, job["id"], *["a long line " * 100] * 3)
    await world.http.post(f"/api/v1/runs/{run_id}/cancel")
    headers = {"Accept-Encoding": "gzip", "Last-Event-ID": "0", "If-None-Match": "*"}
    with trio.fail_after(30):
        async with world.http.stream("GET", f"/api/v1/runs/{run_id}/logs/stream", headers=headers) as answer:
            assert answer.status_code == 200
            assert not {"content-encoding", "etag"} & set(answer.headers)
            assert "id: 3" in (await answer.aread()).decode()


async def test_request_ids(world: World) -> None:
    answer = await world.http.get("/healthz", headers={"X-Request-Id": "trace-41:a.b_c"})
    assert answer.headers["x-request-id"] == "trace-41:a.b_c"
    seen = {answer.headers["x-request-id"]}
    for said in (
        {},
        {"X-Request-Id": ""},
        {"X-Request-Id": "a b"},
        {"X-Request-Id": "x" * 129},
        {"X-Request-Id": "{}"},
    ):
        answer = await world.http.get("/nope", headers=said)
        error(answer, 404)
        assert len(answer.headers["x-request-id"]) == 32
        seen.add(answer.headers["x-request-id"])
    assert len(seen) == 6
    assert "x-request-id" in (await world.http.options("/healthz")).headers


async def test_lines_of_the_log_say_which_request(world: World) -> None:
    await world.db.execute("ALTER TABLE agents RENAME TO agents_elsewhere")
    merged: list[dict[str, object]] = []

    def keep(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        merged.append(dict(event))
        raise structlog.DropEvent

    before = structlog.get_config()["processors"]
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, keep])
    try:
        error(await world.http.get("/api/v1/agents", headers={"X-Request-Id": "one"}), 500)
        error(await world.http.get("/api/v1/agents", headers={"X-Request-Id": "two"}), 500)
    finally:
        structlog.configure(processors=before)
    failed = [event["request_id"] for event in merged if event["event"] == "request failed"]
    assert failed == ["one", "two"]
    assert "request_id" not in structlog.contextvars.get_contextvars()
