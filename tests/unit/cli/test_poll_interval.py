"""`projects poll-interval`: how often a project's repository is polled."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.unit.cli.conftest import Answer

Call = Callable[..., Any]
ROUTE = "PUT /api/v1/projects/demo/poll-interval"


def test_it_is_set(api: Any, call: Call) -> None:
    api.routes[ROUTE] = {"interval": "1h30m0s", "enabled": True}
    done = call("projects", "poll-interval", "demo", "90m")
    assert (done.code, done.out) == (0, "the repository of demo is polled every 1h30m0s\n")
    assert json.loads(api.seen[-1].body) == {"interval": "90m"}
    assert json.loads(call("projects", "poll-interval", "demo", "90m", "--json").out) == {
        "interval": "1h30m0s",
        "enabled": True,
    }


def test_it_is_turned_off(api: Any, call: Call) -> None:
    api.routes[ROUTE] = {"interval": "", "enabled": False}
    assert call("projects", "poll-interval", "demo", "off").out == "the repository of demo is not polled\n"
    assert json.loads(api.seen[-1].body) == {"interval": ""}


def test_what_the_server_refuses_is_said(api: Any, call: Call) -> None:
    api.routes[ROUTE] = Answer(400, [b'{"error":"poll_interval \\"30s\\" is below minimum 1m0s"}'])
    done = call("projects", "poll-interval", "demo", "30s")
    assert done.code != 0
    assert 'poll_interval "30s" is below minimum 1m0s' in done.err
