"""What the audit trail is told of that no person did (contract-runs 11): superseded runs, gates that nobody decided,
quorums that a label has changed. Pure: makes the events, writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from uuid import UUID

from gocdnext.audit import DONE, Event
from gocdnext.runs.state import Run

SYSTEM = "system"
"""The name of the actor where the server itself acted."""


def overrides(run: Run) -> bool:
    """Whether a label of the pull request has changed the quorum of one of its gates."""
    return any(job.gate is not None and job.gate.quorum_label is not None for job in run.jobs)


def quorums_overridden(run: Run, now: datetime, new_id: Callable[[], UUID]) -> Iterator[Event]:
    """One event for each gate of a new run whose quorum comes from a label (4.3)."""
    if not overrides(run):
        return
    base = {job.name: max(1, job.approval.required) for job in run.definition.jobs if job.approval is not None}
    for job in run.jobs:
        if job.gate is None or job.gate.quorum_label is None:
            continue
        yield Event(
            id=new_id(),
            at=now,
            action="approval.quorum_overridden",
            target_type="job_run",
            target_id=str(job.id),
            outcome=DONE,
            metadata={
                "run_id": str(run.id),
                "job_name": job.name,
                "matrix_key": job.matrix_key,
                "base_required": base.get(job.name, 1),
                "effective_required": job.gate.required,
                "label": job.gate.quorum_label,
                "cause": run.cause,
            },
        )


def superseded(victim: Run, by: Run, now: datetime, new_id: Callable[[], UUID]) -> Event:
    """A run had to give way to a newer one of its lane."""
    return Event(
        id=new_id(),
        at=now,
        action="run.superseded",
        target_type="run",
        target_id=str(victim.id),
        outcome=DONE,
        actor_name=SYSTEM,
        metadata={"counter": victim.counter, "superseded_by": str(by.id), "superseded_by_counter": by.counter},
    )


def expired(run: Run, job_id: UUID, window: int, since: datetime, now: datetime, new_id: Callable[[], UUID]) -> Event:
    """Nobody decided a gate within its window of `window` seconds."""
    names = [job.name for job in run.jobs if job.id == job_id]
    return Event(
        id=new_id(),
        at=now,
        action="approval.expired",
        target_type="job_run",
        target_id=str(job_id),
        outcome=DONE,
        actor_name=SYSTEM,
        metadata={
            "run_id": str(run.id),
            "counter": run.counter,
            "job_name": names[0] if names else "",
            "window_seconds": window,
            "waited_seconds": int((now - since).total_seconds()),
        },
    )
