"""The run engine under load: bursts, completions, one huge run, a queue that nobody can take. Real server, real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx

from tests.bench.agents import Seen, agent
from tests.bench.dispatch import apply
from tests.bench.stack import Server, scratch, serving

Figure = tuple[str, float, str, str]
MANUAL = "materials: [{manual: true}]\nstages: [s]\n"


def figures() -> list[Figure]:
    """One fresh server for each figure."""
    return [
        ("50 pipelines of 10 jobs, 500 slots: all on the wire", _on_a_server(_burst), "s", "2"),
        ("completions with 20 busy agents", _on_a_server(_completions), "/s", "400"),
        ("one run of 1,000 matrix jobs, trigger to finished", _on_a_server(_huge), "s", "15"),
        ("new job beside 10,000 that no agent can take, worst of 50", _on_a_server(_stuck), "ms", "100"),
    ]


def _on_a_server(measure: Callable[[Server, httpx.AsyncClient, Seen], Awaitable[float]]) -> float:
    async def run(server: Server) -> float:
        async with httpx.AsyncClient(base_url=server.http, timeout=120) as http:
            return await measure(server, http, Seen())

    with scratch() as folder, serving(folder / "state", shiv_root=folder / "shiv") as server:
        return asyncio.run(run(server))


async def _connected(server: Server, seen: Seen, count: int, capacity: int) -> list[asyncio.Task[None]]:
    events = [asyncio.Event() for _ in range(count)]
    tasks = [
        asyncio.create_task(agent(server.grpc_port, seen, name=f"a{n}", capacity=capacity, ready=ready))
        for n, ready in enumerate(events)
    ]
    for ready in events:
        await ready.wait()
    return tasks


async def _burst(server: Server, http: httpx.AsyncClient, seen: Seen) -> float:
    jobs = ", ".join(f"j{n}: {{stage: s, script: [x]}}" for n in range(10))
    pipelines = await apply(http, {f"p{n}.yaml": f"{MANUAL}jobs: {{{jobs}}}\n" for n in range(50)})
    seen.silent = True
    tasks = await _connected(server, seen, 5, 100)
    started = time.perf_counter()
    posts = [http.post(f"/api/v1/pipelines/{pipeline}/trigger") for pipeline in pipelines.values()]
    await asyncio.gather(*posts)
    await seen.wait_jobs(500, 60)
    took = time.perf_counter() - started
    _end(tasks)
    return took


async def _completions(server: Server, http: httpx.AsyncClient, seen: Seen) -> float:
    values = ", ".join(str(n) for n in range(100))
    text = f"{MANUAL}jobs: {{j: {{stage: s, script: [x], parallel: {{matrix: [{{N: [{values}]}}]}}}}}}\n"
    pipelines = await apply(http, {f"p{n}.yaml": text for n in range(20)})
    for pipeline in pipelines.values():
        (await http.post(f"/api/v1/pipelines/{pipeline}/trigger")).raise_for_status()
    started = time.perf_counter()
    tasks = await _connected(server, seen, 20, 1)
    await seen.wait_jobs(2000, 120)
    took = time.perf_counter() - started
    _end(tasks)
    return 2000 / took


async def _huge(server: Server, http: httpx.AsyncClient, seen: Seen) -> float:
    values = ", ".join(str(n) for n in range(1000))
    text = f"{MANUAL}jobs: {{j: {{stage: s, script: [x], parallel: {{matrix: [{{N: [{values}]}}]}}}}}}\n"
    pipelines = await apply(http, {"p.yaml": text})
    tasks = await _connected(server, seen, 10, 10)
    started = time.perf_counter()
    answer = (await http.post(f"/api/v1/pipelines/{pipelines['p']}/trigger")).raise_for_status().json()
    while (await http.get(f"/api/v1/runs/{answer['run_id']}?logs=0")).json()["status"] in ("queued", "running"):
        await asyncio.sleep(0.1)
        if time.perf_counter() - started > 120:
            raise TimeoutError("the run of 1,000 jobs is not finished after two minutes")
    took = time.perf_counter() - started
    _end(tasks)
    return took


async def _stuck(server: Server, http: httpx.AsyncClient, seen: Seen) -> float:
    values = ", ".join(str(n) for n in range(1000))
    stuck = (
        f"{MANUAL}jobs: {{j: {{stage: s, tags: [nowhere], script: [x], parallel: {{matrix: [{{N: [{values}]}}]}}}}}}\n"
    )
    pipelines = await apply(
        http, {"stuck.yaml": stuck, "new.yaml": f"{MANUAL}jobs: {{j: {{stage: s, script: [x]}}}}\n"}
    )
    for _ in range(10):
        (await http.post(f"/api/v1/pipelines/{pipelines['stuck']}/trigger")).raise_for_status()
    tasks = await _connected(server, seen, 1, 100)
    worst = 0.0
    for _ in range(50):
        started = time.time()
        answer = (await http.post(f"/api/v1/pipelines/{pipelines['new']}/trigger")).raise_for_status().json()
        await seen.wait_run(answer["run_id"], 60)
        worst = max(worst, (seen.runs[answer["run_id"]] - started) * 1000)
    _end(tasks)
    return worst


def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    for figure in figures():
        print(*figure)
