"""The HTTP client against a real server: errors, the token's reach, streams that break."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gocdnext.client import ApiError, CannotReachError, Client, byte_lines, parse_events
from gocdnext.client import connection as module

RUN = "c0de0000-0000-4000-8000-000000000001"
STREAM = f"GET /api/v1/runs/{RUN}/logs/stream"


def frame(cursor: int, text: str = "x") -> bytes:
    data = orjson.dumps({"job_id": "j", "seq": cursor, "stream": "stdout", "at": "2026-01-01T00:00:00Z", "text": text})
    return b"event: log\nid: %d\ndata: %s\n\n" % (cursor, data)


END = b'event: end\ndata: {"run_id":"r","status":"success"}\n\n'


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (404, b'{"error":"run not found"}', "run not found"),
        (500, b"plain words\n", "plain words"),
        (502, b"", "Bad Gateway"),
        (400, b'{"problem":1}', '{"problem":1}'),
    ],
)
def test_errors_carry_status_and_message(api: Any, answer: Any, status: int, body: bytes, message: str) -> None:
    api.routes["GET /api/v1/projects"] = answer(status, [body])
    with Client(api.url) as client, pytest.raises(ApiError) as error:
        client.projects()
    assert (error.value.status, error.value.message) == (status, message)


def test_what_is_not_json_is_an_error(api: Any, answer: Any) -> None:
    api.routes["GET /api/v1/projects"] = answer(200, [b"<html>"])
    with Client(api.url) as client, pytest.raises(ApiError, match="is this a gocdnext server"):
        client.projects()


def test_the_token_never_goes_to_another_origin(api: Any, other_api: Any, answer: Any) -> None:
    api.routes["GET /api/v1/projects"] = answer(302, [], {"Location": f"{other_api.url}/api/v1/projects"})
    with Client(api.url, "gnk_secret") as client, pytest.raises(ApiError, match="redirects to"):
        client.projects()
    assert api.seen[0].headers["Authorization"] == "Bearer gnk_secret"
    assert other_api.seen == []


def test_nobody_listening() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(CannotReachError, match=str(port)):
            client.projects()


def test_a_post_is_sent_once(api: Any) -> None:
    def vanish(request: Any) -> Any:
        raise ConnectionAbortedError

    api.routes["POST /api/v1/pipelines/p/trigger"] = vanish
    with Client(api.url) as client, pytest.raises(CannotReachError):
        client.trigger("p")
    assert len(api.seen) == 1


def test_follow_takes_a_broken_stream_up_again_behind_the_last_line(api: Any, answer: Any) -> None:
    replies = iter(
        [
            answer(200, [b": ready\n\n", frame(1), frame(2), frame(3)[:20]]),
            answer(503, [b'{"error":"starting"}']),
            answer(200, [b": ready\n\n", frame(3), b": keepalive\n\n", END]),
        ]
    )
    api.routes[STREAM] = lambda request: next(replies)
    with Client(api.url) as client:
        events = list(client.follow(RUN))
    assert [event.id for event in events] == ["1", "2", "3", ""]
    assert events[-1].data["status"] == "success"
    assert [request.headers["Last-Event-ID"] for request in api.seen] == ["0", "2", "2"]


def test_follow_ends_when_the_run_is_gone(api: Any, answer: Any) -> None:
    replies = iter([answer(200, [frame(1)]), answer(404, [b'{"error":"not found"}'])])
    api.routes[STREAM] = lambda request: next(replies)
    with Client(api.url) as client, pytest.raises(ApiError) as error:
        list(client.follow(RUN))
    assert error.value.status == 404


def test_follow_gives_up_on_a_server_that_only_closes(api: Any, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECONNECT_PAUSE", 0)
    api.routes[STREAM] = lambda request: answer(200, [b": ready\n\n"])
    with Client(api.url) as client, pytest.raises(CannotReachError, match="keeps closing"):
        list(client.follow(RUN))
    assert len(api.seen) == module.MAX_IDLE_STREAMS + 1


@given(st.lists(st.binary(max_size=20)))
def test_lines_do_not_depend_on_how_bytes_arrive(chunks: list[bytes]) -> None:
    assert list(byte_lines(chunks)) == list(byte_lines([b"".join(chunks)]))


def test_only_line_feeds_end_a_line() -> None:
    text = "a\u2028b\x0bc\x85d"
    assert [event.data["text"] for event in parse_events([frame(1, text)])] == [text]
    assert list(byte_lines([b"one\r\ntwo\n", b"", b"three"])) == [b"one", b"two", b"three"]


def test_a_line_without_end_is_refused() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1_000_000

    with pytest.raises(CannotReachError, match="is this a gocdnext server"):
        list(byte_lines(endless()))


def test_event_fields() -> None:
    stream = [b"data: {\ndata: }\n\n", b": comment\n\nid: 7\nevent:log\ndata:{}\nretry: 5\n\n", b"data: {}\n"]
    assert [tuple(event) for event in parse_events(stream)] == [("message", "", {}), ("log", "7", {})]
