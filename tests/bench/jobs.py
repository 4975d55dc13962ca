"""From the trigger of a run to its end, for a job with an empty script: on the host, in a sandbox, in a container.

The real server and the real agent, as users have them. The time is taken between the request and the run's
`finished_at`, which is set before the commit of its end. The floors are the same work without us.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import httpx

from tests.agent.containers import IMAGE, Podman, own_engine
from tests.bench.stack import PROGRAM, Server, scratch, serving

Figure = tuple[str, float, str, str]
RUNS, WARM_UP = 30, 5
WITHIN = 60.0
"""Seconds for one run."""
PIPELINE = "materials: [{manual: true}]\nstages: [s]\njobs: {j: {stage: s, script: [':']%s}}\n"


def figures() -> list[Figure]:
    """Medians."""
    found: list[Figure] = []
    with scratch() as folder, serving(folder / "state", shiv_root=folder / "shiv") as server:
        found.append(
            ("empty job on the host, trigger to finished, p50", _measure(server, folder, "shell"), "ms", "150")
        )
        if shutil.which("bwrap"):
            took = _measure(server, folder, "sandbox")
            found.append(("empty job in a sandbox, trigger to finished, p50", took, "ms", ""))
        if os.geteuid() == 0 and shutil.which("podman"):
            with own_engine() as podman:
                variables = {"GOCDNEXT_DOCKER_SOCKET": podman.socket}
                image = f", image: {IMAGE}"
                took = _measure(server, folder, "docker", image, GOCDNEXT_DOCKER_NETWORK="none", **variables)
                found.append(("empty job in a container without network, trigger to finished, p50", took, "ms", "500"))
                took = _measure(server, folder, "docker", image, **variables)
                found.append(("empty job in a container on the engine's network, p50", took, "ms", ""))
                found.append(("floor: the same container by bare calls of the API, p50", _floor(podman), "ms", ""))
    return found


def _measure(server: Server, folder: Path, engine: str, image: str = "", **variables: str) -> float:
    """Median of the milliseconds of one run after the other."""
    took = []
    with httpx.Client(base_url=server.http, timeout=30) as http, _agent(server, folder, engine, http, variables):
        pipeline = _apply(http, f"{engine}-{len(variables)}", PIPELINE % image)
        for number in range(WARM_UP + RUNS):
            began = time.time()
            run = http.post(f"/api/v1/pipelines/{pipeline}/trigger").raise_for_status().json()["run_id"]
            ended = _ended(http, run)
            if number >= WARM_UP:
                took.append((ended - began) * 1000)
    return statistics.median(took)


def _apply(http: httpx.Client, name: str, text: str) -> str:
    body = {"slug": "bench", "files": [{"name": f"{name}.yaml", "content": text}]}
    answer = http.post("/api/v1/projects/apply", json=body).raise_for_status().json()
    pipeline: str = answer["pipelines"][0]["pipeline_id"]
    return pipeline


def _ended(http: httpx.Client, run: str) -> float:
    """When the run ended, in seconds of the clock."""
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        found = http.get(f"/api/v1/runs/{run}?logs=0").raise_for_status().json()
        if found.get("finished_at"):
            if found["status"] != "success":
                raise RuntimeError(f"the run ended as {found['status']}: {found}")
            return datetime.fromisoformat(found["finished_at"].replace("Z", "+00:00")).timestamp()
        time.sleep(0.02)
    raise TimeoutError(f"run {run} has not ended")


@contextlib.contextmanager
def _agent(server: Server, folder: Path, engine: str, http: httpx.Client, variables: dict[str, str]) -> Iterator[None]:
    environment = os.environ | {
        "GOCDNEXT_SERVER_ADDR": f"127.0.0.1:{server.grpc_port}",
        "GOCDNEXT_AGENT_NAME": f"bench-{engine}-{len(variables)}",
        "GOCDNEXT_AGENT_TOKEN": "bench-registration-token",
        "GOCDNEXT_AGENT_ENGINE": engine,
        "GOCDNEXT_WORKSPACE_ROOT": str(folder / "work"),
        "SHIV_ROOT": str(folder / "shiv"),
        **variables,
    }
    agent = subprocess.Popen([PROGRAM, "agent"], env=environment, stdout=subprocess.DEVNULL)
    try:
        name = environment["GOCDNEXT_AGENT_NAME"]
        while not any(
            a["name"] == name and a["status"] == "online" for a in http.get("/api/v1/agents").json()["agents"]
        ):
            if agent.poll() is not None:
                raise RuntimeError(f"the agent ended with {agent.returncode}")
            time.sleep(0.1)
        yield
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(15)


def _floor(podman: Podman) -> float:
    """Made, started, looked at until it has ended, removed: what the engine cannot do without."""
    took = []
    limits = [{"Name": "nofile", "Soft": 4096, "Hard": 4096}, {"Name": "nproc", "Soft": 8192, "Hard": 8192}]
    config = {
        "Image": IMAGE,
        "Cmd": ["true"],
        "HostConfig": {"NetworkMode": "none", "Init": True, "Ulimits": limits, "LogConfig": {"Type": "none"}},
    }
    with podman.api() as api:
        for number in range(WARM_UP + RUNS):
            began = time.perf_counter()
            name = api.post("/containers/create", json=config).raise_for_status().json()["Id"]
            api.post(f"/containers/{name}/start").raise_for_status()
            while api.get(f"/containers/{name}/json").raise_for_status().json()["State"]["Status"] != "exited":
                time.sleep(0.01)
            api.delete(f"/containers/{name}", params={"force": 1, "v": 1}).raise_for_status()
            if number >= WARM_UP:
                took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


if __name__ == "__main__":
    for figure in figures():
        print(*figure)
