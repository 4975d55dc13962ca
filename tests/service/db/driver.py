"""A small program around the cluster, for tests that must kill it, or run it as another user.

Prints `ready <json>` when PostgreSQL serves, then for each line on its input, which is a statement, `rows <json>` or
`failed <message>`; ends at the end of its input. Refused: `error <class> <message>` and exit code 3.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import sys
from pathlib import Path
from typing import Any

import asyncpg
import trio
import trio_asyncio

from gocdnext.db import cluster
from gocdnext.db.binaries import find_binaries
from gocdnext.db.errors import DRIVER_ERRORS, DatabaseStartError
from gocdnext.db.statedir import open_state


def drop(name: str) -> None:
    """Becomes the user, for good: after all imports, since the interpreter may lie where the user cannot read."""
    find_binaries()  # imports parts of the standard library when it is used
    entry = pwd.getpwnam(name)
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)


async def main(arguments: argparse.Namespace) -> None:
    with open_state(arguments.state) as state:
        settings = cluster.ClusterSettings(
            state, pool_size=5, pg_bindir=arguments.pg_bindir, restarts=arguments.restarts
        )
        async with trio_asyncio.open_loop(), trio.open_nursery() as nursery:
            connect = await nursery.start(cluster.run, settings)
            print("ready", json.dumps(connect), flush=True)
            await answer(connect)
            nursery.cancel_scope.cancel()


async def answer(connect: dict[str, Any]) -> None:
    """Runs the statements on the input, each on a connection of its own."""
    stream = trio.lowlevel.FdStream(os.dup(0))
    rest = b""
    async for chunk in stream:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            try:
                rows = await trio_asyncio.aio_as_trio(ask)(connect, line.decode())
            except DRIVER_ERRORS as error:
                print("failed", type(error).__name__, str(error).replace("\n", " "), flush=True)
            else:
                print("rows", json.dumps(rows, default=str), flush=True)


async def ask(connect: dict[str, Any], statement: str) -> list[list[Any]]:
    conn = await asyncpg.connect(**connect, timeout=10)
    try:
        return [list(row) for row in await conn.fetch(statement, timeout=30)]
    finally:
        conn.terminate()


def root_cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("state", type=Path)
    parser.add_argument("--user")
    parser.add_argument("--pg-bindir", type=Path)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--first-start-bytes", type=int, default=cluster.FIRST_START_BYTES)
    parsed = parser.parse_args()
    cluster.FIRST_START_BYTES = parsed.first_start_bytes
    if parsed.user:
        drop(parsed.user)
    try:
        trio.run(main, parsed)
    except BaseException as error:
        cause = root_cause(error)
        if not isinstance(cause, DatabaseStartError):
            raise
        print("error", type(cause).__name__, str(cause).replace("\n", " / "), flush=True)
        sys.exit(3)
