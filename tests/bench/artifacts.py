"""1 GiB up and down through the server on loopback, beside what the same bytes take without one, and its memory.

The agent that asks for the ticket is scripted; the bytes go through plain sockets in a process of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from grpclib.client import Channel

from gocdnext.proto import agent_pb2 as pb
from gocdnext.proto.agent_grpc import AgentServiceStub
from tests.bench.dispatch import apply
from tests.bench.stack import Server, scratch, serving

Figure = tuple[str, float, str, str]
MIB = 2**20
SIZE = 1024 * MIB
PIECE = MIB
ROUNDS = 3
PIPELINE = """\
materials: [{manual: true}]
stages: [s]
jobs:
  make: {stage: s, script: [x], artifacts: {paths: [big, bigger, biggest]}}
  take: {stage: s, script: [x], needs: [make], needs_artifacts: [{from_job: make}]}
"""


def figures() -> list[Figure]:
    """The best of ROUNDS each: other work on the machine only ever slows down."""
    with scratch() as folder:
        floor_up = max(_floor_up(folder) for _ in range(ROUNDS))
        floor_down = max(_floor_down(folder) for _ in range(ROUNDS))
        with serving(folder / "state", shiv_root=folder / "shiv") as server:
            up, down, grown = asyncio.run(_through(server))
    return [
        ("1 GiB artifact up through the server", up, "MB/s", "250"),
        ("1 GiB artifact down through the server", down, "MB/s", "250"),
        ("server memory while 1 GiB goes up and down, growth", grown, "MB", "32"),
        ("up: socket to file with sha256 and fsync, no server", floor_up, "MB/s", ""),
        ("down: file to socket, no server", floor_down, "MB/s", ""),
        ("up, share of the floor", up / floor_up * 100, "%", ""),
        ("down, share of the floor", down / floor_down * 100, "%", ""),
    ]


async def _through(server: Server) -> tuple[float, float, float]:
    async with (
        httpx.AsyncClient(base_url=server.http, timeout=60) as client,
        Channel("127.0.0.1", server.grpc_port) as c,
    ):
        pipelines = await apply(client, {"p.yaml": PIPELINE})
        stub = AgentServiceStub(c)
        session = (await stub.Register(pb.RegisterRequest(agent_id="a", token="bench-registration-token"))).session_id
        async with stub.Connect.open(metadata={"x-gocdnext-session": session}) as stream:
            await stream.send_message(pb.AgentMessage(heartbeat=pb.Heartbeat()))
            await client.post(f"/api/v1/pipelines/{pipelines['p']}/trigger")
            job = await _assignment(stream)
            request = pb.RequestArtifactUploadRequest(
                session_id=session, run_id=job.run_id, job_id=job.job_id, paths=["big", "bigger", "biggest"]
            )
            tickets = list((await stub.RequestArtifactUpload(request)).tickets)[:ROUNDS]
            before, content = resident(server.process.pid), _content()
            with _highest(server.process.pid) as highest:
                up = max([await _transfer("put", ticket.put_url) for ticket in tickets])
                refs = [
                    pb.ArtifactRef(path=t.path, storage_key=t.storage_key, size=SIZE, content_sha256=content)
                    for t in tickets
                ]
                result = pb.JobResult(
                    run_id=job.run_id, job_id=job.job_id, status=pb.RUN_STATUS_SUCCESS, artifacts=refs
                )
                await stream.send_message(pb.AgentMessage(result=result))
                downloads = (await _assignment(stream)).artifact_downloads
                down = max([await _transfer("get", download.get_url) for download in downloads])
            await stream.cancel()
            return up, down, (highest[0] - before) / 1e6


async def _assignment(stream: object) -> pb.JobAssignment:
    async with asyncio.timeout(60):
        async for message in stream:  # type: ignore[attr-defined]
            if message.WhichOneof("kind") == "assign":
                found: pb.JobAssignment = message.assign
                return found
    raise ConnectionError("the stream has ended")


async def _transfer(verb: str, url: str) -> float:
    """MB/s, as the process that moved the bytes has measured it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.artifacts", verb, url, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{verb} ended with {process.returncode}")
    return float(out)


def resident(pid: int) -> int:
    """Bytes that a process has in memory for itself."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:"))


@contextlib.contextmanager
def _highest(pid: int) -> Iterator[list[int]]:
    """The most memory the process has had while the block lasted, looked at 20 times a second."""
    seen, done = [resident(pid)], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            seen[0] = max(seen[0], resident(pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield seen
    finally:
        done.set()
        watching.join()


def _pieces() -> Iterator[bytes]:
    piece = bytes(range(256)) * (PIECE // 256)
    for _ in range(SIZE // PIECE):
        yield piece


def _content() -> str:
    digest = hashlib.sha256()
    for piece in _pieces():
        digest.update(piece)
    return digest.hexdigest()


def _put(url: str) -> float:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    started = time.perf_counter()
    connection.request("PUT", parts.path, body=_pieces(), headers={"Content-Length": str(SIZE)})
    answer = connection.getresponse()
    answer.read()
    took = time.perf_counter() - started
    if answer.status != 204:
        raise RuntimeError(f"{answer.status}")
    return SIZE / 1e6 / took


def _get(url: str) -> float:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    started = time.perf_counter()
    connection.request("GET", parts.path)
    answer = connection.getresponse()
    buffer, got = bytearray(PIECE), 0
    while count := answer.readinto(buffer):
        got += count
    if got != SIZE:
        raise RuntimeError(f"{answer.status}: {got} bytes")
    return SIZE / 1e6 / (time.perf_counter() - started)


def _floor_up(folder: Path) -> float:
    """One thread sends, one receives, hashes, writes and syncs."""
    ours, theirs = socket.socketpair()
    sending = threading.Thread(target=lambda: [ours.sendall(piece) for piece in _pieces()] and ours.close())
    buffer, digest = bytearray(PIECE), hashlib.sha256()
    started = time.perf_counter()
    with (folder / "floor").open("wb", buffering=0) as file, theirs:
        sending.start()
        while count := theirs.recv_into(buffer):
            digest.update(memoryview(buffer)[:count])
            file.write(memoryview(buffer)[:count])
        os.fsync(file.fileno())
    took = time.perf_counter() - started
    sending.join()
    return SIZE / 1e6 / took


def _floor_down(folder: Path) -> float:
    """One thread reads the file and sends, one receives."""
    ours, theirs = socket.socketpair()

    def send() -> None:
        with (folder / "floor").open("rb", buffering=0) as file, ours:
            while piece := file.read(PIECE):
                ours.sendall(piece)

    sending = threading.Thread(target=send)
    buffer = bytearray(PIECE)
    started = time.perf_counter()
    sending.start()
    with theirs:
        while theirs.recv_into(buffer):
            pass
    sending.join()
    return SIZE / 1e6 / (time.perf_counter() - started)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print({"put": _put, "get": _get}[sys.argv[1]](sys.argv[2]))
    else:
        for figure in figures():
            print(*figure)
