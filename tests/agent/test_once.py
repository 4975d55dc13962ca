"""`agent --once` as a process, and the agent's HTTP endpoint, over real sockets."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trio

from gocdnext.agent.activity import Activity
from gocdnext.agent.config import AgentSettings, ConfigError
from gocdnext.agent.metrics import serve
from tests.agent.scripted_server import PATIENCE, TOKEN, ScriptedServer, Stream, rig, script_job, scripted_server

ROOT = Path(__file__).parents[2]


async def _agent(server: ScriptedServer, folder: Path, *arguments: str, **variables: str) -> trio.Process:
    env = {
        **os.environ,
        "GOCDNEXT_SERVER_ADDR": f"127.0.0.1:{server.port}",
        "GOCDNEXT_AGENT_NAME": "agent-1",
        "GOCDNEXT_AGENT_TOKEN": TOKEN,
        "GOCDNEXT_AGENT_CAPACITY": "4",
        "GOCDNEXT_WORKSPACE_ROOT": str(folder / "work"),
        **variables,
    }
    with (folder / "output").open("wb") as file:
        return await trio.lowlevel.open_process(
            [sys.executable, "-m", "gocdnext.cli", "agent", *arguments],
            env=env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )


async def _exit_code(process: trio.Process) -> int:
    with trio.fail_after(PATIENCE):
        return await process.wait()


@pytest.mark.parametrize(("script", "code"), [("echo ran", 0), ("exit 7", 1)])
async def test_one_job_and_its_exit_code(tmp_path: Path, script: str, code: int) -> None:
    async with scripted_server() as server:
        process = await _agent(server, tmp_path, "--once")
        stream = await server.stream()
        # Both are there before it can say that it wants no more: the second one is left to the server.
        stream.assign(script_job(f"{script}"))
        stream.assign(script_job("echo never", "job-2"))
        await stream.result()
        assert await _exit_code(process) == code
        assert stream.half_closed
        assert [result.job_id for result in stream.results()] == ["job-1"]
        assert _draining_before_result(stream)
        assert server.registrations[0].capacity == 1
        assert os.listdir(tmp_path / "work") == []


def _draining_before_result(stream: Stream) -> bool:
    kinds = [message.WhichOneof("kind") for message in stream.messages]
    return kinds.index("draining") < kinds.index("result") and kinds.count("draining") == 1


async def test_no_job_within_the_wait(tmp_path: Path) -> None:
    async with scripted_server() as server:
        process = await _agent(server, tmp_path, "--once", "--wait", "100ms")
        assert await _exit_code(process) == 3


async def test_a_signal_drains_as_ever(tmp_path: Path) -> None:
    async with scripted_server() as server:
        process = await _agent(server, tmp_path, "--once", GOCDNEXT_DRAIN_BUDGET="0s")
        stream = await server.stream()
        stream.assign(script_job("echo ready; exec sleep 1000"))
        await stream.until_line("ready")
        process.send_signal(signal.SIGTERM)
        assert await _exit_code(process) == 1
        assert stream.results() == []


async def test_a_lost_server_ends_it(tmp_path: Path) -> None:
    async with scripted_server() as server:
        process = await _agent(server, tmp_path, "--once")
        stream = await server.stream()
        stream.assign(script_job("echo ready; exec sleep 1000"))
        await stream.until_line("ready")
        await server.vanish()
        assert await _exit_code(process) == 1


@pytest.mark.parametrize("arguments", [("--once", "--wait", "soon"), ("--wait", "1s")])
async def test_wrong_options(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    process = await _agent(ScriptedServer(), tmp_path, *arguments)
    assert await _exit_code(process) == 2
    assert b"--wait" in (tmp_path / "output").read_bytes()


async def test_an_address_that_is_taken_is_explained(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with scripted_server() as server:
            process = await _agent(server, tmp_path, GOCDNEXT_METRICS_ADDR=address)
            assert await _exit_code(process) == 1
            assert f"GOCDNEXT_METRICS_ADDR: cannot listen at {address}".encode() in (tmp_path / "output").read_bytes()


async def test_numbers(tmp_path: Path) -> None:
    async with rig(tmp_path / "work") as it, trio.open_nursery() as nursery:
        activity = it.client._activity
        port = await nursery.start(serve, ("127.0.0.1", 0), activity)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            assert (await http.get("/healthz")).text == "ok\n"
            await it.run(script_job("echo one; echo two"))
            await it.run(script_job("exit 1", "job-2"))
            stream = await it.server.stream()
            stream.assign(script_job("echo ready; exec sleep 1000", "job-3"))
            await stream.until(lambda: "ready" in stream.texts("job-3"))
            numbers = _numbers((await http.get("/metrics")).text)
            assert numbers["gocdnext_agent_jobs_running"] == 1
            assert numbers["gocdnext_agent_jobs_taken_total"] == 3
            assert numbers['gocdnext_agent_jobs_ended_total{result="success"}'] == 1
            assert numbers['gocdnext_agent_jobs_ended_total{result="failed"}'] == 1
            assert numbers["gocdnext_agent_log_lines_total"] == 4 + 2 + 2
            assert numbers["gocdnext_agent_reconnects_total"] == 0
            stream.end()
            await it.server.stream(1)
            numbers = _numbers((await http.get("/metrics?x")).text)
            assert numbers["gocdnext_agent_reconnects_total"] == 1
            assert numbers['gocdnext_agent_jobs_ended_total{result="stopped"}'] == 1
            assert (await http.get("/")).status_code == 404
            assert (await http.post("/metrics", content=b"x" * 100_000)).status_code == 405
            assert (await http.head("/healthz")).content == b""
        nursery.cancel_scope.cancel()


async def test_no_session_is_not_healthy_and_rubbish_ends_the_connection_only() -> None:
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve, ("127.0.0.1", 0), Activity())
        for rubbish in (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 50_000, b""):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            with trio.fail_after(PATIENCE):
                try:
                    await stream.send_all(rubbish)
                    await stream.send_eof()
                    while await stream.receive_some(1000):
                        pass
                except trio.BrokenResourceError:
                    pass
            await stream.aclose()
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"http://127.0.0.1:{port}/healthz")
            assert (answer.status_code, answer.text) == (503, "no session with the server\n")
        nursery.cancel_scope.cancel()


def test_the_address() -> None:
    base = {"GOCDNEXT_SERVER_ADDR": "h:1", "GOCDNEXT_AGENT_NAME": "n", "GOCDNEXT_AGENT_TOKEN": "t"}
    for text, expected in (("", None), (":9464", ("127.0.0.1", 9464)), ("0.0.0.0:1", ("0.0.0.0", 1))):
        assert AgentSettings.from_env({**base, "GOCDNEXT_METRICS_ADDR": text}).metrics_addr == expected
    with pytest.raises(ConfigError, match="GOCDNEXT_METRICS_ADDR is '9464'; write host:port"):
        AgentSettings.from_env({**base, "GOCDNEXT_METRICS_ADDR": "9464"})
    assert AgentSettings.from_env({**base, "GOCDNEXT_WORKSPACE_MIN_FREE": "0"}).workspace_min_free == 0
    assert AgentSettings.from_env({**base, "GOCDNEXT_MIRROR_LIMIT": "2Gi"}).mirror_limit == 2 * 1024**3
    with pytest.raises(ConfigError, match="GOCDNEXT_MIRROR_LIMIT: 'lots' is not a quantity"):
        AgentSettings.from_env({**base, "GOCDNEXT_MIRROR_LIMIT": "lots"})
    with pytest.raises(ConfigError, match="is not an absolute path below /"):
        AgentSettings.from_env({**base, "GOCDNEXT_SANDBOX_READ_ONLY_PATHS": "/a,b"})


def _numbers(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^(gocdnext_\S+) (\S+)$", text, re.MULTILINE)}
