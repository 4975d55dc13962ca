"""How many log lines a second the agent can send: a real agent process against a sink that only counts.

`figures()` is what the bench verb calls; started with `sink` this file is the counting server.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

LINES = 500_000
LINE = "x" * 99
GOAL = 40_000


def figures() -> list[tuple[str, float, str, float]]:
    """(name, value, unit, goal): lines a second of one job that prints 100-byte lines as fast as it can."""
    listener = socket.create_server(("127.0.0.1", 0))
    sink = subprocess.Popen(
        [sys.executable, __file__, "sink", str(listener.fileno())], pass_fds=[listener.fileno()], stdout=subprocess.PIPE
    )
    with tempfile.TemporaryDirectory() as work:
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "GOCDNEXT_SERVER_ADDR": f"127.0.0.1:{listener.getsockname()[1]}",
            "GOCDNEXT_AGENT_NAME": "bench",
            "GOCDNEXT_AGENT_TOKEN": "bench",
            "GOCDNEXT_WORKSPACE_ROOT": work,
        }
        code = "import sys; from gocdnext.agent.main import main; sys.exit(main())"
        agent = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.DEVNULL)
        try:
            report, _ = sink.communicate(timeout=120)
        finally:
            agent.terminate()
            sink.kill()
            agent.wait(30)
            sink.wait(10)
            listener.close()
    lines, seconds = report.split()
    if int(lines) != LINES:
        raise RuntimeError(f"the agent sent {int(lines)} lines of {LINES}")
    return [("log lines from one agent to a sink, 100-byte lines", LINES / float(seconds), "lines/s", GOAL)]


async def _sink(listener: socket.socket) -> None:
    from grpclib.server import Server

    from gocdnext.proto.agent_grpc import AgentServiceBase
    from gocdnext.proto.agent_pb2 import AgentMessage, JobAssignment, RegisterResponse, ServerMessage, TaskSpec

    finished = asyncio.Event()

    class Sink(AgentServiceBase):
        async def Register(self, stream: Any) -> None:
            await stream.recv_message()
            await stream.send_message(RegisterResponse(session_id="s", heartbeat_seconds=30))

        async def Connect(self, stream: Any) -> None:
            script = f"yes {LINE} | head -n {LINES}"
            job = JobAssignment(run_id="0" * 36, job_id="1" * 36, tasks=[TaskSpec(script=script)])
            await stream.send_message(ServerMessage(assign=job))
            lines, began, data = 0, 0.0, b""
            # grpclib's own reading costs more than the agent's sending; a sink must not be what is measured.
            buffer = stream._stream.buffer
            while True:
                chunk, _, size = await buffer._unacked.get()
                buffer._ack_callback(size)
                data += chunk
                at = 0
                while len(data) - at >= 5:
                    (length,) = struct.unpack_from(">I", data, at + 1)
                    if len(data) - at < 5 + length:
                        break
                    kind = data[at + 5] >> 3
                    if kind == 3:
                        began = began or time.perf_counter()
                        lines += data.find(LINE.encode(), at, at + 5 + length) >= 0 and data[at + 4 + length] == 120
                    elif kind == 4:
                        AgentMessage.FromString(data[at + 5 : at + 5 + length])
                        print(lines, time.perf_counter() - began, flush=True)
                        finished.set()
                        return
                    at += 5 + length
                data = data[at:]

        async def RequestCacheGet(self, stream: Any) -> None: ...

        async def RequestCachePut(self, stream: Any) -> None: ...

        async def MarkCacheReady(self, stream: Any) -> None: ...

        async def RequestArtifactUpload(self, stream: Any) -> None: ...

    server = Server([Sink()])
    await server.start(sock=listener)
    await finished.wait()
    server.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["sink"]:
        asyncio.run(_sink(socket.socket(fileno=int(sys.argv[2]))))
    else:
        for name, value, unit, goal in figures():
            print(f"{name}: {value:,.0f} {unit} (goal {goal:,})")
