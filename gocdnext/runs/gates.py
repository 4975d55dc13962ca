"""Transitions of approval gates: who may vote, when the quorum is reached, what an answer opens (spec-execution 8). Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from gocdnext.runs import governance
from gocdnext.runs.cascade import end_job
from gocdnext.runs.events import GatePassed, GateVoted, LookAgain, Outcome, Voter, refuse
from gocdnext.runs.state import APPROVED, AWAITING, FAILED, REJECTED, SUCCESS, Gate, Job, Run, Vote


def voted(run: Run, event: GateVoted, now: datetime) -> Outcome:
    """Counts an approval, or ends the gate with a rejection. The same person's second approval changes nothing."""
    job = run.job(event.job_id)
    if job is None or job.gate is None:
        return refuse(run, "not_found", "approval gate not found")
    if job.status != AWAITING:
        superseded = run.superseded_by is not None
        text = "run was superseded by a newer revision" if superseded else "gate already decided"
        return refuse(run, "conflict", text)
    if not _allowed(job.gate, event.voter):
        return refuse(run, "forbidden", "user not in approvers list")
    if not event.approve:
        return _decided(run, job, event, REJECTED, now)
    frozen = governance.governed_environments(run.definition, job.name) & run.frozen
    if frozen:
        return refuse(run, "conflict", f"cannot approve: frozen environment {', '.join(sorted(frozen))}")
    if not event.voter.key and job.gate.required > 1:
        # Design 9, decision 14: anonymous voices cannot be told apart.
        text = f"this gate needs {job.gate.required} approvals: say who you are"
        return refuse(run, "unprocessable", text)
    if any(vote.key == event.voter.key for vote in job.gate.votes):
        return Outcome(run)
    counted = _with_vote(job, job.gate, event, APPROVED, now)
    assert counted.gate is not None
    if counted.gate.approvals < counted.gate.required:
        return Outcome(run.with_jobs(counted))
    return _decided(run, counted, event, APPROVED, now)


def released(run: Run, environment: str, now: datetime) -> Outcome:
    """The clocks of the waiting gates in front of an environment start anew, and what it held may go."""
    again = [
        replace(job, gate=replace(job.gate, awaiting_since=now))
        for job in run.jobs
        if job.gate is not None
        and job.status == AWAITING
        and environment in governance.governed_environments(run.definition, job.name)
    ]
    return Outcome(run.with_jobs(*again) if again else run, (LookAgain(run.id),))


def _decided(run: Run, job: Job, event: GateVoted, decision: str, now: datetime) -> Outcome:
    assert job.gate is not None
    if decision == REJECTED and event.voter.key and all(vote.key != event.voter.key for vote in job.gate.votes):
        job = _with_vote(job, job.gate, event, REJECTED, now)
    assert job.gate is not None
    gate = replace(job.gate, decision=decision, decided_by=event.voter.label, decided_at=now)
    status = SUCCESS if decision == APPROVED else FAILED
    outcome = end_job(run, replace(job, gate=gate), status, now)
    if decision == REJECTED:
        return outcome
    return replace(outcome, consequences=(*_passed(outcome.run, job), *outcome.consequences))


def _passed(run: Run, gate: Job) -> tuple[GatePassed, ...]:
    """Environments behind this gate whose gates have all passed; marked only where runs supersede each other."""
    if not run.definition.supersede:
        return ()
    status = {job.name: job.status for job in run.jobs if job.gate is not None}
    return tuple(
        GatePassed(environment)
        for environment in sorted(governance.governed_deploys(run.definition, gate.name))
        if all(status.get(name) == SUCCESS for name in governance.governing_gates(run.definition, environment))
    )


def _with_vote(job: Job, gate: Gate, event: GateVoted, decision: str, now: datetime) -> Job:
    vote = Vote(event.voter.key, event.voter.label, decision, event.comment, now)
    return replace(job, gate=replace(gate, votes=(*gate.votes, vote)))


def _allowed(gate: Gate, voter: Voter) -> bool:
    if not gate.approvers and not gate.approver_groups:
        return True
    return bool(voter.names & set(gate.approvers) or voter.groups & set(gate.approver_groups))
