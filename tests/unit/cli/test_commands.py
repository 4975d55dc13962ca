"""The commands against a server that answers the contract's JSON: output, requests and exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gocdnext.cli.select import SEARCHED_RUNS

RUN = "c0de0000-0000-4000-8000-000000000041"
PIPELINE = "1f0e0000-0000-4000-8000-000000000001"
CHILD = [sys.executable, "-m", "gocdnext.cli"]
Call = Callable[..., Any]


def a_run(counter: int = 41, run_id: str = RUN, **changes: object) -> dict[str, object]:
    return {
        "id": run_id,
        "pipeline_id": PIPELINE,
        "pipeline_name": "ci",
        "project_slug": "billing",
        "counter": counter,
        "cause": "manual",
        "status": "success",
        "created_at": "2026-04-28T11:58:00Z",
        "started_at": "2026-04-28T11:58:01Z",
        "finished_at": "2026-04-28T11:59:30.123456789Z",
        "triggered_by": "ines",
    } | changes


def a_job(job_id: str, name: str, **changes: object) -> dict[str, object]:
    return {"id": job_id, "name": name, "status": "success", "exit_code": 0, "attempt": 0} | changes


def detail(**changes: object) -> dict[str, object]:
    jobs = [a_job("j1", "lint"), a_job("j2", "unit", matrix_key="DB=pg", status="failed", exit_code=3, error="exit 3")]
    stage = {"id": "s1", "name": "check", "ordinal": 0, "status": "failed", "jobs": jobs}
    return a_run(stages=[stage], revisions={"m": {"revision": "4be1f0c9", "branch": "main"}}) | changes


def page(*runs: dict[str, object]) -> dict[str, object]:
    return {"runs": list(runs), "total": len(runs), "limit": 20, "offset": 0}


def event(cursor: int, job: str, text: str) -> bytes:
    return b"event: log\nid: %d\ndata: %s\n\n" % (cursor, orjson.dumps({"job_id": job, "seq": cursor, "text": text}))


def end(status: str) -> bytes:
    return b"event: end\ndata: %s\n\n" % orjson.dumps({"run_id": RUN, "status": status})


@pytest.fixture
def billing(api: Any) -> Any:
    """A server with one project, one pipeline and one finished run."""
    api.routes["GET /api/v1/projects/billing"] = {"pipelines": [{"id": PIPELINE, "name": "ci"}], "runs": []}
    api.routes["GET /api/v1/runs"] = page(a_run())
    api.routes[f"GET /api/v1/runs/{RUN}"] = detail()
    api.routes[f"POST /api/v1/pipelines/{PIPELINE}/trigger"] = {"id": RUN, "run_id": RUN, "counter": 41}
    return api


# Naming a run


@pytest.mark.parametrize("name", [RUN, RUN.upper(), "c0de", "billing/ci", "billing/ci#41"])
def test_names_of_a_run(billing: Any, call: Call, name: str) -> None:
    assert json.loads(call("run", "show", "--json", name).out)["id"] == RUN


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("billing/ci#40", 1, "no run #40"),
        ("billing/other", 1, "no run yet"),
        ("ffff", 1, f"none of the newest {SEARCHED_RUNS}"),
        ("c0d", 2, "names no run"),
        ("billing/ci#x", 2, "not the number of a run"),
        ("/ci", 2, "names no pipeline"),
        ("00000000-0000-4000-8000-000000000000", 1, "404: not found"),
    ],
)
def test_names_of_no_run(billing: Any, call: Call, name: str, code: int, message: str) -> None:
    billing.routes["GET /api/v1/runs"] = lambda request: page() if "1" in request.query["offset"] else page(a_run())
    outcome = call("run", "show", name)
    assert (outcome.code, message in outcome.err) == (code, True), outcome


def test_the_beginning_of_two_ids_names_neither(billing: Any, call: Call) -> None:
    billing.routes["GET /api/v1/runs"] = page(a_run(), a_run(40, RUN[:-1] + "0"))
    outcome = call("cancel", "c0de")
    assert outcome.code == 1
    assert "several ids" in outcome.err
    assert {request.method for request in billing.seen} == {"GET"}


# Looking


def test_runs_in_a_pipe_are_plain_lines(billing: Any, call: Call) -> None:
    outcome = call("runs", "--project", "billing", "--status", "success", "--limit", "5")
    assert outcome.out.split("\t")[:4] == ["billing/ci#41", "success", "manual", "ines"]
    assert outcome.out.endswith(f"\t1m29s\t{RUN}\n")
    wanted = {"project": ["billing"], "status": ["success"], "limit": ["5"], "offset": ["0"]}
    assert billing.seen[-1].query == wanted


def test_json_is_the_answer_of_the_api(billing: Any, call: Call) -> None:
    assert json.loads(call("runs", "--json").out) == page(a_run())
    assert json.loads(call("run", "show", RUN, "--json").out) == detail()


def test_run_show_says_what_a_run_waits_for(api: Any, call: Call) -> None:
    waiting = {"code": "no_agent", "text": "no agent is connected"}
    api.routes[f"GET /api/v1/runs/{RUN}"] = detail(status="queued", waiting=waiting)
    assert "waiting   no agent is connected\n" in call("run", "show", RUN).out


def test_run_show(billing: Any, call: Call) -> None:
    out = call("run", "show", RUN).out
    assert f"billing/ci#41  success  {RUN}" in out
    assert "revision  4be1f0c9 (main)" in out
    assert [line.split() for line in out.splitlines()[-2:]] == [
        ["lint", "success", "-"],
        ["unit", "DB=pg", "failed", "-", "exit", "3", "exit", "3"],
    ]


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What a command prints when stdout and stderr are a terminal."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        child = subprocess.Popen(
            [*CHILD, *arguments],
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100", **environment},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""
        # The end of a terminal that nobody has open any more is an error, not an empty read.
        with contextlib.suppress(OSError):
            while chunk := screen.read(65536):
                shown += chunk
        assert child.wait(30) == 0, shown
    return shown.decode()


def test_a_terminal_gets_a_table_progress_and_colours(billing: Any) -> None:
    shown = on_a_terminal("runs")
    assert "asking for runs" in shown
    assert "\x1b[32msuccess" in shown
    assert RUN[:8] in shown
    assert RUN not in shown


def test_no_color(billing: Any) -> None:
    for command in (["runs"], ["run", "show", RUN]):
        assert "\x1b[3" not in on_a_terminal(*command, NO_COLOR="1")


def test_json_on_a_terminal_is_only_json(billing: Any) -> None:
    assert json.loads(on_a_terminal("runs", "--json")) == page(a_run())


# Exit codes


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [(401, 3, "GOCDNEXT_TOKEN"), (403, 3, "403"), (404, 1, "404"), (409, 1, "409"), (500, 1, "500")],
)
def test_exit_codes_of_refusals(billing: Any, call: Call, answer: Any, status: int, code: int, hint: str) -> None:
    billing.routes[f"POST /api/v1/runs/{RUN}/cancel"] = answer(status, [b'{"error":"no"}'])
    outcome = call("cancel", RUN)
    assert outcome.code == code
    assert hint in outcome.err


def test_nobody_there_is_exit_code_3(api: Any, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOCDNEXT_SERVER_URL", "http://127.0.0.1:9")
    outcome = call("runs")
    assert outcome.code == 3
    assert "gocdnext serve" in outcome.err


@pytest.mark.parametrize("arguments", [["nosuch"], ["runs", "--limit", "0"], ["apply"], ["trigger", "x"], ["logs"]])
def test_usage_is_exit_code_2(api: Any, call: Call, arguments: list[str]) -> None:
    assert call(*arguments).code == 2
    assert api.seen == []


def test_cancel(billing: Any, call: Call, answer: Any) -> None:
    billing.routes[f"POST /api/v1/runs/{RUN}/cancel"] = answer(204)
    outcome = call("cancel", "billing/ci#41")
    assert (outcome.code, outcome.out) == (0, f"canceled {RUN}\n")


# Apply and trigger


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "work" / ".gocdnext"
    folder.mkdir(parents=True)
    (folder / "b.yml").write_text("name: b\n")
    (folder / "a.yaml").write_text("name: ä\n")
    (folder / "notes.txt").write_text("no pipeline\n")
    return folder.parent


APPLIED = {
    "project_id": "p1",
    "project_created": True,
    "pipelines": [{"name": "ä", "pipeline_id": "x", "created": True, "materials_added": 1, "materials_removed": 0}],
    "pipelines_removed": ["old"],
    "scm_source": {"provider": "github", "url": "https://x/y", "default_branch": "main", "created": False},
    "warnings": ["careful"],
}


def test_apply(api: Any, call: Call, checkout: Path) -> None:
    api.routes["POST /api/v1/projects/apply"] = APPLIED
    source = ["--scm-url", "https://x/y", "--scm-provider", "github"]
    outcome = call("apply", str(checkout), "--slug", "billing", "--name", "Billing", *source)
    assert json.loads(api.seen[0].body) == {
        "slug": "billing",
        "name": "Billing",
        "files": [{"name": "a.yaml", "content": "name: ä\n"}, {"name": "b.yml", "content": "name: b\n"}],
        "scm_source": {"provider": "github", "url": "https://x/y", "default_branch": "main"},
    }
    assert outcome.out.splitlines() == [
        "project created p1",
        "  scm_source updated github (https://x/y, main)",
        "  pipeline created ä (materials: +1 -0)",
        "  pipeline removed old",
    ]
    assert outcome.err == "warning: careful\n"


@pytest.mark.parametrize(
    ("prepare", "arguments", "code", "message"),
    [
        (None, ["--slug", "s", "--scm-url", "u"], 2, "belong together"),
        (None, [], 2, "--slug work"),
        ("empty", ["--slug", "s"], 1, "there is no pipeline in"),
        ("latin1", ["--slug", "s"], 1, "is not UTF-8"),
        ("huge", ["--slug", "s"], 1, "over 5 MiB"),
    ],
)
def test_apply_refuses_before_it_asks(
    api: Any, call: Call, checkout: Path, prepare: str | None, arguments: list[str], code: int, message: str
) -> None:
    file = checkout / ".gocdnext" / "a.yaml"
    if prepare == "empty":
        file.unlink()
        (file.parent / "b.yml").unlink()
    elif prepare == "latin1":
        file.write_bytes(b"name: \xe4\n")
    elif prepare == "huge":
        file.write_bytes(b"#" * 6 * 1024 * 1024)
    outcome = call("apply", str(checkout), *arguments)
    assert (outcome.code, message in outcome.err) == (code, True), outcome
    assert api.seen == []


@pytest.mark.parametrize(("status", "code"), [("success", 0), ("failed", 1), ("canceled", 1)])
def test_trigger_and_follow(billing: Any, call: Call, answer: Any, status: str, code: int) -> None:
    stream = [event(1, "j1", "one\nmore"), event(2, "j2", "two"), end(status)]
    billing.routes[f"GET /api/v1/runs/{RUN}/logs/stream"] = answer(200, stream)
    outcome = call("trigger", "billing/ci", "--follow")
    assert outcome.out == f"run billing/ci#41 {RUN}\n[lint] one\n[lint] more\n[unit DB=pg] two\n"
    assert outcome.err == f"run billing/ci#41 {status}\n"
    assert outcome.code == code


def test_trigger_names_the_pipelines_that_there_are(billing: Any, call: Call) -> None:
    outcome = call("trigger", "billing/cd")
    assert outcome.code == 1
    assert "It has: ci" in outcome.err


# Logs


@pytest.fixture
def stored(billing: Any, answer: Any) -> Any:
    texts = {"j1": b"plain\n\x1b]0;owned\x07\x1b[2Jtitle\n", "j2": b"\x1b[31mred\n"}
    for job, text in texts.items():
        billing.routes[f"GET /api/v1/runs/{RUN}/jobs/{job}/log.txt"] = answer(200, [text])
    return billing


def test_stored_logs_are_safe_lines(stored: Any, call: Call) -> None:
    assert call("logs", RUN).out == "[lint] plain\n[lint] title\n[unit DB=pg] red\n"
    assert call("logs", RUN, "--job", "unit", "--plain").out == "red\n"
    assert call("logs", RUN, "--job", "unit DB=pg", "--raw").out == "[unit DB=pg] \x1b[31mred\n"


def test_logs_of_an_unknown_job(stored: Any, call: Call) -> None:
    outcome = call("logs", RUN, "--job", "deploy")
    assert outcome.code == 1
    assert "It has: lint, unit DB=pg" in outcome.err


def test_stored_logs_as_json_come_in_pages(billing: Any, call: Call) -> None:
    lines = [{"seq": seq, "stream": "stdout", "at": "t", "text": f"line {seq}"} for seq in range(1, 4501)]

    def answer(request: Any) -> dict[str, object]:
        cursors = dict(entry.split(":") for entry in request.query.get("since", []))
        logs = [line for line in lines if line["seq"] > int(cursors["j1"])][:2000] if "j1" in cursors else []
        return detail(stages=[{"name": "s", "status": "success", "jobs": [a_job("j1", "lint", logs=logs)]}])

    billing.routes[f"GET /api/v1/runs/{RUN}"] = answer
    printed = [json.loads(line) for line in call("logs", RUN, "--json").out.splitlines()]
    assert printed == [{"job_id": "j1", **line} for line in lines]


def test_followed_logs_as_json(billing: Any, call: Call, answer: Any) -> None:
    stream = [event(1, "j1", "one"), event(2, "j2", "two"), end("failed")]
    billing.routes[f"GET /api/v1/runs/{RUN}/logs/stream"] = answer(200, stream)
    outcome = call("logs", "-f", RUN, "--json", "--job", "unit")
    assert [json.loads(line) for line in outcome.out.splitlines()] == [
        {"job_id": "j2", "seq": 2, "text": "two"},
        {"run_id": RUN, "status": "failed"},
    ]
    assert outcome.code == 1


def test_interrupting_logs_is_exit_code_130_and_leaves_the_run_alone(billing: Any, answer: Any) -> None:
    over = threading.Event()

    def stream() -> Iterator[bytes]:
        yield event(1, "j1", "one")
        over.wait(30)

    billing.routes[f"GET /api/v1/runs/{RUN}/logs/stream"] = answer(200, stream())
    child = subprocess.Popen([*CHILD, "logs", "-f", RUN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "[lint] one\n"
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    over.set()
    assert child.returncode == 130, errors
    assert "Traceback" not in errors
    assert {request.method for request in billing.seen} == {"GET"}


def test_a_reader_that_leaves_is_no_traceback(stored: Any, answer: Any) -> None:
    text = b"a line that is long enough to fill the pipe\n" * 10_000
    stored.routes[f"GET /api/v1/runs/{RUN}/jobs/j1/log.txt"] = answer(200, [text])
    child = subprocess.Popen([*CHILD, "logs", RUN], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait(30) == 1


# Settings


def test_the_token_of_the_configuration_file_is_for_its_server_only(
    billing: Any, other_api: Any, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config" / "gocdnext" / "config.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"servers": {billing.url: {"token": "gnk_file"}}}))
    other_api.routes["GET /api/v1/runs"] = page()
    call("runs")
    assert billing.seen[-1].headers["Authorization"] == "Bearer gnk_file"
    call("runs", "--server", other_api.url + "/")
    assert "Authorization" not in other_api.seen[-1].headers
    monkeypatch.setenv("GOCDNEXT_TOKEN", "gnk_env")
    call("runs")
    assert billing.seen[-1].headers["Authorization"] == "Bearer gnk_env"


@pytest.mark.parametrize("content", ["{", "[]", '{"servers": 1}', '{"servers": {"URL": 1}}'])
def test_a_broken_configuration_file_is_a_warning(billing: Any, call: Call, tmp_path: Path, content: str) -> None:
    file = tmp_path / "config" / "gocdnext" / "config.json"
    file.parent.mkdir(parents=True)
    file.write_text(content.replace("URL", billing.url))
    outcome = call("runs")
    assert outcome.code == 0
    assert "going on without a token" in outcome.err


def test_config_does_not_show_secrets(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOCDNEXT_DATABASE_URL", "postgresql://ci:hunter2@db/ci")
    monkeypatch.setenv("GOCDNEXT_AGENT_TOKEN", "hunter2")
    monkeypatch.setenv("GOCDNEXT_LOG_LEVEL", "debug")
    out = call("config").out + call("config", "--json").out
    assert "hunter2" not in out
    assert "= debug" in out


# Version, doctor, completion


def test_version(api: Any, call: Call) -> None:
    api.routes["GET /version"] = {"version": "9.9"}
    assert "server   9.9" in call("version").out
    assert json.loads(call("version", "--json").out)["server"] == {"version": "9.9"}
    api.routes.clear()
    assert call("version").code == 0


def test_doctor(api: Any, call: Call, tmp_path: Path) -> None:
    api.routes |= {"GET /version": {"version": "9.9"}, "GET /readyz": {"status": "ready"}}
    api.routes["GET /api/v1/agents"] = {"agents": []}
    outcome = call("doctor", "--state", str(tmp_path / "new" / "state"), "--json")
    found = {check["name"]: check for check in json.loads(outcome.out)["checks"]}
    assert outcome.code == 0, found
    assert found["state directory"]["found"].endswith("(will be made)")
    assert found["agents"]["status"] == "warn"
    assert found["version"]["status"] == "warn"
    assert found["version"]["advice"]


def test_doctor_finds_what_is_wrong(
    api: Any, call: Call, answer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.routes["GET /version"] = {"version": "9.9"}
    api.routes["GET /readyz"] = answer(503, [b'{"error":"database away"}'])
    api.routes["GET /api/v1/agents"] = answer(401, [b'{"error":"not authenticated"}'])
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "file").touch()
    outcome = call("doctor", "--state", str(tmp_path / "file"))
    assert outcome.code == 1
    failed = {line[9:30].strip() for line in outcome.out.splitlines() if line.startswith("FAIL")}
    assert failed == {"git", "state directory", "server ready", "token"}


def test_doctor_with_a_setting_that_cannot_be_meant(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOCDNEXT_DATABASE_POOL", "many")
    outcome = call("doctor", "--no-server")
    assert outcome.code == 1
    assert "GOCDNEXT_DATABASE_POOL" in outcome.out


def test_doctor_bundle(api: Any, call: Call, tmp_path: Path) -> None:
    report = tmp_path / "report.tar.gz"
    outcome = call("doctor", "--no-server", "--state", str(tmp_path / "state"), "bundle", str(report))
    assert outcome.code == 0
    assert "findings.json" in outcome.out
    assert report.stat().st_size > 0
    again = call("doctor", "--no-server", "--state", str(tmp_path / "state"), "bundle", str(report))
    assert again.code == 1
    assert "File exists" in again.err


def complete(words: str) -> list[str]:
    environment = {**os.environ, "_GOCDNEXT_COMPLETE": "bash_complete", "COMP_WORDS": f"gocdnext {words}"}
    environment["COMP_CWORD"] = str(len(words.split(" ")))
    done = subprocess.run(CHILD, env=environment, capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_completion(billing: Any) -> None:
    billing.routes["GET /api/v1/projects"] = {"projects": [{"slug": "billing", "top_pipelines": [{"name": "ci"}]}]}
    assert complete("ver") == ["version"]
    assert complete("trigger b") == ["billing/ci"]
    assert complete("logs bill") == ["billing/ci#41"]
    assert complete("runs --project b") == ["billing"]


def test_completion_without_a_server(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOCDNEXT_SERVER_URL", "http://127.0.0.1:9")
    assert complete("trigger b") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(call: Call, shell: str) -> None:
    assert "_GOCDNEXT_COMPLETE" in call("completion", shell).out


def test_help_imports_no_command() -> None:
    code = "import sys, gocdnext.cli\ntry: gocdnext.cli.main(['--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert "doctor" in done.stdout
    assert not {"httpx", "rich", "trio", "orjson", "gocdnext.cli.runs"} & set(done.stdout.splitlines()[-1].split())
