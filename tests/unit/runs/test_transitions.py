"""The rules of spec-execution 5, 7, 12 and 14, one sentence each, on the pure core."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gocdnext.runs import events as t
from gocdnext.runs.state import CANCELED, FAILED, QUEUED, RUNNING, SKIPPED, SUCCESS, Run
from gocdnext.runs.transitions import apply
from tests.unit.runs.builders import AGENT, LATER, NOW, OTHER, job_named, make_run, statuses


def assign(run: Run, *labels: str) -> Run:
    for label in labels:
        run = apply(run, t.JobAssigned(job_named(run, label).id, AGENT), NOW).run
    return run


def report(run: Run, label: str, *, success: bool = True, **fields: object) -> t.Outcome:
    job = job_named(run, label)
    values: dict[str, object] = {"agent_id": AGENT, "attempt": job.attempt, "exit_code": 0 if success else 1} | fields
    return apply(run, t.JobReported(job.id, success=success, **values), LATER)  # type: ignore[arg-type]


def test_a_run_succeeds_when_every_stage_did() -> None:
    run = assign(make_run("build: a, b; test: c"), "a", "b")
    assert run.status == RUNNING
    assert run.started_at == NOW
    run = report(run, "a").run
    assert statuses(run)["build/"] == RUNNING
    run = report(run, "b").run
    assert statuses(run) == {"build/": SUCCESS, "test/": QUEUED, "a": SUCCESS, "b": SUCCESS, "c": QUEUED}
    done = report(assign(run, "c"), "c")
    assert done.run.status == SUCCESS
    assert done.run.finished_at == LATER
    assert t.RunEnded(run.id, SUCCESS) in done.effects


def test_a_failed_stage_cancels_what_comes_later_but_not_its_own_siblings() -> None:
    run = assign(make_run("one: a, b; two: c; three: d"), "a")
    run = report(run, "a", success=False, error="exit 1").run
    assert statuses(run)["b"] == QUEUED
    assert run.status == RUNNING
    run = report(assign(run, "b"), "b").run
    assert statuses(run) == {
        "one/": FAILED, "two/": CANCELED, "three/": CANCELED,
        "a": FAILED, "b": SUCCESS, "c": CANCELED, "d": CANCELED,
    }  # fmt: skip
    assert job_named(run, "c").cancel_origin == "dependency"
    assert run.status == FAILED


def test_after_a_cancelled_stage_the_next_one_is_reached_and_the_run_is_cancelled_at_the_end() -> None:
    run = make_run("one: a; two: b")
    run = apply(run, t.JobCancelRequested(job_named(run, "a").id), NOW).run
    assert statuses(run)["one/"] == CANCELED
    assert run.status == QUEUED
    assert report(assign(run, "b"), "b").run.status == CANCELED


def test_a_stage_whose_jobs_were_all_skipped_is_a_success() -> None:
    run = make_run("one: a")
    done = apply(run, t.JobSkipped(job_named(run, "a").id), NOW)
    assert statuses(done.run) == {"one/": SUCCESS, "a": SKIPPED}
    assert done.run.status == SUCCESS


def test_empty_stages_succeed_when_they_are_reached() -> None:
    run = apply(make_run("one: ; two: a; three: "), t.Reached(), NOW).run
    assert statuses(run) == {"one/": SUCCESS, "two/": QUEUED, "three/": QUEUED, "a": QUEUED}
    run = report(assign(run, "a"), "a").run
    assert statuses(run)["three/"] == SUCCESS
    assert run.status == SUCCESS


def test_a_run_of_empty_stages_only_ends_at_once() -> None:
    done = apply(make_run("one: ; two: "), t.Reached(), NOW)
    assert done.run.status == SUCCESS
    assert t.RunEnded(done.run.id, SUCCESS) in done.effects


@pytest.mark.parametrize(
    "changed",
    [{"agent_id": OTHER}, {"attempt": 1}],
    ids=["other agent", "other attempt"],
)
def test_a_result_that_is_not_of_this_attempt_changes_nothing(changed: dict[str, object]) -> None:
    run = assign(make_run("one: a"), "a")
    done = report(run, "a", **changed)
    assert done.run is run
    assert done.effects == ()


def test_a_repeated_result_changes_nothing() -> None:
    run = report(assign(make_run("one: a, b"), "a"), "a").run
    assert report(run, "a", success=False).run is run


def test_cancel_of_a_run_ends_it_now_and_lets_running_jobs_report() -> None:
    run = assign(make_run("one: a, b; two: c"), "a")
    done = apply(run, t.RunCancelRequested(), NOW)
    run = done.run
    assert run.status == CANCELED
    assert run.finished_at == NOW
    assert statuses(run) == {"one/": RUNNING, "two/": CANCELED, "a": RUNNING, "b": CANCELED, "c": CANCELED}
    assert job_named(run, "a").cancel_requested_at == NOW
    assert job_named(run, "b").cancel_origin == "user_run"
    assert t.StopJob(run.id, job_named(run, "a").id, AGENT, "user canceled") in done.effects
    end = report(run, "a", success=True).run
    assert statuses(end)["a"] == CANCELED
    assert statuses(end)["one/"] == CANCELED
    assert end.finished_at == NOW, "a run keeps the time of its cancel"


def test_cancel_closes_a_running_stage_that_nothing_runs_in() -> None:
    run = report(assign(make_run("one: a, b"), "a"), "a").run
    run = apply(run, t.RunCancelRequested(), NOW).run
    assert statuses(run) == {"one/": CANCELED, "a": SUCCESS, "b": CANCELED}


def test_cancel_of_a_finished_run_changes_nothing() -> None:
    run = report(assign(make_run("one: a"), "a"), "a").run
    assert apply(run, t.RunCancelRequested(), NOW).run is run


def test_cancel_of_a_running_job_is_stamped_once_and_sent_each_time() -> None:
    run = assign(make_run("one: a"), "a")
    first = apply(run, t.JobCancelRequested(job_named(run, "a").id), NOW)
    again = apply(first.run, t.JobCancelRequested(job_named(run, "a").id), LATER)
    assert job_named(again.run, "a").cancel_requested_at == NOW
    assert len(again.effects) == 1
    assert report(again.run, "a").run.status == CANCELED


def test_a_lost_agent_is_repeated_three_times_and_then_fails_the_job() -> None:
    run = make_run("one: a")
    for attempt in range(4):
        run = assign(run, "a")
        job = job_named(run, "a")
        assert job.attempt == attempt
        run = apply(run, t.AgentLost(job.id, AGENT, attempt, "agent lost before completion"), LATER).run
    job = job_named(run, "a")
    assert (job.status, job.exit_code, job.attempt) == (FAILED, -1, 3)
    assert job.error == "agent lost before completion (attempts=4, max=3)"
    assert run.status == FAILED


def test_a_lost_deploy_job_is_never_repeated() -> None:
    run = make_run("one: a")
    run = assign(run.with_jobs(replace(job_named(run, "a"), retry_unsafe=True)), "a")
    run = apply(run, t.AgentLost(job_named(run, "a").id, AGENT, 0, "agent lost before completion"), LATER).run
    assert statuses(run)["a"] == FAILED


def test_a_lost_agent_with_a_pending_cancel_makes_the_job_cancelled() -> None:
    run = assign(make_run("one: a"), "a")
    run = apply(run, t.JobCancelRequested(job_named(run, "a").id), NOW).run
    run = apply(run, t.AgentLost(job_named(run, "a").id, AGENT, 0, "agent lost"), LATER).run
    assert statuses(run)["a"] == CANCELED


def test_an_assignment_that_could_not_be_sent_is_not_an_attempt() -> None:
    run = assign(make_run("one: a"), "a")
    job = job_named(run, "a")
    done = apply(run, t.AssignmentLost(job.id, AGENT, 0), LATER)
    assert job_named(done.run, "a") == replace(job, status=QUEUED, agent_id=None, started_at=None)
    assert t.LookAgain(run.id) in done.effects


def test_outputs_are_kept_of_a_success_only() -> None:
    run = assign(make_run("one: a, b, c"), "a", "b", "c")
    run = apply(run, t.JobCancelRequested(job_named(run, "c").id), NOW).run
    run = report(run, "a", outputs={"k": "v"}).run
    run = report(run, "b", success=False, outputs={"k": "v"}).run
    run = report(run, "c", outputs={"k": "v"}).run
    assert [dict(job_named(run, name).outputs) for name in "abc"] == [{"k": "v"}, {}, {}]


def test_the_end_of_a_serial_run_frees_the_pipeline() -> None:
    run = assign(make_run("one: a", concurrency="serial"), "a")
    assert t.PipelineFree(run.pipeline_id) in report(run, "a").effects
