"""`secret set`, `list` and `rm`: the value never stands on a command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = Callable[..., Any]
PATH = "/api/v1/projects/demo/secrets"


def entry(name: str) -> dict[str, str]:
    return {"name": name, "source": "db", "created_at": "2026-04-28T13:00:00Z", "updated_at": "2026-04-28T13:00:00Z"}


def test_set_takes_the_value_from_a_file_and_cuts_newlines(api: Any, call: Call, tmp_path: Path) -> None:
    api.routes[f"POST {PATH}"] = {"name": "TOKEN", "created": True}
    file = tmp_path / "value"
    file.write_text("hunter2\n\n")
    done = call("secret", "set", "TOKEN", "--slug", "demo", "--from-file", str(file))
    assert (done.code, done.out) == (0, "secret created TOKEN\n")
    assert json.loads(api.seen[0].body) == {"name": "TOKEN", "value": "hunter2"}
    assert "hunter2" not in done.out + done.err


def test_set_global_from_stdin(api: Any, call: Call, tmp_path: Path) -> None:
    api.routes["POST /api/v1/admin/secrets"] = {"name": "TOKEN", "created": False}
    file = tmp_path / "value"
    file.write_text("x")
    done = call("secret", "set", "TOKEN", "--global", "--from-file", str(file), "--json")
    assert json.loads(done.out) == {"name": "TOKEN", "created": False}


def test_list_reads_all_pages_and_marks_what_is_global(api: Any, call: Call) -> None:
    names = [f"S{number:03}" for number in range(250)]

    def page(request: Any) -> object:
        start = int(request.query.get("offset", ["0"])[0])
        found = [entry(name) for name in names[start : start + 200]]
        return {"secrets": found, "total": 250, "limit": 200, "offset": start, "inherited": [entry("GLOBAL")]}

    api.routes[f"GET {PATH}"] = page
    lines = call("secret", "list", "--slug", "demo").out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [*names, "GLOBAL"]
    assert lines[-1].endswith("\tglobal")
    document = json.loads(call("secret", "list", "--slug", "demo", "--json").out)
    assert len(document["secrets"]) == 250


def test_list_of_nothing(api: Any, call: Call) -> None:
    api.routes[f"GET {PATH}"] = {"secrets": [], "total": 0, "limit": 200, "offset": 0}
    assert call("secret", "list", "--slug", "demo").out == "(no secrets)\n"


def test_rm(api: Any, call: Call, answer: Any) -> None:
    api.routes[f"DELETE {PATH}/TOKEN"] = answer(204)
    assert call("secret", "rm", "TOKEN", "--slug", "demo").out == "secret removed TOKEN\n"
    done = call("secret", "rm", "GONE", "--slug", "demo")
    assert (done.code, "not found" in done.err) == (1, True)


def test_it_must_be_said_whose_secret_it_is(call: Call) -> None:
    for arguments in ((), ("--slug", "x", "--global")):
        done = call("secret", "list", *arguments)
        assert (done.code, "--slug PROJECT, or --global" in done.err) == (2, True)


def test_too_large_a_value_is_not_sent(api: Any, call: Call, tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_text("x" * 70_000)
    done = call("secret", "set", "TOKEN", "--slug", "demo", "--from-file", str(file))
    assert (done.code, "64 KiB" in done.err, api.seen) == (1, True, [])


def test_a_secret_of_another_store(api: Any, call: Call) -> None:
    api.routes[f"POST {PATH}"] = {"name": "TOKEN", "created": True}
    done = call("secret", "set", "TOKEN", "--slug", "demo", "--source", "vault", "--path", "ci/x", "--key", "pem")
    assert (done.code, done.out) == (0, "secret created TOKEN\n")
    sent = {"name": "TOKEN", "source": "vault", "ref": {"path": "ci/x", "key": "pem"}}
    assert json.loads(api.seen[0].body) == sent
    assert call("secret", "set", "TOKEN", "--slug", "demo", "--path", "x").code == 2
    assert call("secret", "set", "TOKEN", "--slug", "demo", "--source", "vault", "--from-stdin").code == 2


def test_stores(api: Any, call: Call, tmp_path: Path) -> None:
    path = "/api/v1/admin/secret-backends"
    one = {
        "source": "vault",
        "enabled": True,
        "value": {"addr": "https://v"},
        "source_origin": "db",
        "credential_keys": [],
    }
    api.routes[f"GET {path}"] = {"backends": [one]}
    api.routes[f"PUT {path}/vault"] = api.routes[f"DELETE {path}/vault"] = one
    api.routes[f"POST {path}/vault/test"] = {"status": "unauthorized", "message": "no"}
    file = tmp_path / "vault.json"
    file.write_text('{"enabled": true, "credentials": {"token": "hunter2"}}')
    line = "vault\tenabled\tdb\thttps://v\n"
    assert call("secret", "backends", "list").out == line
    assert call("secret", "backends", "set", "vault", "--from-file", str(file)).out == line
    assert json.loads(api.seen[-1].body)["credentials"] == {"token": "hunter2"}
    assert call("secret", "backends", "rm", "vault").out == line
    tried = call("secret", "backends", "test", "vault", "--from-file", str(file))
    assert (tried.code, tried.out) == (1, "unauthorized no\n")
    file.write_text('{"token": "hunter2"')
    broken = call("secret", "backends", "set", "vault", "--from-file", str(file))
    assert broken.code == 1
    assert "hunter2" not in broken.err
