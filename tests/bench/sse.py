"""Many readers of one run's live log: the whole server, a real agent, and readers that count what they get.

A reader has every line when it has as many events as the last one's id says: ids are numbered without a gap.
"""

from __future__ import annotations

import contextlib
import math
import re
import resource
import selectors
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from tests.bench.stack import PROGRAM, pss_kib, scratch
from tests.e2e.product import Product, api_of, make_repository, product_in

Figure = tuple[str, float, str, str]
FLOODS = ((1, 200_000, "40000"), (20, 100_000, "10000"), (100, 30_000, "2500"))
"""Readers, lines, goal."""
STEADY = ((100, 500, 60), (1000, 50, 20))
"""Readers, lines a second, seconds."""
LINE = "x" * 99
WITHIN = 120.0
PACED = """\
import time
start = time.monotonic()
for n in range({lines}):
    time.sleep(max(start + n / {rate} - time.monotonic(), 0))
    print(f"at {{time.monotonic():.6f}}", flush=True)
"""

_EVENT = b"event: log\n"
_ID = re.compile(rb"\nid: (\d+)\n")
_AT = re.compile(rb'"text":"at ([0-9.]+)"')


@dataclass
class _Reader:
    connection: socket.socket
    events: int = 0
    last: int = 0
    rest: bytes = b""
    ended: bool = False


@dataclass
class _Seen:
    """What all readers together have seen."""

    first: float = 0.0
    last: float = 0.0
    delays: list[float] = field(default_factory=list)
    memory_mb: float = 0.0


def figures() -> list[Figure]:
    """The figures of this file: (name, value, unit, goal)."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    found: list[Figure] = []
    with scratch() as folder, product_in(folder, PROGRAM if PROGRAM.exists() else None) as product:
        product.start()
        product.agent("agent")
        for readers, lines, goal in FLOODS:
            seen = trio.run(_measure, product, f"yes {LINE} | head -n {lines}", readers)
            rate = lines / (seen.last - seen.first)
            found.append((f"SSE, {readers} readers: lines that all of them have got", round(rate), "lines/s", goal))
        for readers, rate, seconds in STEADY:
            script = folder / "paced.py"
            script.write_text(PACED.format(lines=rate * seconds, rate=rate))
            seen = trio.run(_measure, product, f"python3 {script}", readers)
            seen.delays.sort()
            p99 = seen.delays[math.ceil(len(seen.delays) * 0.99) - 1]
            name = f"{readers} readers, {rate} lines/s for {seconds} s"
            found.append((f"{name}: p99 of the delay", p99, "ms", "100" if readers == 100 else ""))
            found.append((f"{name}: memory of the server", seen.memory_mb, "MB PSS", "250"))
    return found


async def _measure(product: Product, script: str, readers: int) -> _Seen:
    """Readers of a run of one job with this script, from before its first line to its end; all must have every line."""
    async with api_of(product) as api:
        await api.online("agent")
        job = f"job: {{stage: build, script: ['until test -e {product.folder}/go; do sleep 0.05; done', '{script}']}}"
        run = await api.start(make_repository(product.folder / f"r{readers}-{time.monotonic_ns()}", job))
        seen = await trio.to_thread.run_sync(_read, product, run, readers)
        assert await api.ended(run) == "success"
    (product.folder / "go").unlink()
    return seen


def _read(product: Product, run: str, count: int) -> _Seen:
    seen = _Seen()
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        everybody = [_Reader(stack.enter_context(_events(product, run))) for _ in range(count)]
        for reader in everybody:
            selector.register(reader.connection, selectors.EVENT_READ, reader)
        (product.folder / "go").touch()
        left = count
        looked = time.perf_counter()
        while left:
            ready = selector.select(WITHIN)
            assert ready, f"{left} readers have not got to the end"
            for key, _ in ready:
                left -= _take(key.data, seen)
                if key.data.ended:
                    selector.unregister(key.fileobj)
            if time.perf_counter() > looked + 1:
                looked = time.perf_counter()
                seen.memory_mb = max(seen.memory_mb, pss_kib(product.pid) / 1024)
    for reader in everybody:
        assert reader.events == reader.last == everybody[0].last, f"{reader.events} events, last id {reader.last}"
    return seen


def _take(reader: _Reader, seen: _Seen) -> int:
    """Reads what there is; 1 when it was the end."""
    data = reader.connection.recv(1024 * 1024)
    now = time.perf_counter()
    assert data, "the server closed a stream before its end"
    data = reader.rest + data
    whole = data.rfind(b"\n\n") + 2
    data, reader.rest = data[:whole], data[whole:]
    if events := data.count(_EVENT):
        reader.events += events
        reader.last = int(_ID.findall(data)[-1])
        seen.first = seen.first or now
        seen.last = now
        clock = time.monotonic()
        seen.delays += [(clock - float(at)) * 1000 for at in _AT.findall(data)]
    reader.ended = b"event: end\n" in data
    return int(reader.ended)


@contextlib.contextmanager
def _events(product: Product, run: str) -> Iterator[socket.socket]:
    request = f"GET /api/v1/runs/{run}/logs/stream HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", product.http_port), WITHIN) as connection:
        connection.sendall(request.encode())
        yield connection


if __name__ == "__main__":
    for figure in figures():
        print(*figure, flush=True)
