"""Pipelines, runs and jobs named as people name them, and what can be done with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gocdnext.cli import watch
from tests.unit.cli.test_commands import PIPELINE, RUN, a_job, a_run, detail, end, event, page

Call = Callable[..., Any]
JOB = "90bb0000-0000-4000-8000-000000000001"
CELL = "90bc0000-0000-4000-8000-000000000002"
OTHER_CELL = "90bd0000-0000-4000-8000-000000000003"


@pytest.fixture
def billing(api: Any) -> Any:
    """One project with one pipeline and run #41, whose gate, and two cells of a job, have ids."""
    entry = {
        "id": PIPELINE,
        "name": "ci",
        "definition_version": 4,
        "updated_at": "2026-04-20T09:00:00Z",
        "definition_stages": ["check"],
        "definition_jobs": [
            {"name": "sign-off", "stage": "check", "approval_gate": True},
            {"name": "unit", "stage": "check"},
        ],
        "latest_run": a_run(),
        "metrics": {"runs_considered": 4, "success_rate": 0.75, "lead_time_p50_seconds": 84.2, "window_days": 7},
    }
    jobs = [
        a_job(JOB, "sign-off/eu"),
        a_job(CELL, "unit", matrix_key="DB=pg"),
        a_job(OTHER_CELL, "unit", matrix_key="DB=my"),
    ]
    preview = {"id": PIPELINE, "name": "ci", "latest_run_status": "success", "latest_run_at": "2026-04-28T11:58:00Z"}
    project = {"slug": "billing", "pipeline_count": 1, "top_pipelines": [preview]}
    api.routes["GET /api/v1/projects"] = {"projects": [project]}
    api.routes["GET /api/v1/projects/billing"] = {"project": project, "pipelines": [entry], "runs": []}
    api.routes["GET /api/v1/runs"] = page(a_run())
    stage = {"id": "s1", "name": "check", "ordinal": 0, "status": "running", "jobs": jobs}
    api.routes[f"GET /api/v1/runs/{RUN}"] = detail(stages=[stage])
    api.routes[f"POST /api/v1/pipelines/{PIPELINE}/trigger"] = {"id": RUN, "run_id": RUN, "counter": 41}
    for job in (JOB, CELL, OTHER_CELL):
        done = {"job_run_id": job, "run_id": RUN, "job_name": "unit", "status": "canceling", "signaled": True}
        api.routes[f"POST /api/v1/job_runs/{job}/cancel"] = done
    return api


# Names


@pytest.mark.parametrize("name", ["#41", "billing/ci#41", "billing/ci", RUN[:4], RUN])
def test_runs(billing: Any, call: Call, name: str) -> None:
    assert json.loads(call("runs", "show", "--json", name).out)["id"] == RUN


@pytest.mark.parametrize(
    ("name", "job"),
    [
        ("billing/ci#41/sign-off/eu", JOB),
        ("#41/sign-off/eu", JOB),
        ("billing/ci/sign-off/eu", JOB),
        (f"{RUN[:4]}/unit DB=pg", CELL),
        (f"{RUN}/sign-off/eu", JOB),
        ("#41/unit DB=pg", CELL),
        ("#41/90bd", OTHER_CELL),
        (f"#41/{CELL}", CELL),
        (JOB, JOB),
    ],
)
def test_jobs(billing: Any, call: Call, name: str, job: str) -> None:
    assert json.loads(call("jobs", "cancel", "--json", name).out)["job_run_id"] == job


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("#41/unit", 1, "several jobs 'unit': unit DB=pg, unit DB=my"),
        ("#41/90b", 1, "no job '90b'. It has: sign-off/eu, unit DB=my, unit DB=pg"),
        ("#42/unit", 1, "is #42. Give slug/pipeline#42"),
        ("#x/unit", 2, "not the number of a run"),
        ("#/unit", 2, "not the number of a run"),
        ("billing/ci", 2, "names no job"),
        ("unit", 2, "names no job"),
        ("#41/", 2, "names no job"),
        ("90bb", 2, "names no job"),
        ("billing/ci#40/unit", 1, "no run #40"),
    ],
)
def test_names_of_no_job(billing: Any, call: Call, name: str, code: int, message: str) -> None:
    billing.routes["GET /api/v1/runs"] = lambda request: page() if "1" in request.query["offset"] else page(a_run())
    outcome = call("jobs", "cancel", name)
    assert (outcome.code, message in outcome.err) == (code, True), outcome
    assert {request.method for request in billing.seen} <= {"GET"}


def test_a_number_that_several_pipelines_have(billing: Any, call: Call) -> None:
    billing.routes["GET /api/v1/runs"] = page(a_run(), a_run(run_id=RUN[:-1] + "0", pipeline_name="deploy"))
    outcome = call("runs", "cancel", "#41")
    assert (outcome.code, "billing/ci#41, billing/deploy#41" in outcome.err) == (1, True)


@pytest.mark.parametrize("name", ["billing/ci", PIPELINE, PIPELINE[:4], PIPELINE[:9].upper()])
def test_pipelines(billing: Any, call: Call, name: str) -> None:
    assert json.loads(call("pipelines", "trigger", "--json", name).out)["counter"] == 41


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("billing/nope", 1, "It has: ci"),
        ("ffff", 1, "no pipeline has an id"),
        ("1f", 2, "names no pipeline"),
        ("ci", 2, "names no"),
    ],
)
def test_names_of_no_pipeline(billing: Any, call: Call, name: str, code: int, message: str) -> None:
    outcome = call("run", name)
    assert (outcome.code, message in outcome.err) == (code, True), outcome


# Pipelines


def test_pipelines_list(billing: Any, call: Call) -> None:
    lines = [call("pipelines", "list", *project).out.split("\t") for project in ((), ("billing",))]
    assert lines[0] == lines[1]
    assert (lines[0][:2], lines[0][3]) == (["billing/ci", "success"], PIPELINE + "\n")
    assert json.loads(call("pipelines", "list", "--json").out)["pipelines"][0]["project_slug"] == "billing"


def test_pipelines_show(billing: Any, call: Call) -> None:
    out = call("pipelines", "show", "billing/ci").out
    assert "success     75% of 4 in 7 days\n" in out
    assert out.endswith("check\n  sign-off  (approval)\n  unit\n")
    assert json.loads(call("pipelines", "show", "billing/ci", "--json").out)["definition_version"] == 4


@pytest.mark.parametrize("source", ["name: ci\n", "name: ci"])
def test_pipelines_yaml(billing: Any, call: Call, source: str) -> None:
    billing.routes[f"GET /api/v1/pipelines/{PIPELINE}/yaml"] = {"yaml": source, "reconstructed": False}
    assert call("pipelines", "yaml", "billing/ci").out == "name: ci\n"


# Runs


@pytest.mark.parametrize("words", [("run",), ("run", "start"), ("trigger",), ("pipelines", "trigger")])
@pytest.mark.parametrize(("ending", "code"), [("success", 0), ("failed", 1)])
def test_a_run_is_followed_to_its_result(
    billing: Any, call: Call, answer: Any, words: tuple[str, ...], ending: str, code: int
) -> None:
    billing.routes[f"GET /api/v1/runs/{RUN}/logs/stream"] = answer(200, [event(1, JOB, "compiling"), end(ending)])
    outcome = call(*words, "billing/ci", "--follow")
    assert outcome.code == code
    assert outcome.out == f"run billing/ci#41 {RUN}\n[sign-off/eu] compiling\n"


def test_old_names_of_commands(billing: Any, call: Call) -> None:
    assert call("runs", "--limit", "3").out == call("runs", "list", "--limit", "3").out != ""
    assert call("runs").out == call("runs", "list").out
    assert call("run", "show", RUN).out == call("runs", "show", RUN).out != ""
    assert "watch" in call("runs", "--help").out
    assert "show" in call("run", "-h").out
    assert call("runs", "lst").code == 2


def test_rerun(billing: Any, call: Call) -> None:
    billing.routes[f"POST /api/v1/runs/{RUN}/rerun"] = {"id": "n", "run_id": "n", "counter": 42, "rerun_of": RUN}
    assert call("runs", "rerun", "#41").out == "run #42 n\n"
    assert json.loads(call("runs", "rerun", "#41", "--json").out)["rerun_of"] == RUN


def states(*runs: dict[str, Any]) -> Callable[[object], Any]:
    """Answers one after the other, the last one for ever."""
    left = iter(runs)
    last: list[dict[str, Any]] = []

    def answer(_: object) -> Any:
        last.extend(run for run in [next(left, None)] if run is not None)
        return last[-1]

    return answer


def watched(run: str, stage: str, job: str) -> dict[str, Any]:
    jobs = [a_job(JOB, "unit", status=job, matrix_key="DB=pg")]
    return detail(status=run, stages=[{"id": "s", "name": "check", "ordinal": 0, "status": stage, "jobs": jobs}])


@pytest.mark.parametrize(("ending", "code"), [("success", 0), ("failed", 1), ("canceled", 1)])
def test_watch(billing: Any, call: Call, answer: Any, monkeypatch: pytest.MonkeyPatch, ending: str, code: int) -> None:
    monkeypatch.setattr(watch, "BETWEEN", 0)
    looks = (
        watched("queued", "queued", "queued"),
        watched("running", "running", "running"),
        answer(503, [b'{"error":"starting"}']),
        watched("running", "running", "running"),
        watched(ending, ending, ending),
    )
    billing.routes[f"GET /api/v1/runs/{RUN}"] = states(*looks)
    outcome = call("runs", "watch", RUN)
    told = [line.split(maxsplit=1) for line in outcome.out.splitlines()]
    names = ["check", "check / unit DB=pg", "run #41"]
    assert told == [[state, name] for state in ("queued", "running", ending) for name in names]
    assert outcome.code == code
    billing.routes[f"GET /api/v1/runs/{RUN}"] = states(*looks)
    printed = call("runs", "watch", RUN, "--json").out.splitlines()
    assert [json.loads(line)["status"] for line in printed] == ["queued", "running", ending]


def test_watch_gives_up(billing: Any, call: Call, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BETWEEN", 0)
    monkeypatch.setattr(watch, "RECONNECT_FOR", 0)
    assert call("runs", "watch", "00000000-0000-4000-8000-000000000000").code == 1
    billing.routes[f"GET /api/v1/runs/{RUN}"] = answer(503, [b'{"error":"starting"}'])
    outcome = call("runs", "watch", RUN)
    assert (outcome.code, "starting" in outcome.err) == (1, True)


# Jobs


def test_jobs_are_cancelled_and_repeated(billing: Any, call: Call) -> None:
    assert call("jobs", "cancel", "#41/unit DB=pg").out == f"canceling unit {CELL}\n"
    billing.routes[f"POST /api/v1/job_runs/{CELL}/rerun"] = {"job_run_id": CELL, "run_id": RUN, "attempt": 1}
    assert call("jobs", "rerun", CELL).out == f"queued {CELL}, attempt 1\n"


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_gates(billing: Any, call: Call, answer: Any, decision: str) -> None:
    counted = {"job_run_id": JOB, "pending_quorum": True, "approvals_now": 1, "approvals_required": 2}
    path = f"POST /api/v1/job_runs/{JOB}/{decision}"
    billing.routes[path] = counted
    verb = {"approve": "approved", "reject": "rejected"}[decision]
    assert call("jobs", decision, "#41/sign-off/eu").out == f"{verb} {JOB}, 1 of 2 approvals\n"
    assert billing.seen[-1].body == b""
    billing.routes[path] = counted | {"pending_quorum": False}
    outcome = call("jobs", decision, JOB, "--comment", "seen", "--as", "ines")
    assert outcome.out == f"{verb} {JOB}\n"
    assert json.loads(billing.seen[-1].body) == {"comment": "seen", "user": "ines"}
    billing.routes[path] = answer(403, [b'{"error":"user not in approvers list"}'])
    outcome = call("jobs", decision, JOB)
    assert (outcome.code, "not in approvers" in outcome.err) == (3, True)


def test_the_log_of_a_job(billing: Any, call: Call, answer: Any) -> None:
    billing.routes[f"GET /api/v1/runs/{RUN}/jobs/{CELL}/log.txt"] = answer(200, [b"one\ntwo \x1b[2J\n"])
    assert call("jobs", "log", "#41/unit DB=pg").out == "one\ntwo \n"
    lines = [{"seq": 1, "stream": "stdout", "text": "one"}]
    jobs = [a_job(CELL, "unit", logs=lines)]
    stage = {"id": "s1", "name": "check", "ordinal": 0, "status": "running", "jobs": jobs}
    billing.routes[f"GET /api/v1/runs/{RUN}"] = detail(stages=[stage])
    out = call("jobs", "log", "#41/unit", "--json").out
    assert json.loads(out) == {"job_id": CELL, **lines[0]}
