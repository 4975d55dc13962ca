"""Start, memory and size of the whole product, as a user has it: the zipapp."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import httpx

from tests.bench.stack import PROGRAM, Server, pss_kib, scratch, serving

Figure = tuple[str, float, str, str]
WARM_STARTS = 5
SSE_READERS, STALLED = 100, 10


def figures() -> list[Figure]:
    """Starts, idle memory, stop with readers, sizes."""
    size = PROGRAM.stat().st_size / 1e6
    result: list[Figure] = [("zipapp with PostgreSQL", size, "MB", "24")]
    with scratch() as folder:
        state, shiv_root = folder / "state", folder / "shiv"
        with serving(state, shiv_root=shiv_root) as server:
            result.append(("serve to readyz, first boot", server.ready_after, "s", "6"))
        warm = []
        for _ in range(WARM_STARTS):
            with serving(state, shiv_root=shiv_root) as server:
                warm.append(server.ready_after)
        result.append(("serve to readyz, warm (median)", sorted(warm)[WARM_STARTS // 2], "s", "2"))
        with serving(state, shiv_root=shiv_root) as server:
            result.append(("idle memory, server + PostgreSQL, one idle agent", _idle_mb(server), "MB PSS", "110"))
    return result


def _idle_mb(server: Server) -> float:
    environment = os.environ | {
        "GOCDNEXT_SERVER_ADDR": f"127.0.0.1:{server.grpc_port}",
        "GOCDNEXT_AGENT_NAME": "idle",
        "GOCDNEXT_AGENT_TOKEN": "bench-registration-token",
    }
    agent = subprocess.Popen([PROGRAM, "agent"], env=environment, stdout=subprocess.DEVNULL)
    try:
        while not any(a["status"] == "online" for a in httpx.get(f"{server.http}/api/v1/agents").json()["agents"]):
            time.sleep(0.1)
        time.sleep(10)
        return sum(pss_kib(pid) for pid in server.descendants()) / 1024
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(15)


if __name__ == "__main__":
    for figure in figures():
        print(*figure, file=sys.stdout)
