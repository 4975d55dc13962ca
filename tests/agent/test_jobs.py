"""Jobs on the real agent, real shell, over a real stream: what they print, how they end, what they cannot do."""

# ruff: noqa: ASYNC110 -- looking at small local files, and polling other processes, is what these tests do

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import trio

from gocdnext.agent.lines import MAX_LINE
from gocdnext.proto import agent_pb2
from tests.agent.scripted_server import TOKEN, rig, script_job

FAILED, SUCCESS = agent_pb2.RUN_STATUS_FAILED, agent_pb2.RUN_STATUS_SUCCESS


async def test_success(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        result = await it.run(script_job("echo out; echo err >&2"))
        stream = it.server.streams[0]
        assert (result.status, result.exit_code, result.error) == (SUCCESS, 0, "")
        assert stream.texts(stream="stdout") == ["$ set -e\necho out; echo err >&2", "out", "── tasks completed in <1s"]
        assert stream.texts(stream="stderr") == ["err"]
        assert [line.seq for line in stream.logs()] == [1, 2, 3, 4]
        assert all(line.run_id == "run-1" and line.at.seconds > 0 for line in stream.logs())
        assert list(tmp_path.iterdir()) == []


async def test_failure_carries_the_exit_code(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        result = await it.run(script_job("echo before; exit 42; echo after"))
        assert (result.status, result.exit_code, result.error) == (FAILED, 42, "task 0 exited with 42")
        assert it.server.streams[0].texts()[1:] == ["before", "── tasks failed after <1s (task 0, exit 42)"]


async def test_the_first_failing_task_is_the_last(tmp_path: Path) -> None:
    job = script_job("echo one")
    job.tasks.add(script="false")
    job.tasks.add(script="echo three")
    async with rig(tmp_path) as it:
        result = await it.run(job)
        assert (result.exit_code, result.error) == (1, "task 1 exited with 1")
        assert it.server.streams[0].printed() == ["one"]


async def test_killed_by_a_signal_is_minus_one(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        assert (await it.run(script_job("kill -9 $$"))).exit_code == -1


async def test_prints_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        assert (await it.run(script_job(":"))).status == SUCCESS
        assert it.server.streams[0].printed() == []


async def test_reading_stdin_finds_it_empty(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        assert (await it.run(script_job("cat; read line || echo end"))).status == SUCCESS
        assert it.server.streams[0].printed() == ["end"]


async def test_invalid_utf8_nul_and_no_newline(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        assert (await it.run(script_job(r"printf 'a\377b\000c\r\nlast'"))).status == SUCCESS
        assert it.server.streams[0].printed() == ["a�bc", "last"]


async def test_a_job_without_tasks_succeeds(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        assert (await it.run(agent_pb2.JobAssignment(run_id="run-1", job_id="job-1"))).status == SUCCESS


async def test_the_environment_is_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOCDNEXT_AGENT_TOKEN", TOKEN)
    monkeypatch.setenv("GOCDNEXT_SERVER_ADDR", "127.0.0.1:1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the agent")
    async with rig(tmp_path) as it:
        await it.run(script_job("env", env={"MINE": "yes", "GOCDNEXT": "true", "HOME": "/elsewhere"}))
        names = {text.partition("=")[0]: text.partition("=")[2] for text in it.server.streams[0].printed()}
        assert names["MINE"] == "yes"
        assert names["GOCDNEXT"] == "true"
        assert names["HOME"] == "/elsewhere"
        assert "PATH" in names
        assert not {"GOCDNEXT_AGENT_TOKEN", "GOCDNEXT_SERVER_ADDR", "AWS_SECRET_ACCESS_KEY"} & set(names)


async def test_masks_in_lines_echo_and_error(tmp_path: Path) -> None:
    secrets = ["hunter2hunter2", "-----BEGIN\nfirst line\nsecond line\n-----END", "abc"]
    async with rig(tmp_path) as it:
        script = 'echo "a $S b"; echo first line; echo abc; : hunter2hunter2'
        await it.run(script_job(script, env={"S": secrets[0]}, log_masks=secrets))
        stream = it.server.streams[0]
        assert stream.printed() == ["a *** b", "***", "abc"]
        assert "hunter2" not in "".join(stream.texts())
        result = await it.run(
            agent_pb2.JobAssignment(
                run_id="run-1",
                job_id="job-2",
                log_masks=secrets,
                tasks=[agent_pb2.TaskSpec(plugin=agent_pb2.PluginSpec(image="hunter2hunter2"))],
            )
        )
        assert "plugin ***" in result.error


async def test_cancel_kills_a_script_that_ignores_sigterm_with_all_it_started(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        stream = await it.server.stream()
        stream.assign(script_job("trap '' TERM INT HUP; sleep 1000 & echo $!; echo ready; while :; do wait; done"))
        await stream.until_line("ready")
        stream.cancel("job-1")
        result = await stream.result()
        assert (result.status, result.exit_code, result.error) == (FAILED, -1, "task 0: canceled (user canceled)")
        child = int(stream.printed()[0])
        assert not _lives(child)
        assert list(tmp_path.iterdir()) == []
        assert (await it.run(script_job(":", "job-2"))).status == SUCCESS


async def test_cancel_of_an_unknown_job_is_ignored(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        stream = await it.server.stream()
        stream.cancel("nobody")
        assert (await it.run(script_job(":"))).status == SUCCESS


@pytest.mark.slow
async def test_timeout_kills_and_says_so(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        result = await it.run(script_job("trap '' TERM; echo started; sleep 1000", timeout_seconds=1))
        assert (result.status, result.exit_code, result.error) == (FAILED, -1, "timed out after 1s")
        assert it.server.streams[0].printed() == ["started"]


async def test_a_background_process_of_the_group_ends_with_the_script(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        result = await it.run(script_job("sleep 1000 & echo $!"))
        assert result.status == SUCCESS
        assert not _lives(int(it.server.streams[0].printed()[0]))


@pytest.mark.slow
async def test_an_escaped_process_that_holds_stdout_does_not_hang_the_job(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        script = "setsid sh -c 'echo $$ > pid; exec sleep 1000' & until [ -s pid ]; do :; done; cat pid"
        result = await it.run(script_job(script))
        assert result.status == SUCCESS
        os.kill(int(it.server.streams[0].printed()[0]), 9)


@pytest.mark.slow
async def test_an_escaped_process_that_floods_stdout_does_not_hang_the_job(tmp_path: Path) -> None:
    async with rig(tmp_path, keep_logs=False) as it:
        pid_file = tmp_path / "pid"
        script = f"setsid sh -c 'echo $$ > {pid_file}; exec yes' & until [ -s {pid_file} ]; do :; done"
        assert (await it.run(script_job(script))).status == SUCCESS


@pytest.mark.slow
async def test_a_line_of_50_mb(tmp_path: Path) -> None:
    size = 50_000_000
    async with rig(tmp_path) as it:
        result = await it.run(script_job(f"head -c {size} /dev/zero | tr '\\0' x; echo; echo after"))
        lines = it.server.streams[0].printed()
        assert result.status == SUCCESS
        assert sum(map(len, lines[:-1])) == size
        assert max(map(len, lines)) <= MAX_LINE
        assert lines[-1] == "after"


@pytest.mark.slow
async def test_a_server_that_does_not_read_slows_the_job_down_and_nothing_is_lost(tmp_path: Path) -> None:
    count = 30_000
    async with rig(tmp_path) as it:
        stream = await it.server.stream()
        await stream.until(lambda: stream.messages)
        stream.reading.clear()
        marker = tmp_path / "finished"
        stream.assign(script_job(f"yes {'y' * 999} | head -n {count}; : > {marker}"))
        await _until_flow_stops(it)
        assert not marker.exists()
        stream.reading.set()
        assert (await stream.result()).status == SUCCESS
        assert len(stream.printed()) == count
        assert [line.seq for line in stream.logs()] == list(range(1, count + 3))


async def _until_flow_stops(it: Any) -> None:
    """Until the agent's outbox is full: only then does it stop reading the job's pipe."""
    outbox = it.client._outbox
    with trio.fail_after(20):
        while outbox._size < outbox._limits[False]:
            await trio.sleep(0.001)  # polling a condition, bounded above


async def test_outputs(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        script = 'test -f "$GOCDNEXT_OUTPUT_FILE"; printf "IMAGE=app:1\\nX=1\\n" >> "$GOCDNEXT_OUTPUT_FILE"'
        result = await it.run(script_job(script, outputs={"image": "IMAGE"}))
        assert result.status == SUCCESS
        assert dict(result.outputs) == {"image": "app:1"}
        result = await it.run(script_job(":", "job-2", outputs={"image": "IMAGE"}))
        assert (result.status, result.exit_code) == (FAILED, 1)
        assert result.error.startswith("outputs: the job declares IMAGE")


async def test_services_are_refused_with_a_sentence(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        result = await it.run(script_job("echo ran", services=[agent_pb2.ServiceSpec(name="db", image="postgres")]))
        assert (result.status, result.exit_code) == (FAILED, -1)
        assert result.error.startswith("services: the shell engine cannot")


async def test_plugin_and_empty_tasks(tmp_path: Path) -> None:
    job = agent_pb2.JobAssignment(run_id="run-1", job_id="job-1")
    job.tasks.add()
    job.tasks.add(plugin=agent_pb2.PluginSpec(image="registry/plugin:1"))
    async with rig(tmp_path) as it:
        result = await it.run(job)
        assert (result.status, result.exit_code) == (FAILED, -1)
        assert result.error.startswith("task 1: plugin registry/plugin:1: the shell engine cannot run plugins")
        assert it.server.streams[0].texts(stream="stderr") == ["task 0 is neither a script nor a plugin; skipped"]


async def test_a_script_that_is_too_large_is_explained(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        result = await it.run(script_job("#" + "x" * 3_000_000))
        assert result.exit_code == -1
        assert result.error.startswith("task 0: the script or a variable is too large")


@pytest.mark.parametrize("env", [{"A=B": "x"}, {"": "x"}, {"A": "nul\0"}])
async def test_impossible_variables_are_explained(tmp_path: Path, env: dict[str, str]) -> None:
    async with rig(tmp_path) as it:
        result = await it.run(script_job(":", env=env))
        assert result.error.startswith("task 0: the variable")


async def test_ids_from_the_wire_stay_inside_the_work_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    async with rig(root) as it:
        job = script_job("pwd; touch here", "../../escape/./x\\y")
        job.run_id = ".."
        result = await it.run(job)
        assert result.status == SUCCESS
        (where,) = it.server.streams[0].printed(job.job_id)
        assert fnmatch(where, f"{root}/__/______escape___x_y-????????")
        assert sorted(tmp_path.iterdir()) == [root]
        assert list(root.iterdir()) == []


async def test_an_id_that_no_directory_can_have(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        result = await it.run(script_job(":", "j" * 300))
        assert result.exit_code == -1
        assert result.error.startswith("workspace: ")


async def test_read_only_directories_are_removed_as_well(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        script = "mkdir -p a/b; touch a/b/c; ln -s /etc a/link; chmod 555 a/b a"
        assert (await it.run(script_job(script))).status == SUCCESS
        assert list(tmp_path.iterdir()) == []


async def test_leftovers_of_an_earlier_attempt_are_gone(tmp_path: Path) -> None:
    left = tmp_path / "run-1" / "job-1"
    left.mkdir(parents=True)
    (left / "old").touch()
    async with rig(tmp_path) as it:
        await it.run(script_job("ls -A"))
        assert it.server.streams[0].printed() == []


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False
