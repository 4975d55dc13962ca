"""Small runs to decide on: `make_run("build: a, b; test: c<a")` reads as stages with jobs, `<` naming needs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID

from gocdnext.pipeline import model
from gocdnext.runs.ports import Slot
from gocdnext.runs.state import AWAITING, NOTIFICATIONS_STAGE, NOTIFY_PREFIX, QUEUED, Gate, Job, Run, Stage

NOW = datetime(2026, 4, 28, 13, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=10)
AGENT = UUID(int=0xA1)
OTHER = UUID(int=0xA2)


def make_run(
    text: str,
    *,
    tags: dict[str, tuple[str, ...]] | None = None,
    concurrency: str = "",
    supersede: str = "",
    retry: int = 0,
    notify: tuple[str, ...] = (),
    **fields: object,
) -> Run:
    """A queued run. A job is `name`, `name[K=v]` for one instance of a matrix, `name<need+need` with needs; `name!` is a
    gate, `name@env` deploys."""
    ids = (UUID(int=number) for number in count(1))
    stages, jobs, defined = [], [], {}
    for ordinal, part in enumerate(text.split(";")):
        stage_name, _, names = part.partition(":")
        stage = Stage(next(ids), stage_name.strip(), ordinal)
        stages.append(stage)
        for word in filter(None, (w.strip() for w in names.split(","))):
            label, _, needs = word.partition("<")
            name, _, key = label.rstrip("]").partition("[")
            name, _, environment = name.partition("@")
            gate = name.endswith("!")
            name = name.removesuffix("!")
            need_names = tuple(filter(None, needs.split("+")))
            jobs.append(
                Job(
                    next(ids),
                    stage.id,
                    name,
                    matrix_key=key,
                    needs=need_names,
                    status=AWAITING if gate else QUEUED,
                    retry_unsafe=bool(environment),
                    gate=Gate(NOW) if gate else None,
                )
            )
            defined[name] = model.Job(
                name=name,
                stage=stage.name,
                kind="gate" if gate else "noop",
                needs=need_names,
                tags=(tags or {}).get(name, ()),
                retry=retry,
                deploy=model.Deploy(environment=environment) if environment else None,
                approval=model.Approval(required=1, timeout="inherit") if gate else None,
            )
    definition = model.Pipeline(
        name="p",
        stages=tuple(s.name for s in stages),
        jobs=tuple(defined.values()),
        concurrency=concurrency,
        supersede=supersede,
    )
    if notify:
        last = Stage(next(ids), NOTIFICATIONS_STAGE, len(stages))
        stages.append(last)
        jobs += [Job(next(ids), last.id, f"{NOTIFY_PREFIX}{number}") for number in range(len(notify))]
    return Run(
        id=UUID(int=0xF000),
        pipeline_id=UUID(int=0xF001),
        project_id=UUID(int=0xF002),
        project_slug="demo",
        counter=1,
        cause="manual",
        definition=definition,
        stages=tuple(stages),
        jobs=tuple(jobs),
        notifications=tuple(model.Notification(on=on, uses="n") for on in notify),
        **fields,  # type: ignore[arg-type]
    )


def job_named(run: Run, label: str) -> Job:
    """The job with that label (`unit` or `unit[DB=pg]`)."""
    return next(job for job in run.jobs if job.label == label)


def statuses(run: Run) -> dict[str, str]:
    """Label -> status of every job, and stage name with a slash -> status of every stage."""
    return {f"{s.name}/": s.status for s in run.stages} | {job.label: job.status for job in run.jobs}


def slot(agent: UUID = AGENT, *, free: int = 1, tags: tuple[str, ...] = (), name: str = "one") -> Slot:
    """A ready session with `free` slots."""
    return Slot(agent, f"session-{name}", name, frozenset(tags), free, max(free, 1))
