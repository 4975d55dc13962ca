"""One dispatch pass over a run: which jobs may go where, and why the others may not (spec-execution 4 and 5).

Pure: takes the run, the free slots and the time, returns decisions. The scheduler carries them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gocdnext.pipeline import model
from gocdnext.runs.governance import environment_of
from gocdnext.runs.ports import Slot
from gocdnext.runs.state import (
    CANCELED,
    FAILED,
    NOTIFICATIONS_STAGE,
    NOTIFY_PREFIX,
    QUEUED,
    SUCCESS,
    TERMINAL_JOB,
    Job,
    Run,
)

NO_SLOT = frozenset({"no_agent", "agents_full"})
"""Codes of `Wait` that mean: runnable, but there is no slot for it here."""
HOLDS = ("frozen-deploy", "supersede-blocked")
"""Codes that hold the run itself, strongest first (spec-execution 4, point 5)."""


@dataclass(frozen=True, slots=True)
class Assign:
    """Give the job to this session."""

    job: Job
    slot: Slot


@dataclass(frozen=True, slots=True)
class Refuse:
    """Fail the job: it can never run. `error` is what its user reads."""

    job: Job
    error: str


@dataclass(frozen=True, slots=True)
class Skip:
    """Skip the job: what it needs was cancelled or skipped."""

    job: Job


@dataclass(frozen=True, slots=True)
class Wait:
    """Leave the job queued. `code` is stable for programs, `text` for people."""

    job: Job
    code: str
    text: str
    detail: str = ""
    tags: frozenset[str] = frozenset()
    """What an agent must have, when it is a slot that is waited for."""


Decision = Assign | Refuse | Skip | Wait


@dataclass(frozen=True, slots=True)
class Plan:
    """What one pass decides. `queue_reason` is the run's own hold, None when nothing holds it."""

    decisions: tuple[Decision, ...] = ()
    queue_reason: str | None = None


def plan(run: Run, slots: Sequence[Slot]) -> Plan:
    """Decides for every queued job of the active stage, ordered by name and matrix key.

    A serial pipeline has one slot: while another run holds it, a queued run waits and a running one goes on
    (design 9, decision 6).
    """
    if run.serial_holder is not None and run.status == QUEUED:
        return Plan(queue_reason=f"serial-busy:{run.serial_holder}")
    stage = run.active_stage
    if stage is None:
        return Plan()
    places = _Places(slots)
    queued = sorted((j for j in run.jobs_of(stage) if j.status == QUEUED), key=lambda j: (j.name, j.matrix_key))
    by_name: dict[str, list[Job]] = {}
    for job in run.jobs:
        by_name.setdefault(job.name, []).append(job)
    decisions = tuple(_decide(run, job, by_name, places) for job in queued)
    return Plan(decisions, _hold(decisions))


def _decide(run: Run, job: Job, by_name: dict[str, list[Job]], places: _Places) -> Decision:
    definition = run.definition_of(job)
    if definition is None:
        return Refuse(job, f"job {job.name} is not in the definition this run was made from")
    if definition.stage == NOTIFICATIONS_STAGE and not _notifies(run, job):
        return Skip(job)
    decided = _needs(job, by_name) or _held(run, job, definition)
    if decided is not None:
        return decided
    slot = places.take(frozenset(definition.tags))
    if slot is not None:
        return Assign(job, slot)
    return _no_slot(job, definition.tags, places)


def _notifies(run: Run, job: Job) -> bool:
    """Whether the outcome of the user stages is what the notification waits for (spec-execution 15)."""
    seen = {row.status for row in run.user_jobs}
    match run.notifications[int(job.name.removeprefix(NOTIFY_PREFIX))].on:
        case "always":
            return True
        case "failure":
            return FAILED in seen
        case "canceled":
            return CANCELED in seen
        case _:
            return not seen & {FAILED, CANCELED}


def _held(run: Run, job: Job, definition: model.Job) -> Wait | None:
    """What keeps a job from an environment: a freeze, or a newer run that has passed its gates (sections 9 and 10)."""
    environment = environment_of(definition)
    if environment in run.frozen:
        return Wait(job, "frozen-deploy", f"the environment {environment} is frozen", environment)
    if definition.deploy is not None and environment in run.passed_by_newer and not job.rollback:
        return Wait(job, "supersede-blocked", f"a newer run goes to {environment} first", environment)
    return None


def _hold(decisions: tuple[Decision, ...]) -> str | None:
    """The run's queue reason: the strongest hold, alphabetical on a tie."""
    holds = [(HOLDS.index(d.code), d.detail) for d in decisions if isinstance(d, Wait) and d.code in HOLDS]
    if not holds:
        return None
    rank, environment = min(holds)
    return f"{HOLDS[rank]}:{environment}"


def _needs(job: Job, by_name: dict[str, list[Job]]) -> Decision | None:
    """The decision that unmet needs force, None when all are met. Over all of them, a failure decides first, then
    what is unfinished, and only then what was cancelled or skipped."""
    missing = next((name for name in job.needs if not by_name.get(name)), None)
    if missing is not None:
        return Refuse(job, f"needs unmet: {missing}: not in this run")
    rows = [row for name in job.needs for row in by_name[name]]
    failed = next((row for row in rows if row.status == FAILED), None)
    if failed is not None:
        return Refuse(job, f"needs unmet: {failed.label}: failed")
    unfinished = next((row for row in rows if row.status not in TERMINAL_JOB), None)
    if unfinished is not None:
        return Wait(job, "needs", f"waits for {unfinished.label}")
    if any(row.status != SUCCESS for row in rows):
        return Skip(job)
    return None


def _no_slot(job: Job, tags: Iterable[str], places: _Places) -> Wait:
    wanted = sorted(set(tags))
    if not places.known(frozenset(wanted)):
        what = f"no agent with the tags {', '.join(wanted)} is connected" if wanted else "no agent is connected"
        return Wait(job, "no_agent", what, tags=frozenset(wanted))
    return Wait(job, "agents_full", "every agent that could take this job is busy", tags=frozenset(wanted))


class _Places:
    """The free slots of one pass; each `take` uses one up."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._free = {slot.session_id: slot.free for slot in slots}
        self._slots = slots

    def take(self, tags: frozenset[str]) -> Slot | None:
        """The fitting session with the most free slots (then by name), so that work spreads over agents."""
        fitting = [s for s in self._slots if tags <= s.tags and self._free[s.session_id] > 0]
        if not fitting:
            return None
        best = min(fitting, key=lambda s: (-self._free[s.session_id], s.name))
        self._free[best.session_id] -= 1
        return best

    def known(self, tags: frozenset[str]) -> bool:
        """Whether any session, busy or not, has these tags."""
        return any(tags <= slot.tags for slot in self._slots)
