"""What is to run, in which order: stages as declared, jobs by their needs, one step for each matrix instance
(contract-cli-plugins 4.5). Pure: it reads nothing and runs nothing."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from gocdnext.pipeline.model import Job, Pipeline


class PlanError(Exception):
    """The pipeline cannot be run like this; the text says what to change."""


@dataclass(frozen=True)
class Step:
    """One job, or one instance of a matrix job; `key` is the instance's, empty for a plain job."""

    job: Job
    key: str = ""

    @property
    def name(self) -> str:
        return f"{self.job.name}[{self.key}]" if self.key else self.job.name


@dataclass(frozen=True)
class Stage:
    """Steps in the order in which they run."""

    name: str
    steps: tuple[Step, ...]


def plan(pipeline: Pipeline, selected: str | None = None, secrets: Collection[str] = ()) -> tuple[Stage, ...]:
    """The stages that have something to run.

    selected: the name of a job (all its instances) or of one instance, `name[K1=v1,K2=v2]`; what it needs is not run.
    secrets: the names that there are values for. Raises PlanError.
    """
    stages = []
    for name in dict.fromkeys(pipeline.stages):
        jobs = [job for job in pipeline.jobs if job.stage == name]
        steps = [step for job in _in_order(jobs) for step in _steps(job) if _chosen(step, selected)]
        if steps:
            stages.append(Stage(name, tuple(steps)))
    if selected is not None and not stages:
        raise PlanError(_unknown(pipeline, selected))
    steps = [step for stage in stages for step in stage.steps]
    _check(steps, secrets)
    return tuple(stages)


def _steps(job: Job) -> Iterable[Step]:
    return [Step(job, key) for key in job.instances] or [Step(job)]


def _chosen(step: Step, selected: str | None) -> bool:
    return selected is None or selected in {step.job.name, step.name}


def _in_order(jobs: list[Job]) -> list[Job]:
    """By needs inside the stage; among those that could run, in the order given. Circles were refused by the parser."""
    waiting = {job.name: job for job in jobs}
    ordered: list[Job] = []
    while waiting:
        ready = [job for job in waiting.values() if not any(need in waiting for need in job.needs if need != job.name)]
        for job in ready or list(waiting.values()):
            ordered.append(job)
            del waiting[job.name]
    return ordered


def _unknown(pipeline: Pipeline, selected: str) -> str:
    names = [step.name for job in pipeline.jobs for step in _steps(job)] + [job.name for job in pipeline.jobs]
    close = difflib.get_close_matches(selected, names, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted({j.name for j in pipeline.jobs}))}"
    return f"there is no job {selected!r}; {hint}"


def _check(steps: Iterable[Step], secrets: Collection[str]) -> None:
    """What no run on one machine can give."""
    jobs = {step.job.name: step.job for step in steps}.values()
    missing = sorted({name for job in jobs for name in job.secrets if name not in secrets})
    if missing:
        raise PlanError(f"no value for the secret {', '.join(missing)}; write KEY=VALUE into a file for --env-file")
    for job in jobs:
        if job.id_tokens:
            raise PlanError(f"the job {job.name!r} asks for `id_tokens`, which only a server can issue")
