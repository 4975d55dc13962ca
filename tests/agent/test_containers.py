"""The container engine on a real podman: jobs, their ends, services, plugins, and that nothing is left behind."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from gocdnext.agent.config import ConfigError
from gocdnext.agent.engines import open_engine
from gocdnext.agent.engines.container import ContainerEngine
from gocdnext.agent.engines.docker_api import DockerApi
from gocdnext.agent.joblog import JobLog
from gocdnext.agent.outbox import Outbox
from gocdnext.proto import agent_pb2
from gocdnext.proto.agent_pb2 import JobAssignment, PluginSpec, ResourceRequirements, ServiceSpec, TaskSpec
from tests.agent.containers import HEALTHY_IMAGE, IMAGE, PLUGIN_IMAGE, SERVICE_IMAGE, Docker, Podman, serving
from tests.agent.registry import PASSWORD, USER
from tests.agent.scripted_server import (
    PATIENCE,
    Rig,
    ScriptedServer,
    rig,
    script_job,
    scripted_server,
    settings_for,
)

FAILED, SUCCESS = agent_pb2.RUN_STATUS_FAILED, agent_pb2.RUN_STATUS_SUCCESS
SERVE = "while :; do echo hello | nc -l -p 8080; done"
"""A service that greets whoever connects. Busybox's shell and nc."""


@contextlib.asynccontextmanager
async def docker_rig(podman: Podman, root: Path, **changes: Any) -> AsyncIterator[Rig]:
    settings = {"engine": "docker", "docker_sockets": (podman.socket,), **changes}
    async with rig(root, **settings) as it:
        yield it


def container_job(script: str, job_id: str = "job-1", image: str = IMAGE, **fields: Any) -> JobAssignment:
    return script_job(script, job_id, image=image, **fields)


async def test_success_streams_and_workspace(podman: Podman, tmp_path: Path) -> None:
    async with docker_rig(podman, tmp_path) as it:
        result = await it.run(container_job('echo out; echo err >&2; pwd; echo "$A"', env={"A": "two  words"}))
        stream = it.server.streams[0]
        assert (result.status, result.exit_code, result.error) == (SUCCESS, 0, "")
        assert stream.texts(stream="stdout")[1:-1] == ["out", "/workspace", "two  words"]
        assert stream.texts(stream="stderr") == ["err"]
        assert it.server.registrations[0].engine == "docker"
        assert list(tmp_path.iterdir()) == []


async def test_exit_code(podman: Podman, tmp_path: Path) -> None:
    async with docker_rig(podman, tmp_path) as it:
        result = await it.run(container_job("echo before; exit 42"))
        assert (result.status, result.exit_code, result.error) == (FAILED, 42, "task 0 exited with 42")
        assert it.server.streams[0].printed() == ["before"]


async def test_lines_arrive_while_it_runs_and_the_workspace_is_the_hosts(podman: Podman, tmp_path: Path) -> None:
    async with docker_rig(podman, tmp_path) as it:
        stream = await it.server.stream()
        stream.assign(container_job("echo made > file; mkfifo fifo; echo ready; cat fifo"))
        await stream.until_line("ready")
        (workspace,) = (tmp_path / "run-1").glob("job-1-????????")
        assert (workspace / "file").read_text() == "made\n"
        async with await trio.open_file(workspace / "fifo", "w") as fifo:
            await fifo.write("go on\n")
        assert (await stream.result()).status == SUCCESS
        assert stream.printed() == ["ready", "go on"]


async def test_tasks_share_the_workspace_and_outputs_are_read(podman: Podman, tmp_path: Path) -> None:
    job = container_job('echo 1 > a; echo "V=$(cat a)" >> "$GOCDNEXT_OUTPUT_FILE"', outputs={"v": "V"})
    job.tasks.add(script="cat a")
    async with docker_rig(podman, tmp_path) as it:
        result = await it.run(job)
        assert (result.status, dict(result.outputs)) == (SUCCESS, {"v": "1"})
        assert it.server.streams[0].printed() == ["1"]


@pytest.mark.slow
async def test_nothing_of_a_flood_is_lost(podman: Podman, tmp_path: Path) -> None:
    count = 100_000
    async with docker_rig(podman, tmp_path) as it:
        result = await it.run(container_job(f"seq {count}; echo end >&2"))
        assert result.status == SUCCESS
        lines = it.server.streams[0].texts(stream="stdout")[1:-1]
        assert lines == [str(number) for number in range(1, count + 1)]


async def test_secrets_are_masked_and_in_no_command_line(podman: Podman, tmp_path: Path) -> None:
    async with docker_rig(podman, tmp_path) as it:
        job = container_job(
            "echo $S; cat /proc/1/cmdline | tr '\\0' ' '; echo", env={"S": "hunter2"}, log_masks=["hunter2"]
        )
        await it.run(job)
        assert it.server.streams[0].printed()[0] == "***"
        assert "hunter2" not in "".join(it.server.streams[0].texts())


async def test_cancel_kills_the_container(podman: Podman, tmp_path: Path) -> None:
    async with docker_rig(podman, tmp_path) as it:
        stream = await it.server.stream()
        stream.assign(container_job("trap '' TERM INT; echo ready; while :; do sleep 1000; done"))
        await stream.until_line("ready")
        assert len(podman.containers()) == 1
        stream.cancel("job-1")
        result = await stream.result()
        assert (result.exit_code, result.error) == (-1, "task 0: canceled (user canceled)")
        assert podman.containers() == []


async def test_a_missing_image_is_explained(podman: Podman, tmp_path: Path) -> None:
    async with docker_rig(podman, tmp_path, docker_pull_policy="never") as it:
        result = await it.run(container_job(":", image="localhost/nothing:1"))
        assert result.exit_code == -1
        assert result.error == (
            "task 0: the image localhost/nothing:1 is not on this machine, and the pull policy is never"
        )


async def test_a_missing_image_is_pulled_with_lines_about_it(podman: Podman, tmp_path: Path) -> None:
    image = f"{podman.registry.address}/team/box"
    try:
        async with docker_rig(podman, tmp_path) as it:
            result = await it.run(container_job("echo ran", image=image))
            stream = it.server.streams[0]
            assert result.status == SUCCESS, (result.error, stream.texts())
            assert f"$ pull image {image}:latest" in stream.texts()
            assert len(stream.printed()) > 1
            assert stream.printed()[-1] == "ran"
            result = await it.run(container_job("echo again", "job-2", image=image))
            assert [text for text in stream.texts("job-2") if "pull" in text] == []
    finally:
        podman.run("rmi", f"{image}:latest")


async def test_a_pull_uses_the_login_of_docker(podman: Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = f"{podman.private_registry.address}/private/box:1"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    async with docker_rig(podman, tmp_path / "root") as it:
        result = await it.run(container_job("echo ran", image=image))
        assert result.error.startswith(f"task 0: cannot pull the image {image}: ")
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        config = {"auths": {podman.private_registry.address: {"auth": auth}}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        try:
            result = await it.run(container_job("echo ran", "job-2", image=image))
            assert result.status == SUCCESS, result.error
        finally:
            podman.run("rmi", image)
        assert PASSWORD not in "".join(it.server.streams[0].texts("job-2"))


@pytest.mark.slow
async def test_a_failed_pull_is_explained(podman: Podman, tmp_path: Path) -> None:
    image = "127.0.0.1:1/nothing"  # nobody listens on port 1
    async with docker_rig(podman, tmp_path) as it:
        result = await it.run(container_job(":", image=image))
        assert result.error.startswith(f"task 0: cannot pull the image {image}:latest: ")
        assert f"$ pull image {image}:latest" in it.server.streams[0].texts()


async def test_an_image_without_a_shell_says_what_is_missing(podman: Podman, tmp_path: Path) -> None:
    empty = tmp_path / "empty.tar"
    empty.write_bytes(bytes(10240))  # a tar without entries
    podman.run("import", str(empty), "localhost/empty:test")
    async with docker_rig(podman, tmp_path / "root") as it:
        result = await it.run(container_job(":", image="localhost/empty:test"))
        assert result.status == FAILED
        assert "No such file or directory" in it.server.streams[0].texts(stream="stderr")[-1]


async def test_137_is_explained(podman: Podman, tmp_path: Path) -> None:
    async with docker_rig(podman, tmp_path) as it:
        result = await it.run(container_job("kill -9 $$"))
        assert (result.exit_code, result.error) == (137, "task 0 exited with 137")
        assert "out of memory" in it.server.streams[0].texts(stream="stderr")[-1]


@pytest.mark.slow
async def test_the_memory_limit_of_the_job_kills(podman: Podman, tmp_path: Path) -> None:
    async with docker_rig(podman, tmp_path) as it:
        hungry = "exec dd if=/dev/zero of=/dev/null bs=256M count=1"
        result = await it.run(container_job(hungry, resources=ResourceRequirements(memory_limit="32Mi")))
        assert result.exit_code == 137
        assert "out of memory" in it.server.streams[0].texts(stream="stderr")[-1]


async def test_a_bad_limit_is_explained(podman: Podman, tmp_path: Path) -> None:
    async with docker_rig(podman, tmp_path) as it:
        result = await it.run(container_job(":", resources=ResourceRequirements(memory_limit="lots")))
        assert result.error == "engine: resources: 'lots' is not a quantity; write for example 512Mi or 2G"


async def test_docker_true_gives_the_socket(podman: Podman, tmp_path: Path) -> None:
    async with docker_rig(podman, tmp_path) as it:
        result = await it.run(container_job('test -S /var/run/docker.sock; echo "$DOCKER_HOST"', docker=True))
        assert result.status == SUCCESS, result.error
        assert it.server.streams[0].printed() == ["unix:///var/run/docker.sock"]


async def test_a_plugin_runs_its_entry_point(podman: Podman, tmp_path: Path) -> None:
    job = JobAssignment(run_id="run-1", job_id="job-1", env={"PLUGIN_LEVEL": "from the job", "CI": "true"})
    settings = {"targetEnv": "a b", "node-version": "20", "level": "from the file"}
    job.tasks.append(TaskSpec(plugin=PluginSpec(image=PLUGIN_IMAGE, settings=settings)))
    async with docker_rig(podman, tmp_path) as it:
        result = await it.run(job)
        stream = it.server.streams[0]
        assert result.status == SUCCESS, result.error
        assert stream.texts()[0] == f"$ plugin {PLUGIN_IMAGE}"
        assert sorted(stream.printed()) == [
            "/workspace",
            "CI=true",
            "PLUGIN_LEVEL=from the job",
            "PLUGIN_NODE_VERSION=20",
            "PLUGIN_TARGET_ENV=a b",
        ]


async def test_a_service_is_ready_when_its_port_accepts(podman: Podman, tmp_path: Path) -> None:
    # Without the wait, the job would find nobody: the port opens a second after the container runs.
    service = ServiceSpec(name="web", image=SERVICE_IMAGE, command=["sh", "-c", f"sleep 1; {SERVE}"])
    async with docker_rig(podman, tmp_path) as it:
        result = await it.run(container_job("nc web 8080 < /dev/null", services=[service]))
        stream = it.server.streams[0]
        assert result.status == SUCCESS, (result.error, stream.texts())
        assert stream.printed()[-1] == "hello"
        assert f"$ starting service web ({SERVICE_IMAGE})" in stream.texts()
        assert "waiting for service web: port 8080" in stream.texts()
        assert any(text.startswith("service web is ready after") for text in stream.texts())


async def test_a_service_is_ready_when_its_health_check_says_so(podman: Podman, tmp_path: Path) -> None:
    command = ["sh", "-c", "sleep 1; : > /tmp/healthy; exec sleep 1000"]
    service = ServiceSpec(name="db", image=HEALTHY_IMAGE, command=command, env={"X": "1"})
    async with docker_rig(podman, tmp_path) as it:
        result = await it.run(container_job("echo ran", services=[service]))
        assert result.status == SUCCESS, (result.error, it.server.streams[0].texts())
        assert "waiting for service db: its health check" in it.server.streams[0].texts()


async def test_a_service_that_ends_fails_the_job_with_its_last_words(podman: Podman, tmp_path: Path) -> None:
    service = ServiceSpec(name="db", image=SERVICE_IMAGE, command=["sh", "-c", "echo no space; exit 3"])
    async with docker_rig(podman, tmp_path) as it:
        result = await it.run(container_job("echo ran", services=[service]))
        assert result.error.startswith("services: db ended with exit code 3 before it was ready")
        assert "[db] no space" in it.server.streams[0].texts(stream="stderr")
        assert "ran" not in it.server.streams[0].texts()


async def test_cancel_while_a_service_starts(podman: Podman, tmp_path: Path) -> None:
    service = ServiceSpec(name="db", image=SERVICE_IMAGE, command=["sleep", "1000"])
    async with docker_rig(podman, tmp_path) as it:
        stream = await it.server.stream()
        stream.assign(container_job("echo ran", services=[service]))
        await stream.until_line("waiting for service db: port 8080")
        stream.cancel("job-1")
        assert (await stream.result()).error == "services: canceled (user canceled)"
        assert podman.containers() == []
        assert podman.networks() == []


async def test_an_engine_that_dies_fails_the_job_and_the_next_start_cleans_up(podman: Podman, tmp_path: Path) -> None:
    if isinstance(podman, Docker):
        pytest.skip("containers of docker die with it")
    second = dataclasses.replace(podman, socket_name="second.sock")
    with serving(second) as service:
        async with docker_rig(second, tmp_path) as it:
            stream = await it.server.stream()
            stream.assign(container_job("echo ready; exec sleep 1000"))
            await stream.until_line("ready")
            service.kill()
            result = await stream.result()
            assert result.exit_code == -1
            assert result.error.startswith(f"task 0: the container engine at {second.socket} does not answer")
    assert len(podman.containers()) == 1
    await open_engine(
        settings_for(ScriptedServer(), tmp_path, engine="docker", docker_sockets=(podman.socket,))
    ).start()
    assert podman.containers() == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_an_engine_that_is_stopped_fails_its_job_and_the_agent_goes_on(
    podman: Podman, tmp_path: Path, how: signal.Signals
) -> None:
    second = dataclasses.replace(podman, socket_name="second.sock")
    if isinstance(podman, Docker):
        pytest.skip("there is one daemon only")
    with contextlib.ExitStack() as first:
        service = first.enter_context(serving(second))
        async with docker_rig(second, tmp_path) as it:
            stream = await it.server.stream()
            stream.assign(container_job("echo ready; exec sleep 1000"))
            await stream.until_line("ready")
            service.send_signal(how)
            result = await stream.result()
            assert (result.status, result.exit_code) == (FAILED, -1)
            assert result.error.startswith(f"task 0: the container engine at {second.socket} does not answer")
            first.close()
            result = await it.run(container_job("echo ran", "job-2"))
            assert f"the container engine at {second.socket} does not answer" in result.error
            with serving(second):
                assert (await it.run(container_job("echo ran", "job-3"))).status == SUCCESS
            assert len(it.server.streams) == 1
    podman.remove(*podman.containers())


async def test_what_a_killed_agent_left_is_removed_when_it_starts_again(podman: Podman, tmp_path: Path) -> None:
    async with scripted_server() as server:
        env = {
            **os.environ,
            "GOCDNEXT_SERVER_ADDR": f"127.0.0.1:{server.port}",
            "GOCDNEXT_AGENT_NAME": "agent-1",
            "GOCDNEXT_AGENT_TOKEN": "token",
            "GOCDNEXT_AGENT_ENGINE": "docker",
            "GOCDNEXT_DOCKER_SOCKET": podman.socket,
            "GOCDNEXT_WORKSPACE_ROOT": str(tmp_path),
        }
        code = "import sys; from gocdnext.agent.main import main; sys.exit(main())"
        agent = _process(code, env)
        try:
            stream = await server.stream()
            service = ServiceSpec(name="web", image=SERVICE_IMAGE, command=["sh", "-c", SERVE])
            stream.assign(container_job("echo ready; exec sleep 1000", services=[service]))
            await stream.until_line("ready")
        finally:
            agent.kill()
            agent.wait(PATIENCE)
        assert (len(podman.containers()), len(podman.networks())) == (2, 1)
        again = _process(code, env)
        try:
            await server.stream(1)
            assert (podman.containers(), podman.networks()) == ([], [])
            assert list(tmp_path.iterdir()) == []
        finally:
            again.kill()  # it could not end in peace: its server is in this very thread
            again.wait(PATIENCE)


def _process(code: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code], env=env, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL
    )


async def test_limits_and_an_init_are_asked_for(podman: Podman, tmp_path: Path) -> None:
    """A daemon's own limits fail where it may not raise them, and without an init a stop takes ten seconds."""
    async with docker_rig(podman, tmp_path) as it:
        stream = await it.server.stream()
        stream.assign(container_job("ulimit -n; echo ready; exec sleep 1000"))
        await stream.until_line("ready")
        (name,) = podman.containers()
        (found,) = json.loads(podman.run("inspect", name))
        most = min(16384, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        assert stream.printed() == [str(most), "ready"]
        assert "RLIMIT_NPROC" in json.dumps(found["HostConfig"]["Ulimits"])
        assert found["HostConfig"]["Init"]
        stream.cancel("job-1")
        await stream.result()


async def test_containers_without_a_network(podman: Podman, tmp_path: Path) -> None:
    async with docker_rig(podman, tmp_path, docker_network="none") as it:
        assert (await it.run(container_job("ls /sys/class/net"))).status == SUCCESS
        assert it.server.streams[0].printed() == ["lo"]
        service = ServiceSpec(name="web", image=SERVICE_IMAGE, command=["sh", "-c", SERVE])
        result = await it.run(container_job("nc web 8080 < /dev/null", "job-2", services=[service]))
        assert result.status == SUCCESS, "services bring their own"


async def test_files_of_tasks_are_given_to_the_user_of_the_agent(podman: Podman, tmp_path: Path) -> None:
    engine = ContainerEngine(DockerApi(podman.socket), "agent-1", user=(12345, 12346))
    assignment = JobAssignment(run_id="run-1", job_id="job-1", image=IMAGE)
    log = JobLog("run-1", "job-1", [], Outbox().channel())
    tasks = engine.tasks(assignment, str(tmp_path), log, "")
    assert await tasks.run_script("mkdir -p a/b; touch a/b/c; ln -s /etc/passwd a/link; chmod 700 a", {}) == 0
    await tasks.close()
    for path in (tmp_path / "a", tmp_path / "a" / "b" / "c", tmp_path / "a" / "link"):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (12345, 12346)


async def test_two_jobs_at_once_have_a_network_each(podman: Podman, tmp_path: Path) -> None:
    async with docker_rig(podman, tmp_path, capacity=2) as it:
        stream = await it.server.stream()
        for number in (1, 2):
            service = ServiceSpec(
                name="web", image=SERVICE_IMAGE, command=["sh", "-c", SERVE.replace("hello", f"{number}")]
            )
            stream.assign(container_job("nc web 8080 < /dev/null", f"job-{number}", services=[service]))
        for number in (1, 2):
            assert (await stream.result(f"job-{number}")).status == SUCCESS
            assert stream.printed(f"job-{number}")[-1] == str(number)


async def test_leftovers_of_this_agent_are_removed_at_start_and_no_others(podman: Podman, tmp_path: Path) -> None:
    for name in ("agent-1", "agent-2"):
        podman.run("network", "create", "--label", f"gocdnext.agent={name}", f"net-{name}")
        label = f"gocdnext.agent={name}"
        podman.run("run", "-d", "--name", f"box-{name}", "--network", f"net-{name}", "--label", label, IMAGE, "top")
    try:
        engine = open_engine(settings_for(ScriptedServer(), tmp_path, engine="docker", docker_sockets=(podman.socket,)))
        await engine.start()
        assert podman.containers() == ["box-agent-2"]
        assert podman.networks() == ["net-agent-2"]
    finally:
        podman.remove("box-agent-2")
        podman.run("network", "rm", "net-agent-2")


async def test_an_attempt_after_a_killed_agent_replaces_what_it_left(podman: Podman, tmp_path: Path) -> None:
    async with docker_rig(podman, tmp_path) as it:
        job = container_job("echo again", "aabbccdd-eeff-0000-0000-000000000000")
        podman.run("run", "-d", "--name", "gocdnext-aabbccddeeff_task_0", "--label", "gocdnext.agent=x", IMAGE, "top")
        assert (await it.run(job)).status == SUCCESS


async def test_jobs_without_image(podman: Podman, tmp_path: Path) -> None:
    script = "test -e /bin/gocdnext-plugin && echo container || echo host"
    for changes, where in (
        ({}, "host"),
        ({"docker_default_image": IMAGE}, "container"),
        ({"engine": "auto"}, "host"),
    ):
        async with docker_rig(podman, tmp_path, **changes) as it:
            assert (await it.run(script_job(script))).status == SUCCESS
            assert it.server.streams[0].printed() == [where]
    async with docker_rig(podman, tmp_path, docker_strict=True) as it:
        assert (await it.run(script_job(script))).error.startswith("image: the job has no `image`")


def test_an_agent_without_containers_does_not_load_the_http_client(tmp_path: Path) -> None:
    code = """if True:
        import sys, trio
        import gocdnext.agent.main
        from gocdnext.agent.config import AgentSettings
        from gocdnext.agent.engines import open_engine
        settings = AgentSettings("h", 1, "n", "t", engine="auto", docker_sockets=(sys.argv[1],))
        trio.run(open_engine(settings).start)
        sys.exit("httpx" in sys.modules)
    """
    command = [sys.executable, "-c", code, str(tmp_path / "none.sock")]
    assert subprocess.run(command, cwd=Path(__file__).parents[2], timeout=60).returncode == 0


async def test_auto_without_a_daemon_runs_on_the_host(tmp_path: Path) -> None:
    sockets = (str(tmp_path / "none.sock"),)
    async with rig(tmp_path / "root", engine="auto", docker_sockets=sockets) as it:
        assert (await it.run(container_job("echo ran"))).status == SUCCESS
        assert it.server.streams[0].texts(stream="stderr") == [
            f"── the image {IMAGE} is not used: no container engine answers, tasks run on this machine"
        ]
        result = await it.run(container_job(":", "job-2", services=[ServiceSpec(name="db", image=IMAGE)]))
        assert "engine cannot start services (db)" in result.error


async def test_docker_without_a_daemon_does_not_start(tmp_path: Path) -> None:
    settings = settings_for(ScriptedServer(), tmp_path, engine="docker", docker_sockets=(str(tmp_path / "none.sock"),))
    with pytest.raises(ConfigError, match="no container engine answers at"):
        await open_engine(settings).start()
