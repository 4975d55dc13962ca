"""A crowd of idle agents (`idle_agents`): what they cost the server, and how soon they are back after its restart."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.bench.stack import PROGRAM, pss_kib, scratch
from tests.e2e.product import TOKEN, Product, descendants, product_in

Figure = tuple[str, float, str, str]
AGENTS = 500
SETTLE, WINDOW = 70.0, 40.0
"""Seconds that everything gets to calm down (the pool closes idle connections after a minute), and that are looked at
then."""
WITHIN = 60.0


def figures() -> list[Figure]:
    """The figures of this file: (name, value, unit, goal)."""
    with scratch() as folder, product_in(folder, PROGRAM if PROGRAM.exists() else None) as product:
        product.start()
        time.sleep(5.0)
        before, idle = _memory(product), _cpu(product)
        time.sleep(WINDOW)
        idle = _cpu(product) - idle
        with _crowd(product):
            _until_online(product)
            time.sleep(SETTLE)
            memory, used = _memory(product) - before, _cpu(product)
            time.sleep(WINDOW)
            share = (_cpu(product) - used) / WINDOW
            product.kill()
            product.start()
            back = _until_online(product)
    return [
        (f"{AGENTS} idle agents, memory of the server", memory, "MB PSS more", "40"),
        (f"{AGENTS} idle agents, server and database", share * 100, "% of a core", "5"),
        ("nobody connected, server and database", idle / WINDOW * 100, "% of a core", ""),
        (f"{AGENTS} agents back after a restart, from ready on", back, "s", "10"),
    ]


@contextlib.contextmanager
def _crowd(product: Product) -> Iterator[None]:
    root = Path(__file__).parents[2]
    crowd = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.idle_agents", str(product.grpc_port), str(AGENTS), TOKEN],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    try:
        yield
    finally:
        crowd.kill()
        crowd.wait()


def _until_online(product: Product) -> float:
    """Seconds until all of them are ready for work."""
    began = time.perf_counter()
    with httpx.Client(base_url=product.url, timeout=30) as http:
        while time.perf_counter() < began + WITHIN:
            lines = http.get("/metrics").text.splitlines()
            if f"gocdnext_agents_online {AGENTS}.0" in lines:
                return time.perf_counter() - began
            time.sleep(0.1)
    raise RuntimeError(f"not all of {AGENTS} agents were ready within {WITHIN:g} s")


def _memory(product: Product) -> float:
    return sum(pss_kib(pid) for pid in descendants(product.pid)) / 1024


def _cpu(product: Product) -> float:
    """Seconds of CPU that the server and everything below it have used."""
    ticks = 0
    for pid in descendants(product.pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    for figure in figures():
        print(*figure)
