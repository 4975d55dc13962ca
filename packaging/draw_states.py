"""Prints `docs/state-machine.md`. The transitions are not written down here: small runs are played through every order of
events, and what the code did is what is drawn. `python3 build.py docs` writes the file, a test holds it against the code."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).parents[1]))

from gocdnext.pipeline import model
from gocdnext.runs import events
from gocdnext.runs.expansion import expand
from gocdnext.runs.state import Job, Run
from gocdnext.runs.transitions import apply

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AGENT = UUID(int=1)
VOTER = events.Voter("ann", "Ann")
ENOUGH = 1500
Edges = dict[tuple[str, str], set[str]]

TITLES = {
    "job": "A job",
    "stage": "A stage",
    "run": "A run",
}
WORDS = {
    "JobAssigned": "assigned to an agent",
    "AssignmentLost": "the assignment could not be sent",
    "JobRefused": "can never be dispatched",
    "JobSkipped": "a need was cancelled or skipped",
    "JobReported": "result of the agent",
    "AgentLost": "agent lost, or its machine taken away",
    "JobTimedOut": "out of time",
    "RunCancelRequested": "run cancelled",
    "JobCancelRequested": "job cancelled",
    "RunSuperseded": "superseded by a newer run",
    "GateVoted": "approved or rejected",
    "GateExpired": "nobody decided in time",
    "JobRerunRequested": "run again by a person",
    "Reached": "the run is looked at",
}


def small_runs() -> Iterator[Run]:
    """Runs that together show every rule: siblings, needs, stages, a gate, a retry, a deployment."""
    ids = (UUID(int=number) for number in range(100, 10_000))
    job = model.Job
    shapes = [
        (job(name="a", stage="s", kind="noop"), job(name="b", stage="s", kind="noop", needs=("a",))),
        (job(name="a", stage="s", kind="noop", retry=1), job(name="b", stage="t", kind="noop")),
        (
            job(name="a", stage="s", kind="noop", deploy=model.Deploy(environment="prod")),
            job(name="b", stage="t", kind="noop"),
        ),
        (
            job(name="g", stage="s", kind="gate", approval=model.Approval(required=1, timeout="inherit")),
            job(name="b", stage="t", kind="noop", deploy=model.Deploy(environment="prod")),
        ),
    ]
    for jobs in shapes:
        stages = tuple(dict.fromkeys(entry.stage for entry in jobs))
        definition = model.Pipeline(name="p", stages=stages, jobs=jobs)
        made_stages, made_jobs = expand(definition, (), labels=frozenset(), now=NOW, new_id=lambda: next(ids))
        yield Run(
            id=UUID(int=2),
            pipeline_id=UUID(int=3),
            project_id=UUID(int=4),
            project_slug="p",
            counter=1,
            cause="manual",
            definition=definition,
            stages=made_stages,
            jobs=made_jobs,
        )


def possible(job: Job) -> list[events.Event]:
    """Everything that can happen to a job as it is."""
    agent = job.agent_id or AGENT
    return [
        events.JobAssigned(job.id, AGENT),
        events.AssignmentLost(job.id, agent, job.attempt),
        events.JobRefused(job.id, "no"),
        events.JobSkipped(job.id),
        events.JobReported(job.id, agent, job.attempt, True, 0),
        events.JobReported(job.id, agent, job.attempt, False, 1),
        events.AgentLost(job.id, agent, job.attempt, "lost"),
        events.JobTimedOut(job.id, job.attempt, "late"),
        events.JobCancelRequested(job.id),
        events.GateVoted(job.id, VOTER, True),
        events.GateVoted(job.id, VOTER, False),
        events.GateExpired(job.id, NOW, "1h0m0s"),
        events.JobRerunRequested(job.id),
        events.RunCancelRequested(),
        events.RunSuperseded(UUID(int=9), 9),
    ]


def play(run: Run, found: dict[str, Edges]) -> None:
    """Breadth first over all states that events can lead to, writing down every change of a status."""
    seen, waiting = {_key(run)}, [run]
    while waiting and len(seen) < ENOUGH:
        before = waiting.pop(0)
        for job in before.jobs:
            for event in possible(job):
                after = apply(before, event, NOW).run
                if after is before:
                    continue
                _note(before, after, type(event).__name__, found)
                if _key(after) not in seen:
                    seen.add(_key(after))
                    waiting.append(after)


def _note(before: Run, after: Run, event: str, found: dict[str, Edges]) -> None:
    if before.status != after.status:
        found["run"][before.status, after.status].add(event)
    for old, new in zip(before.stages, after.stages, strict=True):
        if old.status != new.status:
            found["stage"][old.status, new.status].add(event)
    for was, became in zip(before.jobs, after.jobs, strict=True):
        if was.status != became.status:
            found["job"][was.status, became.status].add(event)


def _key(run: Run) -> tuple[object, ...]:
    jobs = tuple((j.status, min(j.losses, 4), j.retries, min(j.attempt, 4), j.cancel_requested_at) for j in run.jobs)
    return run.status, run.superseded_by, tuple(stage.status for stage in run.stages), jobs


def page() -> str:
    """The whole document."""
    found: dict[str, Edges] = {what: defaultdict(set) for what in TITLES}
    for run in small_runs():
        play(run, found)
    lines = [
        "# The state machine of a run",
        "",
        "<!-- Generated by `python3 build.py docs`. Do not edit. -->",
        "",
        "State changes in `gocdnext/runs/transitions.py` and nowhere else. What is drawn here is what the code did when small",
        "runs were played through every order of events. An event that does not fit the state changes nothing.",
        "",
    ]
    for what, title in TITLES.items():
        lines += [f"## {title}", "", "```mermaid", "stateDiagram-v2"]
        starts = ["queued", "awaiting_approval"] if what == "job" else ["queued"]
        lines += [f"    [*] --> {start}" for start in starts]
        lines += [f"    {old} --> {new}" for old, new in sorted(found[what])]
        lines += ["```", "", "| from | to | when |", "|---|---|---|"]
        for (old, new), names in sorted(found[what].items()):
            lines.append(f"| {old} | {new} | {'; '.join(WORDS[name] for name in sorted(names))} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(page(), end="")
