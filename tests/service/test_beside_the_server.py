"""The command line as an operator uses it: the first admin, signing in, and accounts made from beside the server."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.harness import ROOT, Server

PASSWORD = "correct horse battery"
OTHER = "staple of the horse"


class Beside(Server):
    """The program of this checkout, with secrets on stdin."""

    def say(self, secret: str, *arguments: str, code: int = 0, **changes: str) -> str:
        """Runs a command; returns what it said."""
        done = subprocess.run(
            [sys.executable, self.program, *arguments],
            env=self.environment | changes,
            input=secret,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        if secret:
            assert secret not in done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def read(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.say("", *arguments, "--json"))
        return found


@pytest.fixture
def beside() -> Iterator[Beside]:
    with tempfile.TemporaryDirectory(prefix="gocdnext-e2e-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        program = folder / "program.py"
        program.write_text("from gocdnext.cli import main\nmain()\n")
        server = Beside(program, folder)
        server.environment |= {
            "PYTHONPATH": str(ROOT),
            "GOCDNEXT_AUTH_ENABLED": "true",
            "GOCDNEXT_STATE_DIR": str(server.state),
            "XDG_CONFIG_HOME": str(folder / "config"),
        }
        yield server
        server.kill()


@pytest.mark.slow
def test_from_the_first_start_to_a_token(beside: Beside) -> None:
    assert "no set-up code" in beside.say("", "setup-code", code=1)
    beside.start()
    code = beside.say("", "setup-code").strip()
    assert f'"setup_code":"{code}"' in beside.log()
    key = beside.state / "setup-code.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o400
    body = {"code": code, "email": "ada@acme.example", "password": PASSWORD}
    assert httpx.post(f"{beside.url}/auth/setup", json=body).status_code == 201
    assert not key.exists()
    assert "admin is there already" in beside.say("", "setup-code", code=1)
    assert httpx.post(f"{beside.url}/auth/setup", json=body).status_code == 409

    assert "gocdnext login" in beside.say("", "whoami", code=3)
    assert "401" in beside.say("wrong password", "login", "--email", "ada@acme.example", code=3)
    assert "rejects this token" in beside.say("gnk_nonsense", "login", code=3)
    config = beside.folder / "config" / "gocdnext" / "config.json"
    assert not config.exists()
    said = beside.say(PASSWORD + "\n", "login", "--email", "ada@acme.example")
    assert said == f"logged in to {beside.url} as ada@acme.example\n"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
    assert list(json.loads(config.read_text())["servers"]) == [beside.url]
    assert beside.say("", "whoami").startswith("ada@acme.example  admin  local")

    # An account made while the server runs, through the socket of its database.
    said = beside.say(OTHER, "admin", "create-user", "--email", "Rita@acme.example", "--role", "viewer")
    assert said == "local user created or rotated rita@acme.example (role=viewer)\n"
    assert "rita@acme.example\tviewer\tactive\tlocal" in beside.say("", "users", "list")
    assert "last admin" in beside.say(
        OTHER, "admin", "create-user", "--email", "ada@acme.example", "--role", "viewer", code=1
    )
    assert "minimum 8" in beside.say("short", "admin", "reset-password", "--email", "rita@acme.example", code=1)
    assert "no local account" in beside.say(OTHER, "admin", "reset-password", "--email", "nobody@acme.example", code=1)

    # Tokens of one's own and of a service account.
    token = beside.say("", "token", "create", "laptop", "--days", "30").strip()
    assert token.startswith("gnk_")
    assert beside.say("", "whoami", GOCDNEXT_TOKEN=token).startswith("ada@acme.example")
    beside.say("", "token", "revoke", "laptop")
    assert "401" in beside.say("", "whoami", code=3, GOCDNEXT_TOKEN=token)
    assert "there is no token laptop" in beside.say("", "token", "revoke", "laptop", code=1)
    assert beside.read("token", "list")["tokens"][0]["name"] == "laptop"
    beside.say("", "service-account", "create", "deploy-bot", "--role", "maintainer")
    token = beside.say("", "service-account", "token", "create", "deploy-bot", "ci").strip()
    assert beside.say("", "whoami", GOCDNEXT_TOKEN=token).startswith("deploy-bot@service-account  maintainer")
    assert "403" in beside.say("", "users", "list", code=3, GOCDNEXT_TOKEN=token)
    beside.say("", "service-account", "disable", "deploy-bot")
    assert "401" in beside.say("", "whoami", code=3, GOCDNEXT_TOKEN=token)
    assert "deploy-bot\tmaintainer\tdisabled" in beside.say("", "service-account", "list")
    beside.say("", "users", "role", "rita@acme.example", "maintainer")
    beside.say("", "users", "disable", "rita@acme.example")
    beside.say("", "users", "delete", "rita@acme.example")
    assert "removed from this machine only" in beside.say("", "logout")
    assert "no token" in beside.say("", "logout")
    assert "401" in beside.say("", "whoami", code=3)

    assert beside.stop() == 0
    log = (beside.folder / "server.log").read_text()
    assert not any(secret in log for secret in (PASSWORD, OTHER, token, "argon2"))

    # And while it does not run: the database is started for it.
    said = beside.say(OTHER, "admin", "reset-password", "--email", "ada@acme.example")
    assert said == "password rotated for ada@acme.example\n"
    assert "values sealed anew with the new key" in beside.say("", "admin", "rotate-key")
    beside.start()
    assert "401" in beside.say(PASSWORD, "login", "--email", "ada@acme.example", code=3)
    beside.say(OTHER, "login", "--email", "ada@acme.example")
    # The operator token of the state directory goes on working.
    operator = (beside.state / "operator-token.key").read_bytes().hex()
    assert beside.say("", "whoami", GOCDNEXT_TOKEN=operator).startswith("operator  admin")
    assert beside.stop() == 0


def test_accounts_in_an_external_database(beside: Beside, database_url: str, empty_database_url: str) -> None:
    made = ("admin", "create-user", "--email", "ada@acme.example")
    said = beside.say(PASSWORD, *made, "--role", "user", GOCDNEXT_DATABASE_URL=database_url)
    assert said.endswith("(role=maintainer)\n")
    assert beside.say(PASSWORD, *made, "--database-url", database_url).endswith("(role=admin)\n")
    beside.say(OTHER, "admin", "reset-password", "--email", "ada@acme.example", GOCDNEXT_DATABASE_URL=database_url)
    assert not beside.state.exists()
    assert "start this version" in beside.say(PASSWORD, *made, code=1, GOCDNEXT_DATABASE_URL=empty_database_url)
    away = "postgresql://ci:hush-hush@127.0.0.1:1/nothing"
    assert "hush-hush" not in beside.say(PASSWORD, *made, code=3, GOCDNEXT_DATABASE_URL=away)
    assert "hush-hush" not in beside.say(PASSWORD, *made, code=3, GOCDNEXT_DATABASE_URL="mysql://a:hush-hush@b/c")
