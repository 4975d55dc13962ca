"""How fast the lists and details are read, beside a bare quart-trio application, and with years of history.

The server is a process of its own with its own PostgreSQL, and the history is written into the tables.

    python -m tests.bench.reads [--no-history]
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import asyncpg
import httpx

from tests.bench.load import Measured, load
from tests.bench.stack import PROGRAM, scratch
from tests.e2e.product import Product, product_in

Figure = tuple[str, float, str, str]
SECONDS = 3.0
"""Of each measurement."""
SMALL = (20, 100)
"""Projects, and runs of each."""
LARGE = (200, 1000)
LARGE_LINES = 5_000_000
SHOWN_LINES = 300
PIPELINES = 2
PIPELINE = """\
name: {name}
materials: [{{manual: true}}]
stages: [lint, build, test]
jobs:
  ruff: {{stage: lint, script: ['true']}}
  compile: {{stage: build, script: ['true']}}
  unit: {{stage: test, script: ['true']}}
"""

RUNS_SQL = """
WITH made AS (
    INSERT INTO runs (id, pipeline_id, definition_id, counter, cause, triggered_by, status, created_at, started_at,
        finished_at)
    SELECT gen_random_uuid(), p.id, p.definition_id, n, 'webhook', 'ines@example.org',
        CASE WHEN n % 7 = 0 THEN 'failed' ELSE 'success' END,
        now() - interval '7 minutes' * ($1 - n) - interval '1 hour', now() - interval '7 minutes' * ($1 - n)
        - interval '59 minutes', now() - interval '7 minutes' * ($1 - n) - interval '57 minutes'
    FROM pipelines p, generate_series(p.last_counter + 1, $1::bigint) n
    RETURNING id, created_at
), stages AS (
    INSERT INTO stage_runs (id, run_id, name, ordinal, status, started_at, finished_at)
    SELECT gen_random_uuid(), made.id, s.name, s.n, 'success', created_at + interval '1 minute' * s.n,
        created_at + interval '1 minute' * (s.n + 1)
    FROM made, (VALUES ('lint', 0), ('build', 1), ('test', 2)) s (name, n) RETURNING id, run_id, name
)
INSERT INTO job_runs (id, run_id, stage_run_id, name, status, exit_code, started_at, finished_at)
SELECT gen_random_uuid(), run_id, id, CASE name WHEN 'lint' THEN 'ruff' WHEN 'build' THEN 'compile' ELSE 'unit' END,
    'success', 0, now() - interval '2 minutes', now()
FROM stages
"""
COUNTERS_SQL = "UPDATE pipelines SET last_counter = $1"
LINES_SQL = """
WITH chosen AS (
    SELECT id, run_id, row_number() OVER (PARTITION BY run_id) - 1 AS place FROM job_runs WHERE run_id = any($2)
), cursors AS (
    INSERT INTO log_cursors (run_id, last) SELECT unnest($2::uuid []), 3 * $1 ON CONFLICT DO NOTHING
)
INSERT INTO log_lines (job_run_id, run_id, cursor, seq, at, stream, text)
SELECT id, run_id, place * $1 + n, n, now(), 'stdout', 'compiling module ' || n || ' of the program, as every time'
FROM chosen, generate_series(1, $1::bigint) n
"""


class Goal(NamedTuple):
    """One of the figures of issue 7."""

    name: str
    path: str
    rate: str
    p50: str


GOALS = (
    Goal("projects (20)", "/api/v1/projects?limit=20", "700", "12"),
    Goal("runs feed (50)", "/api/v1/runs?limit=50", "900", "9"),
    Goal("run detail, 200 lines", "/api/v1/runs/{run}?logs=200", "1000", "8"),
)


def figures(*, history: bool = True) -> list[Figure]:
    """The figures of this file: (name, value, unit, goal)."""
    found: list[Figure] = []
    with scratch() as folder, product_in(folder, PROGRAM if PROGRAM.exists() else None) as product, _hello() as hello:
        product.start()
        run = fill(product, *SMALL, lines=3 * SHOWN_LINES)
        bare = load(hello, "/", SECONDS)
        found += _report("bare hello", bare)
        quiet = {}
        for goal in GOALS:
            quiet[goal] = load(product.http_port, goal.path.format(run=run), SECONDS)
            found += _report(goal.name, quiet[goal], goal)
            found.append((f"{goal.name}, p50 / bare p50", quiet[goal].quantile(0.5) / bare.quantile(0.5), "x", "2.5"))
        with _writing(product):
            for goal in GOALS:
                busy = load(product.http_port, goal.path.format(run=run), SECONDS)
                found += _report(f"{goal.name}, while 20 runs a second change", busy)
        if history:
            run = fill(product, *LARGE, lines=LARGE_LINES)
            for goal in GOALS:
                full = load(product.http_port, goal.path.format(run=run), SECONDS)
                found += _report(f"{goal.name}, with history", full)
                ratio = full.quantile(0.5) / quiet[goal].quantile(0.5)
                found.append((f"{goal.name}, p50 with history / without", ratio, "x", "1.3"))
    return found


def _report(name: str, measured: Measured, goal: Goal | None = None) -> list[Figure]:
    return [
        (f"{name}, 8 connections", round(measured.rate), "req/s", goal.rate if goal else ""),
        (f"{name}, p50", measured.quantile(0.5), "ms", goal.p50 if goal else ""),
        (f"{name}, p99", measured.quantile(0.99), "ms", "60" if goal else ""),
    ]


def fill(product: Product, projects: int, runs: int, lines: int) -> str:
    """So many projects with so many runs each, and log lines in all; a finished run with SHOWN_LINES lines a job."""
    with httpx.Client(base_url=product.url, timeout=60) as http:
        for number in range(projects):
            files = [
                {"name": f"{name}.yaml", "content": PIPELINE.format(name=name)} for name in ("ci", "deploy")[:PIPELINES]
            ]
            body = {"slug": f"p{number}", "name": f"Project {number}", "files": files}
            http.post("/api/v1/projects/apply", json=body).raise_for_status()
    return asyncio.run(_fill(product, runs // PIPELINES, lines))


async def connect(product: Product) -> asyncpg.Connection[asyncpg.Record]:
    """A connection to the server's own database."""
    return await asyncpg.connect(host=product.sockets(), user="ci", database="gocdnext", port=5432)


async def _fill(product: Product, counter: int, lines: int) -> str:
    conn = await connect(product)
    try:
        await conn.execute(RUNS_SQL, counter, timeout=300)
        await conn.execute(COUNTERS_SQL, counter)
        # As many runs as give that many lines have SHOWN_LINES in each job.
        chosen = await conn.fetch("SELECT id FROM runs ORDER BY created_at DESC LIMIT $1", lines // (3 * SHOWN_LINES))
        await conn.execute(LINES_SQL, SHOWN_LINES, [row["id"] for row in chosen], timeout=600)
        await conn.execute("VACUUM ANALYZE", timeout=300)
        return str(chosen[0]["id"])
    finally:
        await conn.close()


@contextlib.contextmanager
def _hello() -> Iterator[int]:
    """The floor; its port."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.hello"], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        yield int(server.stdout.readline())
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def _writing(product: Product) -> Iterator[None]:
    """Something else is changed 20 times a second: no answer can be kept for long."""
    stop = threading.Event()
    writer = threading.Thread(target=asyncio.run, args=(_write(product, stop),))
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


async def _write(product: Product, stop: threading.Event) -> None:
    conn = await connect(product)
    try:
        ids = await conn.fetch("SELECT id FROM runs ORDER BY created_at DESC LIMIT 50")
        number = 0
        while not stop.is_set():
            number += 1
            await conn.execute("UPDATE runs SET version = version + 1 WHERE id = $1", ids[number % len(ids)]["id"])
            await asyncio.sleep(0.05)
    finally:
        await conn.close()


if __name__ == "__main__":
    for figure in figures(history="--no-history" not in sys.argv):
        print(*figure, flush=True)
