"""The key of secrets is replaced: everything that is sealed follows, wherever the rotation was broken off before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio_asyncio

from gocdnext import config
from gocdnext.db.errors import StateDirectoryError
from gocdnext.db.pool import Database, open_pool
from gocdnext.db.statedir import KEY_BYTES, StateDir
from gocdnext.errors import ConflictError, NotFoundError
from gocdnext.secrets import keyfiles, sealed
from gocdnext.secrets.rotation import rotate
from gocdnext.secrets.sealing import Keyring, key_id
from gocdnext.secrets.store import NewSecret
from tests.e2e.harness import ROOT, clean_environment
from tests.secrets_room import KEY, secrets_of, signing_keys_of


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with trio_asyncio.open_loop(), open_pool({"dsn": database_url}, size=2) as made:
        yield made


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    made = StateDir(tmp_path)
    made.ensure_key(keyfiles.NAME)
    return made


def settings_of(state: StateDir) -> config.Settings:
    return config.load({}, state_dir=state.path)


def ring(state: StateDir) -> Keyring:
    return Keyring(keyfiles.read(state.path), lambda: keyfiles.read(state.path))


async def keys_used(db: Database) -> set[str]:
    rows = await db.fetch("SELECT key_id FROM secrets UNION SELECT key_id FROM oidc_keys WHERE key_id IS NOT NULL")
    return {row["key_id"] for row in rows}


async def test_every_column_that_is_sealed_is_known(db: Database) -> None:
    rows = await db.fetch(
        "SELECT table_name || '.' || column_name AS name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type = 'text' AND column_name ~ '(^|_)key_id$'"
    )
    assert {row["name"] for row in rows} == set(sealed.COLUMNS)


async def test_a_server_that_runs_goes_on_over_a_rotation(db: Database, state: StateDir) -> None:
    server = ring(state)
    secrets, keys = secrets_of(db, keyring=server), signing_keys_of(db, keyring=server)
    for number in range(3):
        await secrets.set(None, NewSecret(f"S{number}", "value"))
    kid = (await keys.signer()).kid
    told: list[str] = []
    done = await rotate(db, settings_of(state), drop_older=False, told=told.append)
    assert (done.made, done.resealed, done.unreadable) == (True, 4, ())
    assert await keys_used(db) == {done.key}
    assert any("secrets: 3" in line for line in told)
    # Not told yet: it finds the key by itself, and still seals with the older one, which is found next time.
    await secrets.set(None, NewSecret("LATE", "value"))
    assert await keys_used(db) == {done.key, *done.older_keys}
    again = signing_keys_of(db, keyring=server)
    assert (await again.signer()).kid == kid
    assert server.newest == done.key
    finished = await rotate(db, settings_of(state), drop_older=True, told=told.append)
    assert (finished.made, finished.resealed, finished.key, finished.older_keys) == (False, 1, done.key, ())
    assert await keys_used(db) == {done.key}
    assert [path.name for path in state.path.glob("*.key")] == ["secrets.key"]
    assert (await rotate(db, settings_of(state), drop_older=False, told=told.append)).made


@pytest.mark.parametrize("broken_off", ["made", "linked", "in place"])
async def test_a_rotation_may_end_anywhere(db: Database, state: StateDir, broken_off: str) -> None:
    await secrets_of(db, keyring=ring(state)).set(None, NewSecret("TOKEN", "value"))
    current = state.path / "secrets.key"
    before = current.read_bytes()
    if broken_off == "in place":
        keyfiles.rotate(state.path)
    else:
        (state.path / "secrets-next.key").write_bytes(b"\7" * KEY_BYTES)
        (state.path / "secrets-next.key").chmod(0o400)
        if broken_off == "linked":
            os.link(current, state.path / f"secrets-{key_id(before)}.key")
    assert before in keyfiles.read(state.path)
    done = await rotate(db, settings_of(state), drop_older=False, told=lambda _: None)
    assert (done.resealed, done.older_keys) == (1, (key_id(before),))
    assert await keys_used(db) == {done.key} == {key_id(current.read_bytes())}
    assert current.stat().st_mode & 0o777 == 0o400


async def test_what_cannot_be_opened_is_told_and_keeps_the_older_keys(db: Database, state: StateDir) -> None:
    await secrets_of(db, keyring=Keyring([b"\7" * KEY_BYTES])).set(None, NewSecret("LOST", "value"))
    done = await rotate(db, settings_of(state), drop_older=False, told=lambda _: None)
    assert done.unreadable == ("secret global LOST",)
    assert done.document()["unreadable"] == ["secret global LOST"]
    with pytest.raises(ConflictError, match="LOST"):
        await rotate(db, settings_of(state), drop_older=True, told=lambda _: None)
    assert len(keyfiles.read(state.path)) == 2


async def test_keys_that_were_said_are_used_and_not_touched(db: Database, state: StateDir) -> None:
    await secrets_of(db).set(None, NewSecret("TOKEN", "value"))
    new = b"\1" * KEY_BYTES
    settings = replace(settings_of(state), secret_keys=(new, KEY))
    done = await rotate(db, settings, drop_older=False, told=lambda _: None)
    assert (done.key, done.made, done.resealed) == (key_id(new), False, 1)
    with pytest.raises(ConflictError, match="take them out there"):
        await rotate(db, settings, drop_older=True, told=lambda _: None)
    assert len(keyfiles.read(state.path)) == 1


async def test_refusals(db: Database, state: StateDir, tmp_path: Path) -> None:
    with keyfiles.alone(state.path), pytest.raises(ConflictError, match="under way"):
        await rotate(db, settings_of(state), drop_older=False, told=lambda _: None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="--state"):
        await rotate(db, config.load({}, state_dir=tmp_path / "empty"), drop_older=False, told=lambda _: None)
    (state.path / "secrets.key").chmod(0o444)
    with pytest.raises(StateDirectoryError):
        await rotate(db, settings_of(state), drop_older=False, told=lambda _: None)


def test_the_command_on_an_external_database(database_url: str, tmp_path: Path) -> None:
    new, lost = "01" * KEY_BYTES, Keyring([b"\7" * KEY_BYTES])

    async def keep(keyring: Keyring, name: str) -> None:
        async with trio_asyncio.open_loop(), open_pool({"dsn": database_url}, size=2) as db:
            await secrets_of(db, keyring=keyring).set(None, NewSecret(name, "value"))

    def call(url: str = database_url) -> tuple[int, str, str]:
        environment = clean_environment(GOCDNEXT_DATABASE_URL=url, GOCDNEXT_SECRET_KEY=f"{new},{KEY.hex()}")
        command = [sys.executable, "-c", "from gocdnext.cli import main; main()", "admin", "rotate-key", "--json"]
        done = subprocess.run(
            [*command, "--state", tmp_path], env=environment, cwd=ROOT, capture_output=True, text=True
        )
        said = done.stdout + done.stderr
        assert not any(secret in said for secret in (KEY.hex(), new, "hunter2", "value\n"))
        return done.returncode, done.stdout, done.stderr

    trio.run(keep, Keyring([KEY]), "TOKEN")
    code, out, progress = call()
    assert (code, json.loads(out)["resealed"]) == (0, 1)
    assert "secrets: 1 sealed anew" in progress
    trio.run(keep, lost, "LOST")
    code, out, message = call()
    assert (code, json.loads(out)["unreadable"]) == (1, ["secret global LOST"])
    assert "set them again" in message
    assert call("postgresql://nobody:hunter2@127.0.0.1:1/x")[0] == 3
    assert not list(tmp_path.glob("*.key"))
