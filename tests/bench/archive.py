"""A log of a million lines goes into the archive, and windows from its middle are looked at, as the dashboard does.

Every window begins at another line, so that none is in memory already; the last figure is that of somebody who reads on
from where the window before ended.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time

import asyncpg
import httpx

from tests.bench.stack import Server, scratch, serving

Figure = tuple[str, float, str, str]
LINES, WINDOW, LOOKS = 1_000_000, 200, 300
JOB = {"stages": ["s"], "jobs": {"j": {"stage": "s", "script": ["true"]}}}
WRITE = """
INSERT INTO log_lines
SELECT
    j.id, j.run_id, n, n, now() - interval '1 hour' + n * interval '1 ms', 'stdout',
    'line ' || n || ' of a build that says much: compiling src/module_' || n % 977 || '/file_' || n || '.c'
FROM job_runs j, generate_series(1, $1::bigint) n
"""
END = "UPDATE job_runs SET status = 'success', started_at = now(), finished_at = now() - interval '30 minutes'"


def figures() -> list[Figure]:
    """Percentiles of a window, and how fast the archive takes lines."""
    with scratch() as folder, serving(folder / "state", shiv_root=folder / "shiv") as server:
        archived, apart, following = asyncio.run(_measure(server))
    looks = statistics.quantiles(apart, n=100)
    return [
        ("window from the middle of an archived 1,000,000-line log, p50", looks[49], "ms", "50"),
        ("window from the middle of an archived 1,000,000-line log, p99", looks[98], "ms", ""),
        ("the next window of the same log, p50", statistics.median(following), "ms", ""),
        ("lines put into the archive", LINES / archived, "1/s", ""),
    ]


async def _measure(server: Server) -> tuple[float, list[float], list[float]]:
    async with httpx.AsyncClient(base_url=server.http, timeout=120) as http:
        run, job = await _logged(http, server)
        started = time.perf_counter()
        (await http.post("/api/v1/admin/retention/run")).raise_for_status()
        archived = time.perf_counter() - started
        draw = random.Random(1)
        places = [draw.randrange(LINES // 4, LINES * 3 // 4) for _ in range(LOOKS)]
        apart = [await _look(http, run, job, place) for place in places]
        following = [await _look(http, run, job, LINES // 3 + WINDOW * number) for number in range(LOOKS)]
    return archived, apart, following


async def _logged(http: httpx.AsyncClient, server: Server) -> tuple[str, str]:
    """A run that is over, and its job, which has said a million lines."""
    made = {"name": "p", "materials": [{"manual": True}], **JOB}
    body = {
        "slug": "bench",
        "files": [{"name": "p.yaml", "content": httpx.Request("POST", "x", json=made).content.decode()}],
    }
    (await http.post("/api/v1/projects/apply", json=body)).raise_for_status()
    pipelines = (await http.get("/api/v1/projects/bench")).raise_for_status().json()["pipelines"]
    run = (
        (await http.post(f"/api/v1/pipelines/{pipelines[0]['id']}/trigger", json={}))
        .raise_for_status()
        .json()["run_id"]
    )
    conn = await asyncpg.connect(host=str(server.state / "run"), user="ci", database="gocdnext", port=5432)
    await conn.execute(WRITE, LINES, timeout=120)
    await conn.execute(END)
    await conn.execute("UPDATE stage_runs SET status = 'success'")
    await conn.execute("UPDATE runs SET status = 'success', finished_at = now()")
    job = str(await conn.fetchval("SELECT id FROM job_runs"))
    await conn.close()
    return run, job


async def _look(http: httpx.AsyncClient, run: str, job: str, since: int) -> float:
    started = time.perf_counter()
    answer = await http.get(f"/api/v1/runs/{run}", params={"logs": WINDOW, "since": f"{job}:{since}"})
    took = (time.perf_counter() - started) * 1000
    (shown,) = [each["logs"] for stage in answer.raise_for_status().json()["stages"] for each in stage["jobs"]]
    assert [line["seq"] for line in shown] == list(range(since + 1, since + 1 + WINDOW))
    return took


if __name__ == "__main__":
    for figure in figures():
        print(*figure)
