"""`gocdnext run-local` as users run it: the program itself, on the host and on a real podman; and its pure parts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import trio

from gocdnext.local.envfile import EnvFileError
from gocdnext.local.envfile import parse as parse_env
from gocdnext.local.plan import PlanError, plan
from gocdnext.pipeline import parse
from tests.agent.containers import IMAGE, SERVICE_IMAGE, Podman

PATIENCE = 40
ROOT = str(Path(__file__).parents[2])
COMMAND = [sys.executable, "-m", "gocdnext.cli", "run-local"]


class Local:
    """A directory with a pipeline file, and the program."""

    def __init__(self, folder: Path, text: str, socket: str = "") -> None:
        self.folder = folder
        (folder / "ci.yaml").write_text(textwrap.dedent(text))
        self.env = {**os.environ, "PYTHONPATH": ROOT, "GOCDNEXT_DOCKER_SOCKET": socket or str(folder / "none.sock")}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "ci.yaml", *arguments],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )


PIPELINE = """
    name: demo
    stages: [build, test]
    variables: {GREETING: hello}
    jobs:
      compile:
        stage: build
        script: [echo "$GREETING" > made, echo "VERSION=1.2" >> "$GOCDNEXT_OUTPUT_FILE"]
        outputs: {version: VERSION}
      sign:
        stage: build
        needs: [approve]
        secrets: [TOKEN]
        script: ['echo "token $TOKEN $CI_CAUSE $CI_RUN_COUNTER $GOCDNEXT_LOCAL $CI_JOB_NAME"']
      approve:
        stage: build
        needs: [compile]
        approval: {description: sure}
      unit:
        stage: test
        needs: [compile]
        parallel: {matrix: [{OS: [a, b], CPU: ["1"]}]}
        variables: {V: "${{ needs.compile.outputs.version }}"}
        script: ['echo "$GOCDNEXT_MATRIX $OS $V"; cat made']
"""


def test_a_run_on_the_host(tmp_path: Path) -> None:
    local = Local(tmp_path, PIPELINE)
    (tmp_path / "secrets").write_text("# mine\n\nTOKEN=hunter2 hunter2\n")
    done = local.run("--env-file", "secrets", "--event", "push")
    assert (done.returncode, done.stderr) == (0, "")
    *lines, last = done.stdout.splitlines()
    assert lines == [
        "==> stage build",
        "[compile] OK",
        "[approve] approval gate skipped: nobody is asked in a local run",
        "[sign] token *** push 0 true sign",
        "[sign] OK",
        "==> stage test",
        "[unit[CPU=1,OS=a]] CPU=1,OS=a a 1.2",
        "[unit[CPU=1,OS=a]] hello",
        "[unit[CPU=1,OS=a]] OK",
        "[unit[CPU=1,OS=b]] CPU=1,OS=b b 1.2",
        "[unit[CPU=1,OS=b]] hello",
        "[unit[CPU=1,OS=b]] OK",
    ]
    assert last.startswith("==> 4 job(s) green in ")
    assert not (tmp_path / ".gocdnext").exists()


def test_the_first_failure_ends_the_run(tmp_path: Path) -> None:
    local = Local(
        tmp_path,
        """
        stages: [one, two]
        jobs:
          a: {stage: one, script: [echo to stderr >&2, exit 7]}
          b: {stage: one, script: [echo never]}
          c: {stage: two, script: [echo never]}
        """,
    )
    done = local.run()
    assert done.returncode == 1
    *lines, last = done.stdout.splitlines()
    assert lines == ["==> stage one", "[a] to stderr", "[a] FAILED (exit 7)"]
    assert last == "==> a failed after <1s; remaining stages skipped: two"


def test_json(tmp_path: Path) -> None:
    local = Local(tmp_path, "stages: [s]\njobs: {a: {stage: s, script: [echo out, echo err >&2, exit 3]}}")
    done = local.run("--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert events[0] == {"event": "stage", "stage": "s"}
    logs = {event["stream"]: event["text"] for event in events if event["event"] == "log"}
    assert logs == {"stdout": "out", "stderr": "err"}
    job, end = events[-2:]
    assert job.pop("seconds") >= 0
    assert job == {"event": "job", "job": "a", "status": "failed", "exit_code": 3, "error": "exited with 3"}
    assert (end["event"], end["status"], end["failed"]) == ("end", "failed", "a")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--job", "complie"], 2, "there is no job 'complie'; did you mean 'compile'?"),
        ([], 2, "no value for the secret TOKEN; write KEY=VALUE into a file for --env-file"),
        (["--env-file", "bad"], 2, "line 2 has no `=`"),
        (["--engine", "container", "--job", "compile"], 1, "no container engine answers at"),
    ],
)
def test_what_cannot_begin(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    local = Local(tmp_path, PIPELINE)
    (tmp_path / "bad").write_text("A=1\nnonsense\n")
    done = local.run(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr


def test_a_file_that_is_no_pipeline(tmp_path: Path) -> None:
    done = Local(tmp_path, "stages: [a]\njobs: {j: {stage: b, script: [x]}}").run()
    assert done.returncode == 1
    assert "FAIL ci.yaml" in done.stdout


def test_one_job_and_what_it_does_not_get(tmp_path: Path) -> None:
    done = Local(tmp_path, PIPELINE).run("--job", "unit")
    assert done.returncode == 1
    assert "[unit[CPU=1,OS=a]] error: " in done.stdout
    assert "compile" in done.stdout


def test_services_need_containers(tmp_path: Path) -> None:
    done = Local(
        tmp_path, "stages: [s]\nservices: [{name: db, image: x}]\njobs: {a: {stage: s, script: [echo ran]}}"
    ).run()
    assert done.returncode == 1
    assert "the shell engine cannot start services (db)" in done.stdout
    assert "ran" not in done.stdout


CONTAINER_PIPELINE = f"""
    stages: [test]
    services:
      - name: web
        image: {SERVICE_IMAGE}
        command: [sh, -c, "while :; do echo hello | nc -l -p 8080; done"]
    jobs:
      unit:
        stage: test
        image: {IMAGE}
        parallel: {{matrix: [{{N: ["1", "2"]}}]}}
        script: ['nc web 8080 < /dev/null; echo "$N $(pwd)"; echo "$N" > made-$N']
"""


def test_containers_with_matrix_and_services(podman: Podman, tmp_path: Path) -> None:
    done = Local(tmp_path, CONTAINER_PIPELINE, podman.socket).run("--engine", "container")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert f"==> service web up ({SERVICE_IMAGE})" in lines
    at = lines.index("==> stage test")
    assert lines[at:-1] == [
        "==> stage test",
        "[unit[N=1]] hello",
        "[unit[N=1]] 1 /workspace",
        "[unit[N=1]] OK",
        "[unit[N=2]] hello",
        "[unit[N=2]] 2 /workspace",
        "[unit[N=2]] OK",
    ]
    assert (tmp_path / "made-2").read_text() == "2\n"


def test_auto_chooses_for_each_job(podman: Podman, tmp_path: Path) -> None:
    text = f"""
        stages: [s]
        jobs:
          a: {{stage: s, image: {IMAGE}, script: [test -e /bin/gocdnext-plugin]}}
          b: {{stage: s, script: ["! test -e /bin/gocdnext-plugin"]}}
    """
    done = Local(tmp_path, text, podman.socket).run()
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("engine", ["host", "container"])
async def test_ctrl_c_stops_the_job_and_cleans_up(podman: Podman, tmp_path: Path, engine: str) -> None:
    script = "trap '' INT TERM; echo $$ ready; while :; do sleep 1000; done"
    text = f'stages: [s]\njobs: {{a: {{stage: s, image: "{IMAGE}", script: ["{script}"]}}}}'
    local = Local(tmp_path, text, podman.socket)
    process = await trio.lowlevel.open_process(
        [*COMMAND, "ci.yaml", "--engine", engine],
        cwd=tmp_path,
        env=local.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        with trio.fail_after(PATIENCE):
            seen = b""
            while b"ready" not in seen:
                chunk = await process.stdout.receive_some()
                assert chunk, seen
                seen += chunk
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
        if engine == "host":
            assert not _lives(int(seen.split()[-2]))
        assert podman.containers() == []
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_leftovers_of_a_killed_run_are_removed_and_no_others(podman: Podman, tmp_path: Path) -> None:
    space = os.stat("/proc/self/ns/pid").st_ino
    dead = subprocess.Popen(["true"])
    dead.wait(PATIENCE)
    with open(f"/proc/{os.getpid()}/stat") as file:
        began = file.read().rpartition(")")[2].split()[19]
    for name, owner in (
        ("dead", f"local-{space}-{dead.pid}-1"),
        ("alive", f"local-{space}-{os.getpid()}-{began}"),
        ("elsewhere", f"local-{space + 1}-{dead.pid}-1"),
        ("agent", "agent-1"),
    ):
        podman.run("create", "--name", name, "--label", f"gocdnext.agent={owner}", IMAGE)
    text = "stages: [s]\njobs: {a: {stage: s, script: [echo ran]}}"
    assert Local(tmp_path, text, podman.socket).run().returncode == 0
    assert sorted(podman.containers()) == ["agent", "alive", "elsewhere"]
    podman.run("rm", "agent", "alive", "elsewhere")


def test_artifacts_reports_and_thresholds(tmp_path: Path) -> None:
    local = Local(
        tmp_path,
        """
        stages: [build, use, gate]
        jobs:
          make:
            stage: build
            script:
              - mkdir -p dist; echo app > dist/app; echo lock > lock
              - printf '<testsuite><testcase name="a"/><testcase name="b"><skipped/></testcase></testsuite>' > r.xml
              - printf 'SF:src/a\\nLF:10\\nLH:7\\nend_of_record\\n' > lcov.info
            artifacts: {paths: [dist/], optional: [gone]}
            test_reports: ["*.xml"]
            coverage_report: {path: lcov.info, format: lcov}
          take:
            stage: use
            needs_artifacts: [{from_job: make, paths: [dist/], dest: deps}, {from_job: make}]
            cache: [{key: 'x-{{ hash "lock" }}', paths: [x]}]
            script: [cat deps/dist/app dist/app]
          low:
            stage: gate
            coverage_report: {path: lcov.info, format: lcov, fail_under: 80}
            script: [":"]
        """,
    )
    done = local.run()
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[:-1] == [
        "==> stage build",
        "[make] test reports: 1 passed, 1 skipped in 1 file",
        "[make] coverage: 70 % (7 of 10 lines)",
        "[make] OK",
        "==> stage use",
        "[take] $ download artifact dist/ (from make)",
        "[take] app",
        "[take] app",
        "[take] OK",
        "==> stage gate",
        "[low] coverage: 70 % (7 of 10 lines)",
        "[low] error: coverage: 70 % is below the required 80 % (7 of 10 lines)",
        "[low] FAILED (exit 1)",
    ]


@pytest.mark.parametrize(
    ("job", "error"),
    [
        ("artifacts: {paths: [gone]}", "artifact upload failed: gone: there is no such file or directory"),
        ("cache: [{key: 'x-{{ hash \"gone\" }}', paths: [x]}]", "no file matches 'gone'"),
        ("needs_artifacts: [{from_job: nobody}]", "the job 'nobody' has no artifacts"),
    ],
)
def test_what_would_fail_on_a_server_fails_here(tmp_path: Path, job: str, error: str) -> None:
    done = Local(tmp_path, f"stages: [s]\njobs: {{a: {{stage: s, script: [':'], {job}}}}}").run("--json")
    assert done.returncode == 1
    assert error in [json.loads(line) for line in done.stdout.splitlines()][-2]["error"]


# -- the pure parts


def order(text: str, **options: Any) -> list[list[str]]:
    pipeline = parse(textwrap.dedent(text), "ci.yaml")
    return [[stage.name, *(step.name for step in stage.steps)] for stage in plan(pipeline, **options)]


GRAPH = """
    stages: [first, empty, last]
    jobs:
      a: {stage: first, needs: [z], script: [x]}
      m: {stage: first, script: [x], parallel: {matrix: [{B: ["2", "1"], A: [x]}]}}
      z: {stage: first, needs: [m], script: [x]}
      end: {stage: last, needs: [a], script: [x]}
"""


def test_stages_as_declared_and_jobs_by_needs() -> None:
    assert order(GRAPH) == [["first", "m[A=x,B=2]", "m[A=x,B=1]", "z", "a"], ["last", "end"]]


def test_a_job_is_all_its_instances_or_one() -> None:
    assert order(GRAPH, selected="m") == [["first", "m[A=x,B=2]", "m[A=x,B=1]"]]
    assert order(GRAPH, selected="m[A=x,B=1]") == [["first", "m[A=x,B=1]"]]
    assert order(GRAPH, selected="end") == [["last", "end"]]


def test_what_a_plan_refuses() -> None:
    with pytest.raises(PlanError, match="there are a, end, m, z"):
        order(GRAPH, selected="quite another")
    tokens = "stages: [s]\njobs: {a: {stage: s, script: [x], id_tokens: {T: {aud: x}}}}"
    with pytest.raises(PlanError, match="only a server can issue"):
        order(tokens)
    secrets = "stages: [s]\njobs: {a: {stage: s, script: [x], secrets: [B, A]}}"
    with pytest.raises(PlanError, match="no value for the secret A, B"):
        order(secrets)
    assert order(secrets, secrets={"A", "B"}) == [["s", "a"]]


def test_env_files() -> None:
    data = b"\xef\xbb\xbf# comment\n\n A =b=c \r\nEMPTY=\nQUOTED='x'\n"
    assert parse_env(data) == {"A": "b=c ", "EMPTY": "", "QUOTED": "'x'"}
    for wrong, message in (
        (b"A", "line 1 has no `=`"),
        (b"\nA-B=secret", "line 2: the name"),
        (b"A=1\nA=2", "line 2: A is there twice"),
        (b"A=\xff", "not UTF-8"),
        (b"A=\0", "NUL"),
        (b"A=" + b"x" * 2**20, "larger than"),
    ):
        with pytest.raises(EnvFileError, match=message) as caught:
            parse_env(wrong)
        assert "secret" not in str(caught.value)


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False
