"""A day of work in half an hour: does anything only grow? `python -m tests.bench.soak --minutes 30`, for the nightly run.

A day is RUNS_A_DAY runs with their logs, readers and streams, at 48 times the pace of a day; fewer minutes are a shorter piece
of the same load. What is compared are the medians of the second quarter and of the last one: the first is the warming up. It
has no `figures`, because nobody waits half an hour for a table.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.bench.stack import Server, pss_kib, scratch, serving

RUNS_A_DAY, PACE = 1000, 48
READS = 10
"""Requests for lists and details that each run brings with it."""
SAMPLE = 2.0
"""Seconds."""
GROWTH = {"memory": 0.10, "files": 0.10, "tasks": 0.10}
"""Part by which the last quarter may be above the second."""
SLACK = {"memory": 8 * 1024, "files": 8.0, "tasks": 10.0}
"""What is noise (KiB, files, tasks): pools and caches breathe."""
LINES = 200
PIPELINE = f"materials: [{{manual: true}}]\nstages: [s]\njobs: {{j: {{stage: s, script: ['seq {LINES}']}}}}\n"


@dataclass
class Samples:
    """Values over time, by name."""

    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in GROWTH})

    def take(self, server: Server, http: httpx.Client) -> None:
        pid = server.process.pid
        self.values["memory"].append(pss_kib(pid))
        self.values["files"].append(len(os.listdir(f"/proc/{pid}/fd")))
        text = http.get("/metrics").raise_for_status().text
        tasks = next(line for line in text.splitlines() if line.startswith("go_goroutines "))
        self.values["tasks"].append(float(tasks.split()[1]))

    def quarters(self, name: str) -> tuple[float, float]:
        """The medians of the second and of the last quarter."""
        values = self.values[name]
        quarter = max(1, len(values) // 4)
        return statistics.median(values[quarter : 2 * quarter]), statistics.median(values[-quarter:])


def grown(name: str, second: float, last: float) -> bool:
    """Whether that is more than noise."""
    return last > second * (1 + GROWTH[name]) and last > second + SLACK[name]


@contextlib.contextmanager
def sampling(server: Server) -> Iterator[Samples]:
    """Samples in a thread of their own for as long as the block lasts."""
    samples, over = Samples(), threading.Event()

    def work() -> None:
        with httpx.Client(base_url=server.http, timeout=30) as http:
            while not over.wait(SAMPLE):
                samples.take(server, http)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def apply(http: httpx.Client) -> str:
    """The pipeline; its id."""
    body = {"slug": "soak", "files": [{"name": "soak.yaml", "content": PIPELINE}]}
    answer = http.post("/api/v1/projects/apply", json=body).raise_for_status().json()
    return str(answer["pipelines"][0]["pipeline_id"])


def one_run(http: httpx.Client, pipeline: str) -> bool:
    """A run with its stream of log lines and its readers; whether it succeeded."""
    run = http.post(f"/api/v1/pipelines/{pipeline}/trigger").raise_for_status().json()["run_id"]
    with (
        contextlib.suppress(httpx.ReadTimeout),
        http.stream("GET", f"/api/v1/runs/{run}/logs/stream", timeout=10) as lines,
    ):
        for _ in lines.iter_lines():
            pass
    for number in range(READS):
        http.get(("/api/v1/runs", f"/api/v1/runs/{run}", "/api/v1/projects", "/healthz")[number % 4]).raise_for_status()
    return bool(http.get(f"/api/v1/runs/{run}?logs=0").json()["status"] == "success")


def soak(server: Server, minutes: float) -> tuple[Samples, int, int]:
    """The load, paced; samples, runs, runs that did not succeed."""
    pause = 86_400 / RUNS_A_DAY / PACE
    runs = failed = 0
    with httpx.Client(base_url=server.http, timeout=30) as http, sampling(server) as samples:
        pipeline = apply(http)
        began = time.monotonic()
        while time.monotonic() - began < minutes * 60:
            failed += not one_run(http, pipeline)
            runs += 1
            time.sleep(max(0.0, began + runs * pause - time.monotonic()))
    return samples, runs, failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=30.0)
    minutes = parser.parse_args().minutes
    with scratch() as folder, serving(Path(folder) / "state", "--local-agent", shiv_root=folder / "shiv") as server:
        samples, runs, failed = soak(server, minutes)
    print(f"{runs} runs in {minutes:g} minutes, {failed} did not succeed; {len(samples.values['memory'])} samples")
    bad = failed > 0
    for name in GROWTH:
        second, last = samples.quarters(name)
        verdict = "GROWS" if grown(name, second, last) else "flat"
        bad |= verdict != "flat"
        print(f"{name:7} second quarter {second:10.0f}   last quarter {last:10.0f}   {verdict}")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
