"""A dispatch pass carried out on the values: plan, build assignments, fail what cannot be built, until nothing follows.

Pure. The service saves the result in one transaction and sends the assignments after its commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from gocdnext.pipeline.environment import DeployReference
from gocdnext.runs import assignment, dispatch, events, transitions
from gocdnext.runs.assignment import NO_SECRETS, Assignment, AssignmentError, Reference, SecretValues
from gocdnext.runs.ports import Slot
from gocdnext.runs.state import OPEN, Job, Run


@dataclass(frozen=True, slots=True)
class Sent:
    """An assignment and the slot that it is for."""

    assignment: Assignment
    slot: Slot


@dataclass(frozen=True, slots=True)
class Deploy:
    """A deployment that an assignment begins."""

    job: Job
    environment: str
    reference: DeployReference


@dataclass(slots=True)
class Pass:
    """A dispatch pass and, when it is done, its result."""

    run: Run
    slots: tuple[Slot, ...]
    now: datetime
    secrets: SecretValues = NO_SECRETS
    assignments: list[Sent] = field(default_factory=list)
    deploys: list[Deploy] = field(default_factory=list)
    effects: tuple[events.Effect, ...] = ()
    consequences: tuple[events.Consequence, ...] = ()
    wanted: set[frozenset[str]] = field(default_factory=set)
    """Tags of the jobs that could run and have no slot here."""
    awaited: set[Reference] = field(default_factory=set)
    """Where secrets are of jobs that could run now, and that another store has not told yet."""

    def apply(self, event: events.Event) -> None:
        """One transition of the run."""
        outcome = transitions.apply(self.run, event, self.now)
        self.run = outcome.run
        self.effects += outcome.effects
        self.consequences += outcome.consequences


def carry_out(run: Run, slots: Sequence[Slot], now: datetime, secrets: SecretValues = NO_SECRETS) -> Pass:
    """Everything that can be decided about the run now."""
    done = Pass(run, tuple(slots), now, secrets)
    done.apply(events.Reached())
    while _once(done):
        pass
    return done


def _once(done: Pass) -> bool:
    """One plan carried out; True when a refusal or skip may have made more possible."""
    plan = dispatch.plan(done.run, done.slots)
    again = False
    done.wanted.clear()
    for decision in plan.decisions:
        match decision:
            case dispatch.Assign(job, slot):
                again |= not _assign(done, job, slot)
            case dispatch.Refuse(job, error):
                done.apply(events.JobRefused(job.id, error))
                again = True
            case dispatch.Skip(job):
                done.apply(events.JobSkipped(job.id))
                again = True
            case dispatch.Wait(code=code, tags=tags) if code in dispatch.NO_SLOT:
                done.wanted.add(tags)
    if done.run.status in OPEN and done.run.queue_reason != plan.queue_reason:
        done.run = replace(done.run, queue_reason=plan.queue_reason)
    return again


def _assign(done: Pass, job: Job, slot: Slot) -> bool:
    """Gives the job to the slot; False when its assignment cannot be built, which fails the job. A job whose secrets are
    not all there stays queued, and whoever has them is asked."""
    definition = done.run.definition_of(job)
    asked = () if definition is None else definition.secrets
    if awaited := {done.secrets.elsewhere[name] for name in asked if name in done.secrets.elsewhere}:
        done.awaited |= awaited
        return True
    try:
        made = assignment.build(done.run, job, done.secrets)
        if made.definition.deploy is not None:
            deploy = made.definition.deploy
            reference = assignment.deploy_reference_of(done.run, job, deploy)
            done.deploys.append(Deploy(job, deploy.environment, reference))
    except AssignmentError as error:
        done.apply(events.JobRefused(job.id, str(error)))
        return False
    done.apply(events.JobAssigned(job.id, slot.agent_id))
    done.assignments.append(Sent(made, slot))
    done.slots = tuple(replace(s, free=s.free - 1) if s.session_id == slot.session_id else s for s in done.slots)
    return True
