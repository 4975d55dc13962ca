"""`webhooks`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

RUN = "d1ce0001-0000-4000-8000-000000000001"
DELIVERY = {
    "id": 4711,
    "provider": "github",
    "event": "push",
    "delivery": "guid",
    "status": "accepted",
    "http_status": 202,
    "received_at": "2026-04-28T12:00:00Z",
    "runs": [RUN],
}
REFUSED = {
    "id": 4710,
    "provider": "gitlab",
    "event": "Push \x1b[31mHook",
    "status": "rejected",
    "http_status": 401,
    "error": "invalid token",
    "received_at": "2026-04-28T11:59:00Z",
}
TRACE = [
    {"rule": "materials", "passed": True, "said": "2 git materials wait"},
    {"rule": "paths", "passed": False, "said": "none matches \x1b]0;x", "pipeline": "shop/ci"},
]


def test_list(api: Any, call: Callable[..., Any]) -> None:
    api.routes["GET /api/v1/admin/webhooks"] = {
        "deliveries": [DELIVERY, REFUSED],
        "total": 2,
        "limit": 20,
        "offset": 0,
    }
    first, second = call("webhooks", "list", "--provider", "github", "--status", "accepted").out.splitlines()
    assert first.split("\t")[0] == "4711"
    assert first.endswith("accepted\t202\td1ce0001")
    assert second.endswith("rejected\t401\tinvalid token")
    assert "\x1b" not in second
    assert api.seen[-1].query == {"limit": ["20"], "offset": ["0"], "provider": ["github"], "status": ["accepted"]}
    assert orjson.loads(call("webhooks", "list", "--json").out)["total"] == 2


def test_show_says_why(api: Any, call: Callable[..., Any]) -> None:
    detail = {**DELIVERY, "verified": True, "headers": {}, "payload": {"ref": "refs/heads/main"}, "trace": TRACE}
    api.routes["GET /api/v1/admin/webhooks/4711"] = detail
    shown = call("webhooks", "show", "4711").out
    assert "answered  202, accepted" in shown
    assert "+ materials: 2 git materials wait" in shown
    assert "- paths: shop/ci: none matches" in shown
    assert "\x1b" not in shown
    assert "refs/heads/main" not in shown
    assert "refs/heads/main" in call("webhooks", "show", "4711", "--payload").out
    assert orjson.loads(call("webhooks", "show", "4711", "--json").out) == detail
    assert call("webhooks", "show", "1").code == 1
    assert call("webhooks", "show", "x").code == 2


def test_redeliver(api: Any, call: Callable[..., Any]) -> None:
    api.routes["POST /api/v1/admin/webhooks/4711/redeliver"] = {**DELIVERY, "id": 4712, "redelivery_of": 4711}
    assert call("webhooks", "redeliver", "4711").out == f"delivery 4712: accepted, 1 runs\nrun {RUN}\n"
