"""Which job goes where, and why the others do not (spec-execution 4 and 5)."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from gocdnext.runs import dispatch
from gocdnext.runs.state import CANCELED, FAILED, RUNNING, SKIPPED, SUCCESS, Run
from tests.unit.runs.builders import OTHER, job_named, make_run, slot


def with_status(run: Run, **by_name: str) -> Run:
    return run.with_jobs(*(replace(job, status=by_name.get(job.name, job.status)) for job in run.jobs))


def decided(run: Run, *slots: object) -> dict[str, dispatch.Decision]:
    found = {}
    for decision in dispatch.plan(run, slots).decisions:  # type: ignore[arg-type]
        jobs = decision.jobs if isinstance(decision, dispatch.Wait) else (decision.job,)
        found |= dict.fromkeys((job.label for job in jobs), decision)
    return found


def test_only_the_lowest_open_stage_is_looked_at() -> None:
    assert set(decided(make_run("one: a, b; two: c"), slot(free=9))) == {"a", "b"}


def test_jobs_go_out_by_name_then_matrix_key_until_the_slots_are_used_up() -> None:
    decisions = dispatch.plan(make_run("one: m[X=2], m[X=1], a"), [slot(free=2)]).decisions
    assert [type(d).__name__ for d in decisions] == ["Assign", "Assign", "Wait"]
    assert [d.job.label for d in decisions if isinstance(d, dispatch.Assign)] == ["a", "m[X=1]"]
    assert isinstance(decisions[2], dispatch.Wait)
    assert [job.label for job in decisions[2].jobs] == ["m[X=2]"]
    assert decisions[2].code == "agents_full"


def test_an_agent_needs_every_tag() -> None:
    run = make_run("one: a", tags={"a": ("gpu", "linux")})
    waiting = decided(run, slot(tags=("linux",)))["a"]
    assert isinstance(waiting, dispatch.Wait)
    assert waiting.code == "no_agent"
    assert "gpu, linux" in waiting.text
    assert isinstance(decided(run, slot(tags=("linux", "gpu", "big")))["a"], dispatch.Assign)


def test_work_spreads_over_agents() -> None:
    run = make_run("one: a, b")
    decisions = decided(run, slot(free=2, name="x"), slot(OTHER, free=2, name="y"))
    agents = {d.slot.name for d in decisions.values() if isinstance(d, dispatch.Assign)}
    assert agents == {"x", "y"}


def test_a_failed_need_fails_the_dependent_and_names_the_instance() -> None:
    run = make_run("one: m[X=1], m[X=2]; two: b<m")
    first, second = (job for job in run.jobs if job.name == "m")
    run = run.with_jobs(replace(first, status=SUCCESS), replace(second, status=FAILED))
    run = run.with_stages(replace(run.stages[0], status=CANCELED))
    refused = decided(run, slot())["b"]
    assert refused == dispatch.Refuse(job_named(run, "b"), "needs unmet: m[X=2]: failed")


def test_a_need_that_is_not_in_the_run_fails_the_job() -> None:
    refused = decided(make_run("one: b<ghost"), slot())["b"]
    assert isinstance(refused, dispatch.Refuse)
    assert refused.error == "needs unmet: ghost: not in this run"


def test_failure_beats_waiting_and_waiting_beats_skipping() -> None:
    run = make_run("one: a, m[X=1], m[X=2], b<m+a")
    one, two = (job for job in run.jobs if job.name == "m")
    waiting = run.with_jobs(replace(one, status=CANCELED), replace(two, status=RUNNING))
    assert isinstance(decided(waiting, slot(free=9))["b"], dispatch.Wait)
    failed = run.with_jobs(replace(one, status=FAILED), replace(two, status=RUNNING))
    assert isinstance(decided(failed, slot(free=9))["b"], dispatch.Refuse)
    skipped = run.with_jobs(
        replace(one, status=SKIPPED), replace(two, status=SUCCESS), replace(job_named(run, "a"), status=SUCCESS)
    )
    assert decided(skipped, slot(free=9))["b"] == dispatch.Skip(job_named(skipped, "b"))


def test_a_job_that_is_not_in_the_snapshot_fails_instead_of_waiting_for_ever() -> None:
    run = make_run("one: a")
    run = replace(run, definition=type(run.definition)(name="p", stages=("one",), jobs=()))
    assert isinstance(decided(run, slot())["a"], dispatch.Refuse)


def test_a_serial_pipeline_has_one_slot() -> None:
    busy = UUID(int=7)
    run = make_run("one: a", concurrency="serial", serial_holder=busy)
    assert dispatch.plan(run, [slot()]) == dispatch.Plan(queue_reason=f"serial-busy:{busy}")
    assert dispatch.plan(replace(run, status=RUNNING), [slot()]).decisions != ()


def test_nothing_is_connected() -> None:
    waiting = decided(make_run("one: a"))["a"]
    assert isinstance(waiting, dispatch.Wait)
    assert waiting.text == "no agent is connected"


def test_the_job_that_waits_for_a_need_names_it() -> None:
    run = with_status(make_run("one: a, b<a"), a=RUNNING)
    assert decided(run, slot())["b"] == dispatch.Wait((job_named(run, "b"),), "needs", "waits for a")
