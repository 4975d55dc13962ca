"""`plugins`: the list, one of them, and a name that is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.unit.cli.conftest import Api

Call = Callable[..., Any]
CATALOGUE = {
    "plugins": [
        {"name": "bare", "inputs": []},
        {
            "name": "rsync",
            "description": "Copies a\ntree.\n\nTo a host.\x1b[2J",
            "category": "deploy",
            "inputs": [
                {"name": "dest", "required": True, "description": "where to"},
                {"name": "port", "required": False, "default": "22"},
                {"name": "opts", "required": False},
            ],
            "examples": [{"name": "basic", "description": "the usual", "yaml": "push:\n  uses: gocdnext/rsync@v1"}],
        },
    ]
}


def test_the_list(api: Api, call: Call) -> None:
    api.routes["GET /api/v1/plugins"] = CATALOGUE
    assert call("plugins").out == "bare\t\t\nrsync\tdeploy\tCopies a tree.\n"
    assert json.loads(call("plugins", "--json").out) == CATALOGUE


def test_one(api: Api, call: Call) -> None:
    api.routes["GET /api/v1/plugins"] = CATALOGUE
    assert call("plugins", "rsync").out.splitlines() == [
        "rsync (deploy)",
        "Copies a",
        "tree.",
        "",
        "To a host.",
        "",
        "inputs (`with:`)",
        "  dest (required)",
        "      where to",
        "  port (default 22)",
        "  opts (optional)",
        "",
        "example: basic",
        "  the usual",
        "    push:",
        "      uses: gocdnext/rsync@v1",
    ]
    assert call("plugins", "bare").out == "bare\n"
    assert json.loads(call("plugins", "rsync", "--json").out) == CATALOGUE["plugins"][1]


def test_none_of_that_name(api: Api, call: Call) -> None:
    api.routes["GET /api/v1/plugins"] = CATALOGUE
    outcome = call("plugins", "rsyn")
    assert outcome.code == 1
    assert outcome.err == "error: the catalogue has no plugin 'rsyn'; did you mean rsync?\n"
    assert "gocdnext plugins lists them" in call("plugins", "zzz").err


def test_no_server(call: Call) -> None:
    assert call("plugins", "--server", "http://127.0.0.1:1").code == 3
