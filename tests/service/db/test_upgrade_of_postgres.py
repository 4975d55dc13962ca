"""From an older major version of PostgreSQL, which the system has, to the bundled one, by the bundled programs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio_asyncio

from gocdnext.db import reach, schema, statedir, upgrade
from gocdnext.db.binaries import OLDEST_MAJOR, find_binaries
from gocdnext.db.errors import DatabaseStartError
from gocdnext.db.serviceuser import ServiceUser
from gocdnext.db.statedir import StateDir
from tests.service.db.harness import cannot
from tests.service.db.test_upgrade_of_schema import NOW, OLD_DATA

pytestmark = pytest.mark.slow


@pytest.fixture
def older() -> Path:
    """The programs of an older PostgreSQL."""
    for place in sorted(Path("/usr/lib/postgresql").glob("*/bin")):
        if OLDEST_MAJOR <= int(place.parent.name) < find_binaries().major and (place / "initdb").exists():
            return place
    return cannot("needs an older PostgreSQL: apt-get install postgresql-15")


async def _rows(state: StateDir, pg_bindir: Path | None = None) -> tuple[int, int]:
    async with trio_asyncio.open_loop(), reach.embedded(state, pg_bindir) as found:
        major: int = await found.db.fetchval("SELECT current_setting('server_version_num')::int / 10000")
        return major, await found.db.fetchval("SELECT count(*) FROM log_lines")


_WORKPLACE = upgrade._workplace


@contextmanager
def _closed(user: ServiceUser) -> Iterator[Path]:
    """A place in which pg_upgrade is let in by nobody."""
    with _WORKPLACE(user) as place:
        (place / "ident").write_text("ciapp nobody ci\n")
        yield place


async def test_a_major_version(reachable: Path, older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    major, said = int(older.parent.name), list[str]()
    with statedir.open_state(reachable / "state") as state:
        async with trio_asyncio.open_loop(), reach.embedded(state, older) as found:
            await schema.bring_up(found.db, NOW, dumper=None)
            await found.db.execute(OLD_DATA)
        async with trio_asyncio.open_loop():
            checked = await upgrade.upgrade(state, None, older, check=True, told=said.append)
        assert (checked.old, checked.kept) == (major, None)
        assert os.listdir(state.pg) == [str(major)]
        # One that fails changes nothing: the old version starts as before.
        with monkeypatch.context() as broken:
            broken.setattr(upgrade, "_workplace", _closed)
            async with trio_asyncio.open_loop():
                with pytest.raises(DatabaseStartError, match=r"pg_upgrade ended .* the database is as it was"):
                    await upgrade.upgrade(state, None, older, check=False, told=said.append)
        assert os.listdir(state.pg) == [str(major)]
        assert (await _rows(state, older))[0] == major
        async with trio_asyncio.open_loop():
            done = await upgrade.upgrade(state, None, older, check=False, told=said.append)
        assert sorted(os.listdir(state.pg)) == [f"{major}.old", str(done.new)]
        assert list((state.path / "dumps").glob("*.dump"))
        assert await _rows(state) == (done.new, 400)
        async with trio_asyncio.open_loop():
            again = await upgrade.upgrade(state, None, None, check=False, told=said.append)
            assert again.old == again.new
            with pytest.raises(DatabaseStartError, match="never goes back"):
                await upgrade.upgrade(state, older, None, check=False, told=said.append)
