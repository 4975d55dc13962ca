"""Where the command line keeps tokens, and where it reads secrets from (contract-cli 4.1, 4.4)."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ME = {"user": {"email": "rita@acme.example", "name": "Rita", "role": "viewer", "provider": "local"}}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config" / "gocdnext" / "config.json"


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text("gnk_secret\n\n")
    return str(path)


def test_each_server_has_its_token(
    api: Any, other_api: Any, call: Callable[..., Any], config: Path, token_file: str
) -> None:
    for each in (api, other_api):
        each.routes["GET /api/v1/me"] = ME
        done = call("login", "--server", each.url + "/", "--from-file", token_file)
        assert done.code == 0, done.err
        assert done.out == f"logged in to {each.url} as rita@acme.example\n"
        assert each.seen[-1].headers["Authorization"] == "Bearer gnk_secret"
    assert json.loads(config.read_text()) == {
        "servers": {api.url: {"token": "gnk_secret"}, other_api.url: {"token": "gnk_secret"}}
    }
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
    assert os.listdir(config.parent) == ["config.json"]
    assert call("whoami").out == "rita@acme.example  viewer  local (token from login)\n"
    assert call("logout").code == 0
    assert list(json.loads(config.read_text())["servers"]) == [other_api.url]


def test_a_file_that_others_could_read_is_closed(
    api: Any, call: Callable[..., Any], config: Path, token_file: str
) -> None:
    config.parent.mkdir(parents=True)
    config.write_text('{"servers": {}, "kept": 1}')
    config.chmod(0o644)
    api.routes["GET /api/v1/me"] = ME
    assert call("login", "--from-file", token_file).code == 0
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert json.loads(config.read_text())["kept"] == 1


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"servers": 7}'])
def test_a_file_that_is_not_ours_is_left_alone(
    api: Any, call: Callable[..., Any], config: Path, token_file: str, text: str
) -> None:
    config.parent.mkdir(parents=True)
    config.write_text(text)
    api.routes["GET /api/v1/me"] = ME
    done = call("login", "--from-file", token_file)
    assert done.code == 1
    assert "move it away" in done.err
    assert config.read_text() == text


def test_a_token_that_is_refused_is_not_kept(api: Any, call: Callable[..., Any], config: Path, token_file: str) -> None:
    done = call("login", "--from-file", token_file)
    assert done.code == 1
    assert "gnk_secret" not in done.out + done.err
    assert not config.exists()


def test_secrets_that_are_none(api: Any, call: Callable[..., Any], tmp_path: Path) -> None:
    for content, message in ((b"\n", "empty"), (b"x" * 70_000, "right file"), (b"\xff\xfe", "not UTF-8")):
        path = tmp_path / "bad"
        path.write_bytes(content)
        done = call("login", "--from-file", str(path))
        assert done.code == 1
        assert message in done.err
    assert "cannot read" in call("login", "--from-file", str(tmp_path / "nothing")).err
    assert not api.seen


def test_names_from_the_server_cannot_paint_the_terminal(api: Any, call: Callable[..., Any]) -> None:
    evil = "\x1b]0;owned\x07evil\x1b[2J"
    user = {"id": "1", "email": evil, "name": evil, "role": "viewer", "provider": "local"}
    api.routes["GET /api/v1/admin/users"] = {"users": [user]}
    api.routes["GET /api/v1/me"] = {"user": user}
    for command in (("users", "list"), ("whoami",)):
        done = call(*command)
        assert "evil" in done.out
        assert "\x1b" not in done.out
