"""From a signed push to its answer and to its job on the agent's wire; many pushers at once on one pipeline.

The clock starts before the request is written and stops when the answer is read, or when the agent has the frame: reading,
the signature, the look-ups, one transaction with delivery, modification and run, and the wire are all inside.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import statistics
import sys
import time
from typing import Any

import asyncpg
import httpx

from tests.bench.stack import Server, scratch, serving

Figure = tuple[str, float, str, str]
PROJECTS, PIPELINES = 200, 5
PUSHES, WARM_UP = 400, 50
CROWD, CROWD_PUSHES = 8, 1000
CROWDED = 8
"""The project that many push to at once."""
SECRET = "the secret of the bench"
JOB = {"stages": ["s"], "jobs": {"j": {"stage": "s", "script": ["true"]}}}


def figures() -> list[Figure]:
    """Percentiles of both latencies, the rate of a crowd, and the bare floor in the same run."""
    with scratch() as folder, serving(folder / "state", shiv_root=folder / "shiv") as server:
        answered, assigned, crowd, rate, floor = asyncio.run(_measure(server))
    bare = statistics.median(floor)
    answers, frames = statistics.quantiles(answered, n=100), statistics.quantiles(assigned, n=100)
    return [
        ("signed push to answer, 200 projects, 1,000 materials, p50", answers[49], "ms", "5"),
        ("signed push to answer, 200 projects, 1,000 materials, p99", answers[98], "ms", "15"),
        ("signed push to assignment, p50", frames[49], "ms", "6"),
        ("signed push to assignment, p99", frames[98], "ms", "20"),
        ("floor: the same round trips, bare asyncpg, p50", bare, "ms", ""),
        ("signed push to assignment p50 / floor", frames[49] / bare, "x", ""),
        ("8 pushers on one pipeline, pushes with their run", rate, "1/s", "300"),
        ("8 pushers on one pipeline, push to assignment p50", statistics.median(crowd), "ms", "25"),
    ]


async def _measure(server: Server) -> tuple[list[float], list[float], list[float], float, list[float]]:
    async with httpx.AsyncClient(base_url=server.http, timeout=60) as http:
        for number in range(PROJECTS):
            await _apply(http, number)
        conn = await asyncpg.connect(host=str(server.state / "run"), user="ci", database="gocdnext", port=5432)
        # As after a first push: the pushes that follow say themselves that they leave the configuration alone.
        await conn.execute("UPDATE scm_sources SET seen_revision = $1", f"{0:040x}")
        await conn.execute("VACUUM ANALYZE", timeout=300)
        answered, assigned = await _one_by_one(http, server)
        crowd, rate = await _crowd(http, server)
        runs = await conn.fetchval("SELECT count(*) FROM runs")
        assert runs == WARM_UP + PUSHES + CROWD_PUSHES, f"{runs} runs"
        floor = [await _bare(conn) for _ in range(PUSHES)]
        await conn.close()
    return answered, assigned, crowd, rate, floor


async def _apply(http: httpx.AsyncClient, number: int) -> None:
    """One project bound to a repository of its own; of its pipelines one waits for `main`."""
    url = f"https://git.example.org/bench/{number}"
    pipelines = [
        {"name": f"p{n}", "materials": [{"git": {"url": url, "branch": f"b{n}" if n else "main"}}], **JOB}
        for n in range(PIPELINES)
    ]
    body = {
        "slug": f"bench-{number}",
        "files": [{"name": f"{made['name']}.yaml", "content": json.dumps(made)} for made in pipelines],
        "scm_source": {
            "provider": "github",
            "url": url,
            "webhook_secret": SECRET,
            # Of many pushes at once to a default branch each would have its configuration read, from nobody.
            "default_branch": "trunk" if number == CROWDED else "main",
        },
    }
    (await http.post("/api/v1/projects/apply", json=body)).raise_for_status()


async def _push(http: httpx.AsyncClient, project: int, number: int) -> tuple[str, float, float]:
    """The run that a push has started, and when it was sent and answered."""
    commit = {
        "id": f"{number:040x}",
        "message": "a commit of the bench",
        "timestamp": "2026-01-01T00:00:00Z",
        "author": {"name": "bench"},
        "added": [f"src/file{n}.c" for n in range(20)],
        "removed": [],
        "modified": [f"lib/file{n}.c" for n in range(100)],
    }
    payload: dict[str, Any] = {
        "ref": "refs/heads/main",
        "before": f"{number - 1:040x}",
        "after": commit["id"],
        "repository": {"full_name": f"bench/{project}", "clone_url": f"https://git.example.org/bench/{project}.git"},
        "head_commit": commit,
        "commits": [commit],
    }
    body = json.dumps(payload).encode()
    headers = {
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": str(number),
        "X-Hub-Signature-256": f"sha256={hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()}",
        "Content-Type": "application/json",
    }
    sent = time.time()
    answer = await http.post("/api/webhooks/github", content=body, headers=headers)
    answered = time.time()
    (run_id,) = answer.raise_for_status().json()["runs"]
    return run_id, sent, answered


async def _one_by_one(http: httpx.AsyncClient, server: Server) -> tuple[list[float], list[float]]:
    """An idle system: an agent that takes every job and reports none, one push at a time."""
    answered, assigned = [], []
    agent, arrivals = await _agent(server)
    for number in range(WARM_UP + PUSHES):
        run_id, sent, done = await _push(http, 7, number + 1)
        async with asyncio.timeout(20):
            seen, arrived = (await arrivals.readline()).decode().split()
        assert seen == run_id
        if number >= WARM_UP:
            answered.append((done - sent) * 1000)
            assigned.append((float(arrived) - sent) * 1000)
    agent.terminate()
    await agent.wait()
    return answered, assigned


async def _crowd(http: httpx.AsyncClient, server: Server) -> tuple[list[float], float]:
    """Several pushers at once on one pipeline, as fast as they are answered."""
    agent, arrivals = await _agent(server, "--answer")
    sent: dict[str, float] = {}
    numbers = iter(range(1_000_000, 1_000_000 + CROWD_PUSHES))

    async def pusher() -> None:
        for number in numbers:
            run_id, at, _ = await _push(http, CROWDED, number)
            sent[run_id] = at

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CROWD):
            group.create_task(pusher())
    rate = CROWD_PUSHES / (time.perf_counter() - started)
    latencies = []
    async with asyncio.timeout(60):
        while len(latencies) < CROWD_PUSHES:
            run_id, arrived = (await arrivals.readline()).decode().split()
            # Jobs of the agent that went before come here once more.
            if run_id in sent:
                latencies.append((float(arrived) - sent[run_id]) * 1000)
    agent.terminate()
    await agent.wait()
    return latencies, rate


async def _agent(server: Server, *options: str) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
    """An agent in a process of its own, and where it says what it was given."""
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.agents", str(server.grpc_port), *options, stdout=asyncio.subprocess.PIPE
    )
    assert agent.stdout is not None
    await agent.stdout.readline()
    return agent, agent.stdout


async def _bare(conn: asyncpg.Connection[asyncpg.Record]) -> float:
    """As many round trips as a push has: two look-ups, then a transaction of four statements."""
    started = time.perf_counter()
    await conn.fetch("SELECT id FROM scm_sources WHERE url = 'x'")
    await conn.fetch("SELECT id FROM materials WHERE fingerprint = 'x'")
    async with conn.transaction():
        await conn.execute("UPDATE pipelines SET last_counter = last_counter WHERE name = 'p0' AND FALSE")
        await conn.fetchval("SELECT id FROM runs LIMIT 1 FOR NO KEY UPDATE")
        await conn.execute("UPDATE agents SET version = version")
        await conn.fetchval("SELECT count(*) FROM agents")
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    for figure in figures():
        print(*figure)
