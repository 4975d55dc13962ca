"""A client that costs next to nothing, so that what is measured is the server: a few connections that each send the
same request again as soon as its answer is complete."""

from __future__ import annotations

import math
import re
import selectors
import socket
import time
from dataclasses import dataclass

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CONNECTIONS = 8


@dataclass(frozen=True)
class Measured:
    """What the requests of one measurement took; times in milliseconds."""

    rate: float
    times: list[float]

    def quantile(self, share: float) -> float:
        """The time that this share of the requests did not exceed."""
        return self.times[math.ceil(len(self.times) * share) - 1]


class _Connection:
    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = request
        self.send()

    def send(self) -> None:
        self.got = bytearray()
        self.want = 0
        self.began = time.perf_counter()
        self.socket.sendall(self.request)

    def complete(self) -> bool:
        """Reads what there is; whether the answer is whole now."""
        data = self.socket.recv(1024 * 1024)
        if not data:
            raise RuntimeError("the server closed a connection")
        self.got += data
        if not self.want and (end := self.got.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.got[:end])
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(bytes(self.got).decode(errors="replace"))
            length = _LENGTH.search(head)
            assert length is not None, head
            self.want = end + 4 + int(length[1])
        return bool(self.want) and len(self.got) >= self.want


def load(port: int, path: str, seconds: float, *headers: str, warm_up: float = 1.0) -> Measured:
    """Requests of `path` on CONNECTIONS connections for `seconds`, after `warm_up` seconds that are not counted."""
    lines = (f"GET {path} HTTP/1.1", "Host: bench", *headers)
    request = "".join(f"{line}\r\n" for line in (*lines, "")).encode()
    times: list[float] = []
    with selectors.DefaultSelector() as selector:
        connections = [_Connection(port, request) for _ in range(CONNECTIONS)]
        try:
            for connection in connections:
                selector.register(connection.socket, selectors.EVENT_READ, connection)
            started = time.perf_counter() + warm_up
            end = started + seconds
            while (now := time.perf_counter()) < end:
                for key, _ in selector.select(30):
                    connection = key.data
                    if connection.complete():
                        if connection.began >= started:
                            times.append((time.perf_counter() - connection.began) * 1000)
                        connection.send()
            elapsed = now - started
        finally:
            for connection in connections:
                connection.socket.close()
    times.sort()
    return Measured(len(times) / elapsed, times)
