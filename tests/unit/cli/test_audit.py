"""`audit`."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from gocdnext.cli import audit

START = datetime(2026, 4, 28, 13, 0, tzinfo=UTC)


def event(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"e{number}",
        "at": (START + timedelta(seconds=number)).isoformat(),
        "action": "run.cancel",
        "target_type": "run",
        "target_id": f"r{number}",
        "metadata": {"signaled_jobs": 1},
        "outcome": "done",
        "status": 204,
        "actor_email": "rita@acme.example",
        "address": "192.0.2.7",
        **more,
    }


class Trail:
    """A server's trail, newest first; `growth` are events that come between two questions."""

    def __init__(self, events: list[dict[str, Any]], growth: list[list[dict[str, Any]]] | None = None) -> None:
        self.events, self.growth, self.queries = events, growth, list[dict[str, str]]()
        self.first = True

    def __call__(self, request: Any) -> Any:
        query = {name: values[0] for name, values in request.query.items()}
        self.queries.append(query)
        if self.growth is not None and not self.first:
            if not self.growth:
                return self.end
            self.events = self.growth.pop(0) + self.events
        self.first = False
        since = datetime.fromisoformat(query.get("since", "2000-01-01T00:00:00+00:00"))
        fitting = [one for one in self.events if datetime.fromisoformat(one["at"]) >= since]
        offset, limit = int(query["offset"]), int(query["limit"])
        return {"events": fitting[offset : offset + limit], "total": len(fitting), "limit": limit, "offset": offset}

    end: Any = None


def test_lines_and_filters(api: Any, call: Callable[..., Any]) -> None:
    trail = api.routes["GET /api/v1/admin/audit"] = Trail([event(2, actor_email="", address=""), event(1)])
    out = call("audit", "--action", "run.cancel", "--actor", "rita", "--target", "r1", "--outcome", "done").out
    first, second = (line.split("\t") for line in out.splitlines())
    assert first[1:4] == ["-", "-", "run.cancel"]
    assert second[1:] == ["rita@acme.example", "192.0.2.7", "run.cancel", "run r1", "done 204", "signaled_jobs=1"]
    assert trail.queries == [
        {"limit": "500", "offset": "0", "action": "run.cancel", "actor": "rita", "target_id": "r1", "outcome": "done"}
    ]


def test_since_takes_times_and_lengths(api: Any, call: Callable[..., Any]) -> None:
    trail = api.routes["GET /api/v1/admin/audit"] = Trail([])
    call("audit", "--since", "2026-04-28T00:00:00Z", "--until", "2026-05-01")
    call("audit", "--since", "2h")
    assert (trail.queries[0]["since"], trail.queries[0]["to"]) == ("2026-04-28T00:00:00Z", "2026-05-01")
    ago = datetime.now(UTC) - datetime.fromisoformat(trail.queries[1]["since"])
    assert timedelta(hours=1) < ago < timedelta(hours=3)


def test_json_is_one_event_a_line_over_all_pages(
    api: Any, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAGE", 2)
    events = [event(number) for number in range(5, 0, -1)]
    api.routes["GET /api/v1/admin/audit"] = Trail(list(events))
    lines = call("audit", "--since", "2026-04-28T00:00:00+00:00", "--json").out.splitlines()
    assert [orjson.loads(line) for line in lines] == events
    assert len(call("audit", "--limit", "3").out.splitlines()) == 3


def test_events_that_come_between_two_pages_repeat_nothing(
    api: Any, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAGE", 2)
    api.routes["GET /api/v1/admin/audit"] = Trail([event(3), event(2), event(1)], [[event(4)], []])
    lines = call("audit", "--since", "2026-04-28T00:00:00+00:00", "--json").out.splitlines()
    assert [orjson.loads(line)["id"] for line in lines] == ["e3", "e2", "e1"]


def test_follow(api: Any, call: Callable[..., Any], answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oldest first, each once, also one that is written later than its time; until the server refuses."""
    monkeypatch.setattr(audit, "PAUSE", 0.001)
    trail = Trail([event(20), event(19), event(1)], [[event(40), event(15)], [], [event(41), event(35)]])
    trail.end = answer(403)
    api.routes["GET /api/v1/admin/audit"] = trail
    ended = call("audit", "--follow", "--limit", "1", "--json")
    assert [orjson.loads(line)["id"] for line in ended.out.splitlines()] == ["e20", "e15", "e40", "e35", "e41"]
    assert ended.code == 3
    assert re.match(r"2026-04-28T13:00:10", trail.queries[1]["since"])


def test_follow_outlives_a_restart_of_the_server(
    api: Any, call: Callable[..., Any], answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAUSE", 0.001)
    answers = iter([{"events": []}, answer(503), {"events": [event(1)]}, answer(403)])
    api.routes["GET /api/v1/admin/audit"] = lambda _: next(answers)
    ended = call("audit", "--follow", "--json")
    assert [orjson.loads(line)["id"] for line in ended.out.splitlines()] == ["e1"]
    assert ended.code == 3
