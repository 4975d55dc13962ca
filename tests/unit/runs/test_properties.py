"""Random pipelines, random orders of events, late and repeated ones among them: what must hold whatever happens."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from gocdnext.runs import dispatch
from gocdnext.runs import events as t
from gocdnext.runs.state import AWAITING, OPEN, OPEN_JOB, RUNNING, TERMINAL_JOB, Run
from gocdnext.runs.transitions import apply
from tests.scenarios.invariants import check
from tests.unit.runs.builders import AGENT, NOW, OTHER, make_run, slot

VOTER = t.Voter("ann", "Ann", frozenset({"ann"}))
KINDS = ["", "", "", "", "[X=1]&[X=2]", "!", "@prod"]


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Up to three stages of up to three jobs with needs on anything before them, matrices, gates, deployments,
    notifications, retries."""
    stages, known = [], []
    for number in range(draw(st.integers(1, 3))):
        words = []
        for index in range(draw(st.integers(0, 3))):
            name = f"j{number}{index}"
            needs = draw(st.lists(st.sampled_from(known), max_size=2, unique=True)) if known else []
            kind = draw(st.sampled_from(KINDS))
            words += [f"{name}{part}<{'+'.join(needs)}" for part in kind.split("&")]
            known.append(name)
        stages.append(f"s{number}: {', '.join(words)}")
    return make_run(
        "; ".join(stages),
        supersede=draw(st.sampled_from(["", "pipeline"])),
        concurrency=draw(st.sampled_from(["", "serial"])),
        retry=draw(st.sampled_from([0, 0, 2])),
        notify=draw(st.sampled_from([(), (), ("always", "failure", "success", "canceled")])),
    )


def dispatched(run: Run, free: int) -> Run:
    """Passes until nothing follows any more."""
    while True:
        run = apply(run, t.Reached(), NOW).run
        events: list[t.Event] = []
        for decision in dispatch.plan(run, [slot(free=free)]).decisions:
            match decision:
                case dispatch.Assign(job, place):
                    events.append(t.JobAssigned(job.id, place.agent_id))
                    free -= 1
                case dispatch.Refuse(job, error):
                    events.append(t.JobRefused(job.id, error))
                case dispatch.Skip(job):
                    events.append(t.JobSkipped(job.id))
        if not events:
            return run
        for event in events:
            run = apply(run, event, NOW).run


def random_event(draw: st.DrawFn, run: Run, *, reruns: bool = True) -> t.Event:
    if not run.jobs:
        return t.RunCancelRequested()
    job = draw(st.sampled_from(run.jobs))
    agent = draw(st.sampled_from([AGENT, AGENT, AGENT, OTHER]))
    attempt = max(0, job.attempt - draw(st.sampled_from([0, 0, 0, 1])))
    rare = draw(st.integers(0, 9)) == 0
    return draw(
        st.sampled_from(
            [
                t.JobReported(job.id, agent, attempt, draw(st.booleans()), 0),
                t.JobReported(job.id, agent, attempt, True, 0),
                t.AgentLost(job.id, agent, attempt, "agent lost"),
                t.AssignmentLost(job.id, agent, attempt),
                t.JobTimedOut(job.id, attempt, "timed out after 1s"),
                t.JobCancelRequested(job.id),
                t.GateVoted(job.id, VOTER, draw(st.booleans())),
                t.GateExpired(job.id, NOW, "1h0m0s") if rare else t.Reached(),
                t.RunCancelRequested() if rare else t.Reached(),
                t.RunSuperseded(run.id, 9) if rare else t.Reached(),
                t.JobRerunRequested(job.id) if reruns else t.Reached(),
            ]
        )
    )


def finished(run: Run) -> Run:
    """What becomes of it when agents keep working and people answer."""
    for _ in range(3 * len(run.jobs) + 3):
        run = dispatched(run, 9)
        for job in run.jobs:
            if job.status == RUNNING and job.agent_id is not None:
                run = apply(run, t.JobReported(job.id, job.agent_id, job.attempt, True, 0), NOW).run
            elif job.status == AWAITING:
                run = apply(run, t.GateVoted(job.id, VOTER, True), NOW).run
    return run


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_invariants_hold_and_every_run_ends(data: st.DataObject) -> None:
    run = data.draw(runs())
    free = data.draw(st.integers(1, 4))
    for _ in range(data.draw(st.integers(0, 12))):
        run = dispatched(run, free)
        check(run)
        before = run
        event = random_event(data.draw, run)
        outcome = apply(run, event, NOW + timedelta(seconds=1))
        run = outcome.run
        check(run)
        if not isinstance(event, t.JobRerunRequested):
            for job in before.jobs:
                if job.status in TERMINAL_JOB:
                    assert run.job(job.id) == job, "a terminal job changes by a rerun only"
            if before.status not in OPEN:
                assert run.status == before.status, "a finished run is reopened by a rerun only"
        if outcome.run is before:
            assert not outcome.consequences
            assert not [e for e in outcome.effects if not isinstance(e, t.StopJob)]
        assert outcome.refused is None or outcome.run is before
    run = finished(run)
    check(run)
    assert run.status not in OPEN
    assert not any(job.status in OPEN_JOB for job in run.jobs)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_same_event_twice_is_the_same_as_once(data: st.DataObject) -> None:
    run = dispatched(data.draw(runs()), 3)
    event = random_event(data.draw, run, reruns=False)
    once = apply(run, event, NOW).run
    assert apply(once, event, NOW).run == once
