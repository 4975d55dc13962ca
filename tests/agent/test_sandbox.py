"""The sandbox engine on a real bubblewrap: what tasks see and do not see, how they end, and what is said without it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from gocdnext.agent.config import AgentSettings, ConfigError
from gocdnext.agent.engines import EngineError, open_engine
from gocdnext.agent.engines.sandbox import SandboxEngine
from gocdnext.agent.joblog import JobLog
from gocdnext.agent.outbox import Outbox
from gocdnext.agent.process import group_lives
from gocdnext.proto import agent_pb2
from gocdnext.proto.agent_pb2 import JobAssignment, PluginSpec, ServiceSpec, TaskSpec
from tests.agent.git_server import PASSWORD, USER, http_git_server, make_repository
from tests.agent.scripted_server import PATIENCE, Rig, rig, script_job
from tests.agent.test_checkout import checkout

FAILED, SUCCESS = agent_pb2.RUN_STATUS_FAILED, agent_pb2.RUN_STATUS_SUCCESS

if shutil.which("bwrap") is None:
    if os.environ.get("CI"):
        pytest.fail("the sandbox tests need bubblewrap", pytrace=False)
    pytest.skip("needs bubblewrap", allow_module_level=True)


@contextlib.asynccontextmanager
async def sandbox_rig(root: Path, **changes: Any) -> AsyncIterator[Rig]:
    async with rig(root, **{"engine": "sandbox", **changes}) as it:
        yield it


async def test_success_streams_variables_and_the_end_of_everything(tmp_path: Path) -> None:
    async with sandbox_rig(tmp_path / "work") as it:
        result = await it.run(script_job('echo out; echo err >&2; echo "$A"; pwd', env={"A": "two  words"}))
        stream = it.server.streams[0]
        assert (result.status, result.exit_code, result.error) == (SUCCESS, 0, "")
        out, words, where = stream.texts(stream="stdout")[1:-1]
        assert (out, words) == ("out", "two  words")
        assert where.startswith(f"{tmp_path}/work/run-1/job-1-")
        assert stream.texts(stream="stderr") == ["err"]
        assert it.server.registrations[0].engine == "sandbox"
        assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(("script", "code"), [("exit 42", 42), ("kill -9 $$", 137), ("nosuchcommand", 127)])
async def test_exit_codes(tmp_path: Path, script: str, code: int) -> None:
    async with sandbox_rig(tmp_path) as it:
        result = await it.run(script_job(script))
        assert (result.status, result.exit_code, result.error) == (FAILED, code, f"task 0 exited with {code}")


async def test_the_system_is_read_only_and_the_rest_of_it_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of another")
    script = f"""
        for path in /usr/x /x /etc/x /opt/x; do (true > $path) 2>/dev/null && echo "written: $path"; done
        for path in /root /etc/shadow /etc/gocdnext {tmp_path}/secret /var/lib /run/systemd /sys/kernel; do
            test ! -e $path || echo "seen: $path"
        done
        for path in /proc/sys/kernel/core_pattern /proc/sys/kernel/panic /proc/sysrq-trigger; do
            (true >> $path) 2>/dev/null && echo "writable: $path"
        done
        grep CapEff /proc/self/status
        grep -c . /proc/mounts > /dev/null
        git --version > /dev/null
        echo done
    """
    async with sandbox_rig(tmp_path / "work") as it:
        result = await it.run(script_job(script))
        assert it.server.streams[0].printed() == ["CapEff:\t0000000000000000", "done"], result.error


async def test_no_task_can_mount_another_proc(tmp_path: Path) -> None:
    """In which /proc/sys would be writable again for a task of an agent that runs as root."""
    script = """
        unshare --user --map-root-user --mount --pid --fork --mount-proc true 2>/dev/null && echo mounted
        unshare --user --map-root-user --mount umount /proc/sys 2>/dev/null && echo uncovered
        echo done
    """
    async with sandbox_rig(tmp_path) as it:
        await it.run(script_job(script))
        assert it.server.streams[0].printed() == ["done"]


async def test_processes_ipc_and_host_name_are_its_own(tmp_path: Path) -> None:
    kinds = ("pid", "ipc", "uts", "mnt", "user", "net")
    script = f"for kind in {' '.join(kinds)}; do readlink /proc/self/ns/$kind; done; ls -d /proc/[0-9]* | wc -l"
    async with sandbox_rig(tmp_path) as it:
        await it.run(script_job(script))
        *spaces, count = it.server.streams[0].printed()
        ours = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]
        assert [a == b for a, b in zip(spaces, ours, strict=True)] == [False] * 5 + [True]
        assert int(count) < 10


async def test_network_only_where_it_is_allowed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = f"bash -c ': < /dev/tcp/127.0.0.1/{server.getsockname()[1]}' 2>/dev/null"
        job = script_job(f"{script} && echo reached || echo apart")
        for network, expected in ((True, "reached"), (False, "apart")):
            async with sandbox_rig(tmp_path, sandbox_network=network) as it:
                await it.run(job)
                assert it.server.streams[0].printed() == [expected]


async def test_tasks_of_a_job_share_tmp_and_home_and_jobs_do_not(tmp_path: Path) -> None:
    job = script_job("echo 1 > /tmp/a; echo 2 > ~/b; echo 3 > /var/tmp/c; test ! -e /tmp/other; pwd; echo $TMPDIR")
    job.tasks.add(script='cat /tmp/a ~/b /tmp/c; echo "$HOME"')
    async with sandbox_rig(tmp_path) as it:
        assert (await it.run(job)).status == SUCCESS
        assert it.server.streams[0].printed()[1:] == ["", "1", "2", "3", "/home/job"]
        result = await it.run(script_job("ls /tmp ~", "job-2"))
        assert "a" not in it.server.streams[0].printed("job-2"), result.error
        assert list(tmp_path.iterdir()) == []


async def test_secrets_are_in_no_command_line_and_the_agents_own_are_not_there(tmp_path: Path) -> None:
    async with sandbox_rig(tmp_path) as it:
        stream = await it.server.stream()
        stream.assign(script_job("env; echo ready; sleep 1000", env={"S": "hunter2-hunter2"}))
        await stream.until_line("ready")
        assert "S=hunter2-hunter2" in stream.printed()
        assert not any(text.startswith(("GOCDNEXT_", "SSH_", "PYTEST")) for text in stream.printed())
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                assert b"hunter2-hunter2" not in process.read_bytes()
        stream.cancel("job-1")
        assert (await stream.result()).error == "task 0: canceled (user canceled)"


async def test_a_variable_cannot_reach_bubblewrap_itself(tmp_path: Path) -> None:
    """The dynamic linker of bubblewrap, outside of the sandbox, would obey it."""
    async with sandbox_rig(tmp_path) as it:
        env = {"LD_DEBUG": "files", "LD_DEBUG_OUTPUT": str(tmp_path / "linker")}
        assert (await it.run(script_job("true", env=env))).status == SUCCESS
        assert not list(tmp_path.glob("linker*"))


async def test_options_in_script_and_variables_are_only_text(tmp_path: Path) -> None:
    async with sandbox_rig(tmp_path) as it:
        await it.run(script_job("--bind / /", env={"A": "--bind", "--bind": "/"}))
        result = await it.run(script_job('echo "$A"; test ! -e /root', "job-2", env={"A": "--bind", "--bind": "/"}))
        assert result.status == SUCCESS, result.error
        assert it.server.streams[0].printed("job-2") == ["--bind"]


async def test_cancel_kills_everything_at_once(tmp_path: Path) -> None:
    fifo = tmp_path / "work-fifo"
    async with sandbox_rig(tmp_path / "work") as it:
        stream = await it.server.stream()
        stream.assign(script_job("trap '' TERM INT; setsid sleep 4242 & mkfifo f; echo ready; cat f"))
        await stream.until_line("ready")
        stream.cancel("job-1")
        result = await stream.result()
        assert (result.exit_code, result.error) == (-1, "task 0: canceled (user canceled)")
        assert not fifo.exists()
        assert not _running("sleep\x004242")
        assert list((tmp_path / "work").iterdir()) == []


async def test_nothing_outlives_the_task(tmp_path: Path) -> None:
    async with sandbox_rig(tmp_path) as it:
        result = await it.run(script_job("setsid sleep 4343 & echo ran"))
        assert result.status == SUCCESS
        assert not _running("sleep\x004343")


def test_the_dead_hold_nobody_up() -> None:
    """The first process of a sandbox is left to the init of the machine, which may take its time to bury it."""
    with subprocess.Popen(["true"], start_new_session=True) as dead:
        os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)  # dead, and not buried
        os.killpg(dead.pid, 0)
        assert not group_lives(dead.pid)
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as living:
        assert group_lives(living.pid)
        living.kill()


def test_nothing_outlives_a_killed_agent(tmp_path: Path) -> None:
    code = """if True:
        import sys, trio
        from gocdnext.agent.engines.sandbox import SandboxEngine
        from gocdnext.agent.joblog import JobLog
        from gocdnext.agent.outbox import Outbox
        from gocdnext.proto.agent_pb2 import JobAssignment
        async def main():
            engine = SandboxEngine(sys.argv[1])
            await engine.start()
            tasks = engine.tasks(JobAssignment(), sys.argv[1], JobLog("r", "j", [], Outbox().channel()), "")
            await tasks.run_script("echo > ready; setsid sleep 4444 & sleep 4444", {})
        trio.run(main)
    """
    agent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2])
    try:
        _until((tmp_path / "ready").exists)
        assert _running("sleep\x004444")
    finally:
        agent.send_signal(signal.SIGKILL)
        agent.wait(PATIENCE)
    _until(lambda: not _running("sleep\x004444"))


def test_as_a_normal_user() -> None:
    """In a child of this process: the interpreter may lie where an ordinary user cannot read it."""
    if os.geteuid() != 0:
        pytest.skip("every other test is this one, then")
    # Not pytest's own folder, which is root's alone.
    with tempfile.TemporaryDirectory(prefix="gocdnext-user-") as folder:
        os.chown(folder, 65534, 65534)
        assert _as_nobody(Path(folder)) == 7
        assert Path(folder, "file").read_text() == "65534\n"
        assert Path(folder, "file").stat().st_uid == 65534


def _as_nobody(root: Path) -> int:
    """The exit code of a script in a sandbox that an ordinary user has made."""

    async def run() -> int:
        engine = SandboxEngine(str(root))
        await engine.start()
        log = JobLog("run-1", "job-1", [], Outbox().channel())
        tasks = engine.tasks(JobAssignment(), str(root), log, "")
        return await tasks.run_script("id -u > file; touch /tmp/x; ! touch /usr/x 2>/dev/null; exit 7", {})

    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            code = trio.run(run)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


async def test_checkouts_siblings_and_credentials(tmp_path: Path) -> None:
    make_repository(tmp_path / "repo")
    with http_git_server(tmp_path) as address:
        url = f"http://{USER}:{PASSWORD}@{address}/repo"
        materials = [checkout(url, branch="main"), checkout(url, branch="side", target="src/other")]
        # The clone is partial: the last command has to fetch, from within the sandbox.
        script = "cat file ../other/file; git status --short; git cat-file -p HEAD~1:file"
        async with sandbox_rig(tmp_path / "work") as it:
            result = await it.run(script_job(script, checkouts=materials))
            stream = it.server.streams[0]
            assert (result.status, result.error) == (SUCCESS, ""), stream.texts()
            assert stream.printed() == ["second", "side", "first"]


async def test_more_paths_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "tool").write_text("#!/bin/sh\necho tool\n")
    (tmp_path / "tools" / "tool").chmod(0o755)
    async with sandbox_rig(tmp_path / "work", sandbox_read_only_paths=(str(tmp_path / "tools"), "/not/there")) as it:
        result = await it.run(script_job(f"{tmp_path}/tools/tool; ! (true > {tmp_path}/tools/x)"))
        assert result.status == SUCCESS, it.server.streams[0].texts()
        assert it.server.streams[0].printed()[0] == "tool"


async def test_services_plugins_and_docker_are_refused(tmp_path: Path) -> None:
    async with sandbox_rig(tmp_path, docker_sockets=(str(tmp_path),)) as it:
        service = script_job(":", "job-1", services=[ServiceSpec(name="db", image="postgres")])
        assert (await it.run(service)).error.startswith("services: the sandbox engine cannot start services (db); ")
        plugin = JobAssignment(run_id="run-1", job_id="job-2", tasks=[TaskSpec(plugin=PluginSpec(image="x"))])
        assert (await it.run(plugin)).error.startswith("task 0: plugin x: the sandbox engine cannot run plugins ")
        assert (await it.run(script_job(":", "job-3", docker=True))).error.startswith("docker: the sandbox engine ")


async def test_our_own_plugins_run_in_it(tmp_path: Path) -> None:
    job = JobAssignment(run_id="run-1", job_id="job-1")
    settings = {"command": "test ! -e /etc/shadow; echo ran", "no-install": "true"}
    job.tasks.append(TaskSpec(plugin=PluginSpec(image="gocdnext/python", settings=settings)))
    async with sandbox_rig(tmp_path) as it:
        result = await it.run(job)
        assert (result.status, result.error) == (SUCCESS, ""), it.server.streams[0].texts()
        assert "ran" in it.server.streams[0].printed()


async def test_a_sandbox_that_cannot_be_made_is_no_failure_of_the_script(tmp_path: Path) -> None:
    engine = SandboxEngine(str(tmp_path))
    await engine.start()
    log = JobLog("run-1", "job-1", [], Outbox().channel())
    tasks = engine.tasks(JobAssignment(), str(tmp_path / "gone"), log, "")
    with pytest.raises(EngineError, match=r"the sandbox could not be made: bwrap: .*gone"):
        await tasks.run_script("true", {})


@pytest.mark.parametrize("engine", ["sandbox", "auto"])
async def test_without_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = AgentSettings("h", 1, "n", "t", engine=engine, docker_sockets=(), workspace_root=str(tmp_path))
    if engine == "sandbox":
        with pytest.raises(ConfigError, match="apt-get install bubblewrap"):
            await open_engine(settings).start()
    else:
        await open_engine(settings).start()


def test_a_kernel_that_refuses_is_explained(tmp_path: Path) -> None:
    code = """if True:
        import trio
        from gocdnext.agent.engines.sandbox import SandboxEngine
        print(trio.run(SandboxEngine("/nowhere").trouble))
    """
    refuse = 'echo 0 > /proc/sys/user/max_mnt_namespaces; exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", refuse, "sh", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.startswith("bubblewrap cannot make a sandbox on this machine (bwrap: "), done.stderr
    assert "unprivileged_userns_clone=1" in done.stdout


async def test_auto_prefers_the_sandbox_to_the_bare_machine(tmp_path: Path) -> None:
    for engine, expected in (("auto", ["sandbox"]), ("shell", ["machine"]), ("sandbox", ["sandbox"])):
        async with rig(tmp_path / "work", engine=engine, docker_sockets=(str(tmp_path / "none.sock"),)) as it:
            await it.run(script_job(f"test -e {tmp_path} -a -e /root && echo machine || echo sandbox"))
            assert it.server.streams[0].printed() == expected


def _running(arguments: str) -> bool:
    """Whether a process with exactly these arguments runs."""
    wanted = f"{arguments}\x00".encode()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if process.read_bytes() == wanted:
                return True
    return False


def _until(condition: Callable[[], bool]) -> None:
    async def poll() -> None:
        with trio.fail_after(PATIENCE):
            while not condition():  # noqa: ASYNC110
                await trio.sleep(0.01)

    trio.run(poll)
