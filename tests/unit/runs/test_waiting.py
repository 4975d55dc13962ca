"""The reasons that people read while something waits: each one, and that they fit what dispatch would do."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from hypothesis import given, settings

from gocdnext.runs import dispatch
from gocdnext.runs.ports import Slot
from gocdnext.runs.state import AWAITING, QUEUED, RUNNING, Gate, Run
from gocdnext.runs.waiting import Waiting, reasons
from tests.unit.runs.builders import AGENT, NOW, job_named, make_run, slot
from tests.unit.runs.test_properties import runs


def of(run: Run, label: str, *slots: Slot) -> Waiting | None:
    return reasons(run, slots).jobs.get(job_named(run, label).id)


def test_no_agent_agents_full_and_tags() -> None:
    run = make_run("one: a", tags={"a": ("gpu",)})
    assert of(run, "a") == Waiting("no_agent", "no agent with the tags gpu is connected", "")
    full = of(run, "a", slot(free=0, tags=("gpu",)))
    assert full is not None
    assert full.code == "agents_full"
    assert reasons(run, ()).run == of(run, "a"), "a run that does nothing waits for what its first job waits for"


def test_later_stages_and_needs() -> None:
    run = make_run("one: a, b<a; two: c")
    run = run.with_jobs(replace(job_named(run, "a"), status=RUNNING, agent_id=AGENT, started_at=NOW))
    assert of(run, "b", slot()) == Waiting("needs", "waits for a", "")
    assert of(run, "c", slot()) == Waiting("stage", "waits for the stage one", "one")
    assert reasons(replace(run, status=RUNNING), (slot(),)).run is None, "it is running"


def test_the_serial_slot() -> None:
    run = make_run("one: a", concurrency="serial", serial_holder=UUID(int=7))
    assert reasons(run, (slot(),)).run == Waiting(
        "serial", "another run of this serial pipeline is running", str(UUID(int=7))
    )


def test_gates_say_how_many_and_who() -> None:
    run = make_run("one: g!; two: d@prod")
    gate = Gate(NOW, required=2, approvers=("ann",), approver_groups=("ops",))
    run = run.with_jobs(replace(job_named(run, "g"), gate=gate))
    assert of(run, "g") == Waiting("gate", "waits for 2 more approvals by ann, ops", "2")
    frozen = of(replace(run, frozen=frozenset({"prod"})), "g")
    assert frozen is not None
    assert frozen.text == "cannot be approved while prod is frozen"


def test_holds_of_environments() -> None:
    run = make_run("one: d@prod")
    assert of(replace(run, frozen=frozenset({"prod"})), "d", slot()) == Waiting(
        "frozen-deploy", "the environment prod is frozen", "prod"
    )
    assert of(replace(run, passed_by_newer=frozenset({"prod"})), "d", slot()) == Waiting(
        "supersede-blocked", "a newer run goes to prod first", "prod"
    )


@settings(max_examples=200, deadline=None)
@given(runs())
def test_everything_that_waits_has_a_reason_and_nothing_else(run: Run) -> None:
    found = reasons(run, (slot(free=1),))
    assert set(found.jobs) == {job.id for job in run.jobs if job.status in (QUEUED, AWAITING)}
    for decision in dispatch.plan(run, (slot(free=1),)).decisions:
        jobs = decision.jobs if isinstance(decision, dispatch.Wait) else (decision.job,)
        for job in jobs:
            assert (found.jobs[job.id].code == "dispatch") == (not isinstance(decision, dispatch.Wait))
