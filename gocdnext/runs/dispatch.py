"""One dispatch pass over a run: which jobs may go where, and why the others may not (spec-execution 4 and 5).

Pure: takes the run, the free slots and the time, returns decisions. The scheduler carries them out.
"""

from __future__ import annotations

from collections.abc import Sequence
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

NO_SLOT = frozenset({"no_agent", "agents_full", "disk_full"})
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
    """Leave the jobs queued: instances of one job, for one reason. `code` is stable for programs, `text` for people."""

    jobs: tuple[Job, ...]
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
    """Decides for every queued job of the active stage, by name, then matrix key.

    A serial pipeline has one slot: while another run holds it, a queued run waits and a running one goes on
    (design 9, decision 6).
    """
    if run.serial_holder is not None and run.status == QUEUED:
        return Plan(queue_reason=f"serial-busy:{run.serial_holder}")
    stage = run.active_stage
    if stage is None:
        return Plan()
    places = _Places(slots)
    by_name: dict[str, list[Job]] = {}
    for job in run.jobs:
        by_name.setdefault(job.name, []).append(job)
    decisions: list[Decision] = []
    for name in sorted({job.name for job in run.jobs_of(stage) if job.status == QUEUED}):
        queued = sorted((j for j in by_name[name] if j.status == QUEUED), key=lambda job: job.matrix_key)
        decisions += _decide(run, queued, by_name, places)
    return Plan(tuple(decisions), _hold(decisions))


def _decide(run: Run, jobs: list[Job], by_name: dict[str, list[Job]], places: _Places) -> list[Decision]:
    """For the queued instances of one job: what they need is the same for all of them."""
    definition = run.definition_of(jobs[0])
    if definition is None:
        text = f"job {jobs[0].name} is not in the definition this run was made from"
        return [Refuse(job, text) for job in jobs]
    if definition.stage == NOTIFICATIONS_STAGE and not _notifies(run, jobs[0]):
        return [Skip(job) for job in jobs]
    needs = [row for name in definition.needs for row in by_name.get(name, ())]
    missing = next((name for name in definition.needs if name not in by_name), None)
    if missing is not None:
        return [Refuse(job, f"needs unmet: {missing}: not in this run") for job in jobs]
    failed = next((row for row in needs if row.status == FAILED), None)
    if failed is not None:
        return [Refuse(job, f"needs unmet: {failed.label}: failed") for job in jobs]
    unfinished = next((row for row in needs if row.status not in TERMINAL_JOB), None)
    if unfinished is not None:
        return [Wait(tuple(jobs), "needs", f"waits for {unfinished.label}")]
    if any(row.status != SUCCESS for row in needs):
        return [Skip(job) for job in jobs]
    held = _held(run, jobs, definition)
    return [held] if held is not None else _place(jobs, frozenset(definition.tags), places)


def _place(jobs: list[Job], tags: frozenset[str], places: _Places) -> list[Decision]:
    """A slot for each, as long as there are any."""
    decisions: list[Decision] = []
    for number, job in enumerate(jobs):
        slot = places.take(tags)
        if slot is None:
            decisions.append(_no_slot(tuple(jobs[number:]), tags, places))
            break
        decisions.append(Assign(job, slot))
    return decisions


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


def _held(run: Run, jobs: list[Job], definition: model.Job) -> Wait | None:
    """What keeps a job from an environment: a freeze, or a newer run that has passed its gates (sections 9 and 10)."""
    environment = environment_of(definition)
    if environment in run.frozen:
        return Wait(tuple(jobs), "frozen-deploy", f"the environment {environment} is frozen", environment)
    if definition.deploy is not None and environment in run.passed_by_newer and not jobs[0].rollback:
        return Wait(tuple(jobs), "supersede-blocked", f"a newer run goes to {environment} first", environment)
    return None


def _hold(decisions: Sequence[Decision]) -> str | None:
    """The run's queue reason: the strongest hold, alphabetical on a tie."""
    holds = [(HOLDS.index(d.code), d.detail) for d in decisions if isinstance(d, Wait) and d.code in HOLDS]
    if not holds:
        return None
    rank, environment = min(holds)
    return f"{HOLDS[rank]}:{environment}"


def _no_slot(jobs: tuple[Job, ...], tags: frozenset[str], places: _Places) -> Wait:
    if held := places.held(tags):
        return Wait(jobs, "disk_full", held, tags=tags)
    if places.known(tags):
        return Wait(jobs, "agents_full", "every agent that could take this job is busy", tags=tags)
    named = ", ".join(sorted(tags))
    text = f"no agent with the tags {named} is connected" if tags else "no agent is connected"
    return Wait(jobs, "no_agent", text, tags=tags)


class _Places:
    """The free slots of one pass; each `take` uses one up."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._free = {slot.session_id: slot.free for slot in slots}
        self._slots = slots

    def take(self, tags: frozenset[str]) -> Slot | None:
        """The fitting session with the most free slots (then by name), so that work spreads over agents."""
        fitting = [s for s in self._slots if tags <= s.tags and self._free[s.session_id] > 0 and not s.held]
        if not fitting:
            return None
        best = min(fitting, key=lambda s: (-self._free[s.session_id], s.name))
        self._free[best.session_id] -= 1
        return best

    def held(self, tags: frozenset[str]) -> str:
        """Why a session with these tags takes nothing although it could; empty when none is held."""
        return next((slot.held for slot in self._slots if tags <= slot.tags and slot.held), "")

    def known(self, tags: frozenset[str]) -> bool:
        """Whether any session, busy or not, has these tags."""
        return any(tags <= slot.tags for slot in self._slots)
