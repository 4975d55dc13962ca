"""The agent as a process of its own: signals, exit codes, sudden death, memory."""

# ruff: noqa: ASYNC110 -- looking at small local files, and polling other processes, is what these tests do

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from gocdnext.proto import agent_pb2
from tests.agent.scripted_server import PATIENCE, TOKEN, ScriptedServer, Stream, script_job, scripted_server

ROOT = Path(__file__).parent.parent.parent
SUCCESS = agent_pb2.RUN_STATUS_SUCCESS
HANG = "mkfifo fifo; echo $$; echo ready; cat fifo"
TINY = 30
"""MB that an agent may grow while a job prints 100 MB."""


class Agent:
    def __init__(self, process: trio.Process, server: ScriptedServer, out: Path) -> None:
        self.process = process
        self.server = server
        self._out = out

    async def exit_code(self) -> int:
        with trio.fail_after(PATIENCE):
            return await self.process.wait()

    def output(self) -> str:
        return self._out.read_text()

    def peak_kb(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


@contextlib.asynccontextmanager
async def agent_process(
    tmp_path: Path, *, keep_logs: bool = True, variables: Mapping[str, str] | None = None
) -> AsyncIterator[Agent]:
    async with scripted_server(keep_logs=keep_logs) as server:
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "GOCDNEXT_SERVER_ADDR": f"127.0.0.1:{server.port}",
            "GOCDNEXT_AGENT_NAME": "agent-1",
            "GOCDNEXT_AGENT_TOKEN": TOKEN,
            "GOCDNEXT_WORKSPACE_ROOT": str(tmp_path / "work"),
            **(variables or {}),
        }
        out = tmp_path / "output"
        code = "import sys; from gocdnext.agent.main import main; sys.exit(main())"
        with out.open("wb") as file:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-c", code], env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        try:
            yield Agent(process, server, out)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                if process.poll() is None:
                    process.kill()
                    await process.wait()


async def hanging(agent: Agent) -> Stream:
    stream = await agent.server.stream()
    stream.assign(script_job(HANG))
    await stream.until_line("ready")
    return stream


async def gone(pid: int) -> None:
    with trio.fail_after(PATIENCE):
        while True:
            try:
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}:
                    return
            except (FileNotFoundError, ProcessLookupError):
                return
            await trio.sleep(0.01)  # polling a condition, bounded above


@pytest.mark.slow
async def test_the_first_signal_drains_and_exits_0(tmp_path: Path) -> None:
    async with agent_process(tmp_path) as agent:
        stream = await hanging(agent)
        agent.process.send_signal(signal.SIGTERM)
        await stream.until(lambda: any(message.HasField("draining") for message in stream.messages))
        (fifo_path,) = (tmp_path / "work" / "run-1").glob("job-1-????????/fifo")
        async with await trio.open_file(fifo_path, "w") as fifo:
            await fifo.write("go on\n")
        assert await agent.exit_code() == 0
        assert stream.results()[0].status == SUCCESS
        assert stream.half_closed
        for line in agent.output().splitlines():
            assert {"event", "level", "timestamp"} <= set(json.loads(line))
        assert TOKEN not in agent.output()


@pytest.mark.slow
async def test_the_second_signal_kills_and_exits_130(tmp_path: Path) -> None:
    async with agent_process(tmp_path) as agent:
        stream = await hanging(agent)
        agent.process.send_signal(signal.SIGINT)
        await stream.until(lambda: any(message.HasField("draining") for message in stream.messages))
        agent.process.send_signal(signal.SIGTERM)
        assert await agent.exit_code() == 130
        assert stream.results() == []
        await gone(int(stream.printed()[0]))
        assert not (tmp_path / "work" / "run-1").exists()


@pytest.mark.slow
async def test_a_killed_agent_takes_its_scripts_with_it(tmp_path: Path) -> None:
    async with agent_process(tmp_path) as agent:
        stream = await hanging(agent)
        agent.process.kill()
        await agent.exit_code()
        await gone(int(stream.printed()[0]))


@pytest.mark.slow
async def test_a_signal_without_a_server_exits_0(tmp_path: Path) -> None:
    async with agent_process(tmp_path, variables={"GOCDNEXT_SERVER_ADDR": "127.0.0.1:1"}) as agent:
        with trio.fail_after(PATIENCE):
            while "trying again" not in agent.output():
                await trio.sleep(0.01)  # polling a condition, bounded above
        agent.process.send_signal(signal.SIGTERM)
        assert await agent.exit_code() == 0


@pytest.mark.slow
async def test_a_wrong_token_exits_1_with_a_sentence(tmp_path: Path) -> None:
    async with agent_process(tmp_path) as agent:
        agent.server.register_error = GRPCError(Status.UNAUTHENTICATED, "invalid token")
        assert await agent.exit_code() == 1
        assert "check GOCDNEXT_AGENT_NAME and GOCDNEXT_AGENT_TOKEN" in agent.output()
        assert "Traceback" not in agent.output()
        assert TOKEN not in agent.output()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GOCDNEXT_AGENT_TOKEN", ""),
        ("GOCDNEXT_AGENT_CAPACITY", "-1"),
        ("GOCDNEXT_AGENT_ENGINE", "kubernetes"),
        ("GOCDNEXT_WORKSPACE_ROOT", "/proc/nowhere"),
    ],
)
async def test_wrong_settings_exit_1_with_a_sentence(tmp_path: Path, name: str, value: str) -> None:
    async with agent_process(tmp_path, variables={name: value}) as agent:
        assert await agent.exit_code() == 1
        assert name in agent.output()
        assert "Traceback" not in agent.output()


@pytest.mark.slow
async def test_100_mb_of_output_in_bounded_memory(tmp_path: Path) -> None:
    """The scripted server reads far slower than the job prints, so this is also about flow control."""
    line = "y" * 999
    async with agent_process(tmp_path, keep_logs=False) as agent:
        stream = await agent.server.stream()
        stream.assign(script_job(":", "job-0"))
        await stream.result("job-0")
        before, lines = agent.peak_kb(), stream.lines
        stream.assign(script_job(f"yes {line} | head -n 100000"))
        assert (await stream.result()).status == SUCCESS
        assert stream.lines - lines == 100_002
        assert agent.peak_kb() - before < TINY * 1024
