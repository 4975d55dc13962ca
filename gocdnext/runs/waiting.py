"""Why is it waiting? The answer for every queued or waiting job and for the run, from the function that decides.

Pure. `code` is stable for programs, `text` is a sentence for people, `detail` names the thing that is waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from gocdnext.runs import dispatch, governance
from gocdnext.runs.ports import Slot
from gocdnext.runs.state import AWAITING, OPEN, QUEUED, Job, Run


@dataclass(frozen=True, slots=True)
class Waiting:
    """One reason."""

    code: str
    text: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Reasons:
    """What a run and its jobs wait for; None and no entry for what does not wait."""

    run: Waiting | None
    jobs: dict[UUID, Waiting]
    frozen: dict[UUID, tuple[str, ...]] = field(default_factory=dict)
    """Waiting gates that govern frozen environments, and those (contract-runs 3.3)."""


NOTHING = Reasons(None, {})
"""What nothing waits for."""


def reasons(run: Run, slots: Sequence[Slot]) -> Reasons:
    """The reasons at this moment. A job that a free agent is about to get waits for `dispatch`."""
    plan = dispatch.plan(run, slots)
    jobs = {job.id: _later(run, job) for job in run.jobs if job.status == QUEUED}
    jobs |= {job.id: _gate(run, job) for job in run.jobs if job.status == AWAITING}
    for decision in plan.decisions:
        match decision:
            case dispatch.Wait(waiting, code, text, detail):
                jobs |= dict.fromkeys((job.id for job in waiting), Waiting(code, text, detail))
            case dispatch.Assign(job) | dispatch.Refuse(job) | dispatch.Skip(job):
                jobs[job.id] = Waiting("dispatch", "is about to be dispatched")
    frozen = {job.id: names for job in run.jobs if job.status == AWAITING and (names := _frozen(run, job))}
    return Reasons(_run(run, plan, jobs), jobs, frozen)


def _run(run: Run, plan: dispatch.Plan, jobs: dict[UUID, Waiting]) -> Waiting | None:
    if run.status not in OPEN:
        return None
    if run.serial_holder is not None and run.status == QUEUED:
        holder = str(run.serial_holder)
        return Waiting("serial", "another run of this serial pipeline is running", holder)
    if plan.queue_reason is not None:
        code, _, environment = plan.queue_reason.partition(":")
        return Waiting(code, f"the environment {environment} holds it", environment)
    if any(job.status not in (QUEUED, AWAITING) and job.finished_at is None for job in run.jobs):
        return None  # something of it is running
    active = run.active_stage
    waiting = [jobs[job.id] for job in run.jobs_of(active) if job.id in jobs] if active is not None else []
    return waiting[0] if waiting else None


def _later(run: Run, job: Job) -> Waiting:
    if run.serial_holder is not None and run.status == QUEUED:
        return Waiting("serial", "its run waits for another run of this serial pipeline", str(run.serial_holder))
    active = run.active_stage
    name = active.name if active is not None else ""
    return Waiting("stage", f"waits for the stage {name}", name)


def _gate(run: Run, job: Job) -> Waiting:
    assert job.gate is not None
    if frozen := _frozen(run, job):
        names = ", ".join(frozen)
        return Waiting("gate", f"cannot be approved while {names} is frozen", names)
    missing = job.gate.required - job.gate.approvals
    who = ", ".join((*job.gate.approvers, *job.gate.approver_groups)) or "anyone"
    text = f"waits for {missing} more approval{'s' if missing > 1 else ''} by {who}"
    return Waiting("gate", text, str(missing))


def _frozen(run: Run, gate: Job) -> tuple[str, ...]:
    return tuple(sorted(governance.governed_environments(run.definition, gate.name) & run.frozen))
