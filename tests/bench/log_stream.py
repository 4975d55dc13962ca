"""Log lines as users have them: our agent's process, the whole server, a reader of the event stream over HTTP.

`logs.py` measures what an agent of another make gets, which sends one message a line.
"""

from __future__ import annotations

import contextlib
import math
import re
import socket
import time
from collections.abc import Iterator

import trio

from tests.bench.stack import PROGRAM, scratch
from tests.e2e.product import Product, api_of, make_repository, product_in

Figure = tuple[str, float, str, str]
LINES = 600_000
"""Of all jobs together."""
LINE = "x" * 99
SINGLE_LINES = 400
SINGLE = (
    "import time\\n"
    f"for _ in range({SINGLE_LINES}):\\n"
    '    print(f\\"at {time.monotonic():.6f}\\", flush=True)\\n'
    "    time.sleep(0.01)"
)
WITHIN = 180.0

_FRAME = b"event: log\n"
_AT = re.compile(rb'"text":"at ([0-9.]+)"')


def figures(lines: int = LINES) -> list[Figure]:
    """The figures of this file: (name, value, unit, goal)."""
    found: list[Figure] = []
    for streams, goal in ((1, "100000"), (4, "120000")):
        job = f"{{stage: build, script: ['yes {LINE} | head -n {lines // streams}']}}"
        with _agents(streams) as product:
            rate = trio.run(_flood, product, job, streams, lines)
        name = f"log lines, {streams} of our agents: printed, stored, and read over HTTP"
        found.append((name, round(rate), "lines/s", goal))
    with _agents(1) as product:
        delays = sorted(trio.run(_single, product, f"{{stage: build, script: [\"python3 -c '{SINGLE}'\"]}}"))
    for name, share, goal in (("p50", 0.5, "6"), ("p99", 0.99, "25")):
        value = delays[math.ceil(len(delays) * share) - 1]
        found.append((f"a line from its print to its event over HTTP, idle, {name}", round(value, 2), "ms", goal))
    return found


@contextlib.contextmanager
def _agents(count: int) -> Iterator[Product]:
    """A server that is started and has so many agents; the zipapp when it was built, else the checkout."""
    with scratch() as folder, product_in(folder, PROGRAM if PROGRAM.exists() else None) as product:
        product.start()
        for number in range(count):
            product.agent(f"agent{number}")
        yield product


async def _flood(product: Product, job: str, streams: int, lines: int) -> float:
    """Lines a second from the first to the last that the reader sees."""
    async with api_of(product) as api:
        await api.online(*(f"agent{number}" for number in range(streams)))
        made = "\n".join(f"job{number}: {job}" for number in range(streams))
        run = await api.start(make_repository(product.folder / "repository", made))
        extra = 4 * streams  # the echoes of checkout and script, and the marker of the end
        first, last, seen = await trio.to_thread.run_sync(_read, product, run, lines + extra)
        assert await api.ended(run) == "success"
        stored = [
            job["logs_total"]
            for stage in (await api.get(f"/api/v1/runs/{run}?logs=1"))["stages"]
            for job in stage["jobs"]
        ]
        assert sum(stored) == seen == lines + extra, f"{sum(stored)} stored, {seen} seen, {lines + extra} printed"
        return lines / (last - first)


def _read(product: Product, run: str, count: int) -> tuple[float, float, int]:
    """When the first and the last line came, and how many; a plain socket, so that the reader is not what is measured."""
    first = last = 0.0
    seen, rest = 0, b""
    with _events(product, run) as connection:
        while seen < count and (data := connection.recv(1024 * 1024)):
            data = rest + data
            if found := data.count(_FRAME):
                last = time.perf_counter()
                first = first or last
                seen += found
            rest = data[-len(_FRAME) + 1 :]
    return first, last, seen


@contextlib.contextmanager
def _events(product: Product, run: str) -> Iterator[socket.socket]:
    request = f"GET /api/v1/runs/{run}/logs/stream HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", product.http_port), WITHIN) as connection:
        connection.sendall(request.encode())
        yield connection


async def _single(product: Product, job: str) -> list[float]:
    """Milliseconds from the print of each line to the arrival of its event."""
    async with api_of(product) as api:
        await api.online("agent0")
        run = await api.start(make_repository(product.folder / "repository", f"job: {job}"))
        delays = await trio.to_thread.run_sync(_listen, product, run)
        assert await api.ended(run) == "success"
    return delays


def _listen(product: Product, run: str) -> list[float]:
    delays: list[float] = []
    rest = b""
    with _events(product, run) as connection:
        while len(delays) < SINGLE_LINES and (data := connection.recv(1024 * 1024)):
            now = time.monotonic()
            data = rest + data
            end = 0
            for match in _AT.finditer(data):
                delays.append((now - float(match[1])) * 1000)
                end = match.end()
            rest = data[end:]
    return delays


if __name__ == "__main__":
    for figure in figures():
        print(*figure)
