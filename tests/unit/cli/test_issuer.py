"""`oidc keys` and `oidc rotate`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Call = Callable[..., Any]
PATH = "/api/v1/admin/oidc/keys"


def test_keys(api: Any, call: Call) -> None:
    made = "2026-04-28T13:00:00Z"
    keys = [
        {"id": "1", "kid": "new", "alg": "RS256", "created_at": made},
        {"id": "2", "kid": "old", "alg": "RS256", "created_at": made, "retired_at": made},
        {"id": "3", "kid": "bad", "alg": "RS256", "created_at": made, "revoked_at": made},
    ]
    api.routes[f"GET {PATH}"] = {"keys": keys}
    lines = call("oidc", "keys").out.splitlines()
    states = [line.split("\t")[:2] for line in lines]
    assert states == [["new", "signs"], ["old", f"retired {made}"], ["bad", f"revoked {made}"]]
    assert json.loads(call("oidc", "keys", "--json").out) == {"keys": keys}


def test_rotate(api: Any, call: Call) -> None:
    api.routes[f"POST {PATH}/rotate"] = {"kid": "new", "mode": "emergency", "note": "the old one is gone"}
    done = call("oidc", "rotate", "--emergency")
    assert (done.code, done.out) == (0, "signing with new: the old one is gone\n")
    assert json.loads(api.seen[0].body) == {"mode": "emergency"}
    call("oidc", "rotate", "--json")
    assert json.loads(api.seen[1].body) == {"mode": "graceful"}
