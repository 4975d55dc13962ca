"""How long a backup takes while the server answers, what it costs those who ask, and how long an upgrade is down.

The history is written into the tables and the store. The upgrade is the newest migration alone, with the dump that is taken
before it: what it costs depends on what it does.

    python -m tests.bench.backup
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import trio
import trio_asyncio

from gocdnext.db import reach, schema, statedir
from tests.bench.reads import connect, fill
from tests.bench.stack import PROGRAM, scratch
from tests.e2e.product import Product, product_in

Figure = tuple[str, float, str, str]
LINES = 1_000_000
UPGRADE_LINES = 10_000_000
BLOBS, BLOB_BYTES = 64, 16 * 2**20
"""1 GiB in all."""
LINES_SQL = f"""
INSERT INTO log_lines (job_run_id, run_id, cursor, seq, at, stream, text)
SELECT j.id, j.run_id, n, n, now(), 'stderr', 'compiling module ' || n || ' of the program, as every time'
FROM (SELECT id, run_id FROM job_runs ORDER BY id LIMIT 200) j, generate_series(100001, {100_000 + UPGRADE_LINES // 200}) n
"""
FILL_BLOBS = """
INSERT INTO artifacts (id, run_id, job_run_id, path, storage_key, status, size_bytes, content_sha256, created_at, expires_at)
SELECT gen_random_uuid(), j.run_id, j.id, 'a' || n, 'run/bench/' || n, 'ready', $1, NULL, now(), now() + interval '1 day'
FROM (SELECT id, run_id FROM job_runs LIMIT 1) j, generate_series(1, $2::int) n
"""


def figures(*, upgrade: bool = True) -> list[Figure]:
    """The figures of this file: (name, value, unit, goal)."""
    found: list[Figure] = []
    with scratch() as folder, product_in(folder, PROGRAM if PROGRAM.exists() else None) as product:
        product.start()
        run = fill(product, 20, 400, lines=LINES)
        asyncio.run(_blobs(product))
        quiet = _latencies(product, run, lambda: time.sleep(3))
        took = [0.0]

        def back_up() -> None:
            began = time.perf_counter()
            product.call("backup", "--state", product.state, folder / "backup.tar")
            took[0] = time.perf_counter() - began

        busy = _latencies(product, run, back_up)
        size = (folder / "backup.tar").stat().st_size
        began = time.perf_counter()
        product.call("backup", "verify", folder / "backup.tar")
        found += [
            ("backup of 1,000,000 log lines and 1 GiB of blobs, server running", took[0], "s", "60"),
            ("requests meanwhile, p99", _quantile(busy, 0.99) * 1000, "ms", "100"),
            ("the same requests before, p99", _quantile(quiet, 0.99) * 1000, "ms", ""),
            ("size of the backup", size / 1e6, "MB", ""),
            ("backup verify", time.perf_counter() - began, "s", ""),
        ]
    if upgrade:
        with scratch() as folder:
            found += _upgrade(folder)
    return found


def _upgrade(folder: Path) -> list[Figure]:
    """From exec to ready, on a state whose schema lacks the newest migration, and again when it has it."""
    with product_in(folder, PROGRAM if PROGRAM.exists() else None) as product:
        trio.run(_older, product.state, folder / "migrations")
        took = []
        for _ in range(2):
            began = time.perf_counter()
            product.start()
            took.append(time.perf_counter() - began)
            began = time.perf_counter()
            product.stop()
            took[-1] += time.perf_counter() - began
        (dump,) = (product.state / "dumps").glob("*.dump")
        return [
            (f"upgrade with {UPGRADE_LINES:,} log lines, dump and migration and stop: downtime", took[0], "s", "60"),
            ("the same restart without a migration", took[1], "s", ""),
            ("size of the dump before it", dump.stat().st_size / 1e6, "MB", ""),
        ]


async def _older(state_dir: Path, migrations: Path) -> None:
    """A state with all but the newest migration, and the log lines."""
    shutil.copytree(schema.migrations(), migrations)
    max(migrations.glob("*.sql")).unlink()
    data = Path(__file__).parents[1] / "service" / "db" / "data_of_schema_0001.sql"
    now = datetime.now(UTC)
    with statedir.open_state(state_dir) as state:
        async with trio_asyncio.open_loop(), reach.embedded(state, None) as found:
            await schema.bring_up(found.db, now, dumper=None, directory=migrations)
            await found.db.execute(data.read_text())
            await found.db.run(lambda conn: conn.execute(LINES_SQL, timeout=900))


async def _blobs(product: Product) -> None:
    content = os.urandom(BLOB_BYTES)
    folder = product.state / "artifacts" / "run" / "bench"
    folder.mkdir(parents=True)
    for number in range(1, BLOBS + 1):
        (folder / str(number)).write_bytes(content)
    conn = await connect(product)
    try:
        await conn.execute(FILL_BLOBS, BLOB_BYTES, BLOBS)
    finally:
        await conn.close()


def _latencies(product: Product, run: str, work: object) -> list[float]:
    """Seconds of requests that come one every 20 ms while `work` is done: reads and a write."""
    stop, found = threading.Event(), list[float]()

    def ask() -> None:
        paths = ("/api/v1/projects?limit=20", "/api/v1/runs?limit=50", f"/api/v1/runs/{run}?logs=200")
        with httpx.Client(base_url=product.url, timeout=60) as http:
            pipeline = http.get("/api/v1/projects/p0").json()["pipelines"][0]["id"]
            number = 0
            while not stop.wait(0.02):
                number += 1
                began = time.perf_counter()
                if number % 10:
                    http.get(paths[number % 3]).raise_for_status()
                else:
                    http.post(f"/api/v1/pipelines/{pipeline}/trigger").raise_for_status()
                found.append(time.perf_counter() - began)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        work()  # type: ignore[operator]
    finally:
        stop.set()
        asking.join()
    return found


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


if __name__ == "__main__":
    if "--upgrade-only" in sys.argv:
        with scratch() as alone:
            print(*_upgrade(alone), sep="\n")
    else:
        for figure in figures(upgrade="--no-upgrade" not in sys.argv):
            print(*figure, flush=True)
