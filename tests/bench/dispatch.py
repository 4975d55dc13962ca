"""From a queued run to its assignment on the wire, with a long history in the database.

Latency is taken between the run's `created_at`, which is set before its commit, and the moment the agent has the frame:
the commit, the scheduler, the claim and the wire are all inside.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from datetime import datetime

import asyncpg
import httpx

from tests.bench.stack import Server, scratch, serving

Figure = tuple[str, float, str, str]
HISTORY = 200_000
RUNS = 400
WARM_UP = 50
PIPELINE = "materials: [{manual: true}]\nstages: [s]\njobs: {j: {stage: s, script: ['true']}}\n"

HISTORY_SQL = """
WITH p AS (
    UPDATE pipelines SET last_counter = last_counter + $1 WHERE name = 'now' RETURNING id, definition_id, last_counter
), made AS (
    INSERT INTO runs (id, pipeline_id, definition_id, counter, cause, status, created_at, started_at, finished_at)
    SELECT gen_random_uuid(), p.id, p.definition_id, p.last_counter - n, 'manual', 'success',
        now() - interval '1 minute' * n, now() - interval '1 minute' * n, now() - interval '59 seconds' * n
    FROM p, generate_series(0, $1 - 1) n
    RETURNING id
), stages AS (
    INSERT INTO stage_runs (id, run_id, name, ordinal, status)
    SELECT gen_random_uuid(), id, 's', 0, 'success' FROM made RETURNING id, run_id
)
INSERT INTO job_runs (id, run_id, stage_run_id, name, status, agent_id, started_at, finished_at)
SELECT gen_random_uuid(), run_id, id, 'j', 'success', gen_random_uuid(), now(), now() FROM stages
"""


def figures() -> list[Figure]:
    """Percentiles of the latency, and the bare floor of the same number of round trips on the same machine."""
    with scratch() as folder, serving(folder / "state", shiv_root=folder / "shiv") as server:
        latencies, floor = asyncio.run(_measure(server))
    cuts = statistics.quantiles(latencies, n=100)
    return [
        ("queued to assignment, 200,000 finished runs, p50", cuts[49], "ms", "3"),
        ("queued to assignment, 200,000 finished runs, p99", cuts[98], "ms", "15"),
        ("floor: one transaction of three statements, bare asyncpg, p50", statistics.median(floor), "ms", ""),
        ("queued to assignment p50 / floor", cuts[49] / statistics.median(floor), "x", ""),
    ]


async def _measure(server: Server) -> tuple[list[float], list[float]]:
    async with httpx.AsyncClient(base_url=server.http, timeout=60) as http:
        pipeline_id = (await apply(http, {"now.yaml": PIPELINE}))["now"]
        conn = await asyncpg.connect(host=str(server.state / "run"), user="ci", database="gocdnext", port=5432)
        await conn.execute(HISTORY_SQL, HISTORY, timeout=300)
        await conn.execute("VACUUM ANALYZE", timeout=300)
        # An agent of its own process, that takes every job and reports none: nothing else happens meanwhile.
        agent = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.bench.agents", str(server.grpc_port), stdout=asyncio.subprocess.PIPE
        )
        assert agent.stdout is not None
        await agent.stdout.readline()
        latencies = []
        for number in range(RUNS + WARM_UP):
            answer = (await http.post(f"/api/v1/pipelines/{pipeline_id}/trigger")).raise_for_status().json()
            async with asyncio.timeout(20):
                run_id, arrived = (await agent.stdout.readline()).decode().split()
            assert run_id == answer["run_id"]
            created: datetime = await conn.fetchval("SELECT created_at FROM runs WHERE id = $1", run_id)
            if number >= WARM_UP:
                latencies.append((float(arrived) - created.timestamp()) * 1000)
        agent.terminate()
        await agent.wait()
        floor = [await _bare_transaction(conn) for _ in range(RUNS)]
        await conn.close()
    return latencies, floor


async def apply(http: httpx.AsyncClient, files: dict[str, str]) -> dict[str, str]:
    """Applies files; pipeline name -> id."""
    body = {"slug": "bench", "files": [{"name": name, "content": text} for name, text in files.items()]}
    applied = (await http.post("/api/v1/projects/apply", json=body)).raise_for_status().json()
    return {entry["name"]: entry["pipeline_id"] for entry in applied["pipelines"]}


async def _bare_transaction(conn: asyncpg.Connection[asyncpg.Record]) -> float:
    started = time.perf_counter()
    async with conn.transaction():
        await conn.fetchval("SELECT id FROM runs LIMIT 1 FOR NO KEY UPDATE")
        await conn.fetchval("SELECT count(*) FROM agents")
        await conn.execute("UPDATE agents SET version = version")
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    for figure in figures():
        print(*figure)
