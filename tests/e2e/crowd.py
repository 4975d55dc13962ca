"""A crowd at a server that is to stop: readers that read, readers that do not, an idle agent and a flooding job.

Shared by the test and by the bench, which run it against the checkout and against the zipapp.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import trio

from tests.e2e.product import Api, Product, api_of, make_repository, until

READERS = 90
STALLED = 10
STOPS_WITHIN = 20.0
"""Seconds after which the server is given up; the goal is a quarter of it."""
SMALL = 4096
"""Receive buffer of those that do not read."""
FIRST = 40_000
"""Lines to begin with: for one who asks for all of them and reads none, more than all buffers on the way hold."""
LINE = "0123456789" * 10
FLOOD = (
    f"flood: {{stage: build, script: ['yes {LINE} | head -n {FIRST}', "
    f"'while :; do yes {LINE} | head -n 20; sleep 0.1; done']}}"
)


async def stop_among_a_crowd(product: Product, repository: Path) -> float:
    """Starts `product`, gathers the crowd, sends SIGTERM; seconds until the process was gone. It must exit with 0."""
    product.start()
    product.agent("busy")
    product.agent("idle")
    async with api_of(product) as api:
        await api.online("busy", "idle")
        run = await api.start(make_repository(repository, FLOOD))
        path = f"/api/v1/runs/{run}/logs/stream"
        reading: set[int] = set()
        await until(lambda: _lines(api, run, FIRST), "a long log")
        async with trio.open_nursery() as nursery:
            for number in range(READERS):
                nursery.start_soon(_read, product.url + path, number, reading)
            await until(lambda: len(reading) == READERS, "everybody reads")
            # Last, and then at once: the kernel cuts them off after three seconds.
            with stalled(product.http_port, path) as ports:
                await until(lambda: unsent(product.http_port) >= ports, "the buffers of the stalled are full")
                began = time.monotonic()
                assert product.process is not None
                product.process.send_signal(signal.SIGTERM)
                code = await trio.to_thread.run_sync(product.process.wait, STOPS_WITHIN)
                took = time.monotonic() - began
            nursery.cancel_scope.cancel()
    assert code == 0, product.log()
    return took


async def _lines(api: Api, run: str, count: int) -> bool:
    """Whether a job of the run has so many lines."""
    answer = await api.get(f"/api/v1/runs/{run}?logs=1")
    return any(job.get("logs_total", 0) >= count for stage in answer["stages"] for job in stage["jobs"])


async def _read(url: str, number: int, reading: set[int]) -> None:
    """A reader that reads, until the server ends the stream."""
    with contextlib.suppress(httpx.TransportError):
        async with httpx.AsyncClient(timeout=60) as http, http.stream("GET", url) as response:
            async for piece in response.aiter_raw():
                if b"event: log" in piece:
                    reading.add(number)


@contextlib.contextmanager
def stalled(port: int, path: str) -> Iterator[set[int]]:
    """STALLED connections that ask for everything and never read; gives their local ports."""
    with contextlib.ExitStack() as open_sockets:
        ports = set()
        for _ in range(STALLED):
            sock = open_sockets.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
            sock.connect(("127.0.0.1", port))
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 0\r\n\r\n".encode())
            ports.add(sock.getsockname()[1])
        yield ports


def unsent(port: int) -> set[int]:
    """The far ends of a server's connections on which more than SMALL bytes wait to be sent."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if int(local.split(":")[1], 16) == port and int(queues.split(":")[0], 16) > SMALL:
            found.add(int(remote.split(":")[1], 16))
    return found
