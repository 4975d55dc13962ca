"""All checks in the order in which they are shown, and one round of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio_asyncio

from gocdnext.config import ConfigError
from gocdnext.db.pool import Database
from gocdnext.doctor import database, disk, machine, ports, server, state, tables, tools, web
from gocdnext.doctor.findings import Check, Examined, Finding, Status, examine, fail
from gocdnext.doctor.ground import Ground, stand


class Asked(NamedTuple):
    """What a round is about."""

    state: Path | None
    """`--state`."""
    environ: Mapping[str, str]
    url: str
    """Of the server."""
    token: str | None
    with_server: bool = True


class Round(NamedTuple):
    """What one round found. `ground` is None when the settings cannot be read; `tables` are the largest, for a report."""

    examined: list[Examined]
    ground: Ground | None
    tables: list[dict[str, object]]
    schema: int | None

    @property
    def findings(self) -> list[Finding]:
        return [finding for each in self.examined for finding in each.findings]

    @property
    def failed(self) -> bool:
        return any(finding.status is Status.FAIL for finding in self.findings)


async def look(asked: Asked) -> Round:
    """One round: every check at once, each within its own bound."""
    http = [Check("server", partial(server.server, asked.url, asked.token), 35)] if asked.with_server else []
    try:
        ground = stand(asked.state, asked.environ)
    except ConfigError as error:
        wrong = fail("settings", str(error), "Correct the variable. All of them: gocdnext config")
        here = [Check("Python", machine.python), Check("settings", lambda: wrong), Check("git", tools.git, 10)]
        return Round(await examine([*here, *http]), None, [], None)
    async with trio_asyncio.open_loop(), database.connected(ground) as db:
        if isinstance(db, Finding):
            away = db
            asking = [Check("database", lambda: away)]
        else:
            asking = list(_database(db, ground))
        examined = await examine([*_machine(ground), *asking, *_network(ground), *http])
        kept = (
            ([], None) if isinstance(db, Finding) else (await tables.sizes(db, 50), await database.schema_version(db))
        )
    return Round(examined, ground, *kept)


def _machine(ground: Ground) -> Iterator[Check]:
    yield Check("Python", machine.python)
    yield Check("settings", partial(machine.variables, ground.environ))
    yield Check("clock", machine.clock)
    yield Check("open files", partial(machine.open_files, ground))
    yield Check(state.NAME, partial(state.directory, ground))
    yield Check("keys", partial(state.keys, ground))
    yield Check("disk space", partial(disk.space, ground))
    yield Check("fsync", partial(disk.fsync, ground), 15)
    yield Check("ports", partial(ports.ports, ground), 10)
    yield Check("git", tools.git, 10)
    yield Check("container engine", partial(tools.containers, ground), 10)
    yield Check("sandbox", partial(tools.sandbox, ground), 15)
    yield Check("PostgreSQL", partial(state.postgres, ground), 25)
    yield Check("database files", partial(state.data, ground))


def _database(db: Database, ground: Ground) -> Iterator[Check]:
    yield Check("database version", partial(database.server, db, ground), 10)
    yield Check("connections", partial(database.connections, db, ground), 10)
    yield Check("clock of the database", partial(database.clock, db, ground), 10)
    yield Check("schema", partial(database.schema, db, ground), 10)
    yield Check("database size", partial(tables.size, db, ground), 20)
    yield Check("bloat", partial(tables.bloat, db, ground), 10)
    yield Check("transactions", partial(tables.transactions, db, ground), 10)
    yield Check("slow statements", partial(tables.statements, db, ground), 10)


def _network(ground: Ground) -> Iterator[Check]:
    yield Check("public address", partial(web.public_base, ground), 10)
    yield Check("agents' address", partial(web.agents_base, ground), 10)
    yield Check("certificates", partial(web.certificates, ground), 40)
