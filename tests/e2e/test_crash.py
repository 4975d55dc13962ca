"""A server that is killed in the middle of a run, and what is there when it is started again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import Server
from tests.e2e.test_serve import make_repository

LINES = 40
SEEN_BEFORE_THE_KILL = 8
LONG_JOB = f"for i in $(seq {LINES}); do echo line $i; sleep 0.05; done"


@pytest.mark.slow
def test_a_killed_server_comes_back_with_the_run(server: Server, public_dir: Path) -> None:
    repository = make_repository(public_dir / "repository", LONG_JOB)
    server.start("--local-agent")
    server.call("apply", repository, "--slug", "demo")
    server.call("trigger", "demo/ci")
    follower = subprocess.Popen(
        [sys.executable, server.program, "logs", "-f", "--plain", "demo/ci"],
        env=server.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert follower.stdout is not None
        seen = []
        while sum(line.startswith("line ") for line in seen) < SEEN_BEFORE_THE_KILL:
            seen.append(follower.stdout.readline())
            assert seen[-1], server.log()
        server.kill()
        server.start("--local-agent")
        # The same reader goes on by itself, behind the last line that it has, until the run has ended.
        rest, errors = follower.communicate(timeout=120)
    finally:
        follower.kill()
    assert follower.returncode == 0, errors + server.log()
    assert f"line {LINES}" in rest
    run = json.loads(server.call("run", "show", "--json", "demo/ci#1").stdout)
    assert run["status"] == "success"
    stored = server.call("logs", "--plain", "demo/ci").stdout.splitlines()
    assert [line for line in stored if line.startswith("line ")] == [f"line {i}" for i in range(1, LINES + 1)]
    assert {line.rstrip("\n") for line in seen} <= set(stored)
    assert server.stop() == 0
