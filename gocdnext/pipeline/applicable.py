"""What the language reads but apply and `validate` refuse (spec-pipelines 3.15, 6; design 9, decisions 11 and 13)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from gocdnext.pipeline import cron
from gocdnext.pipeline.model import CronMaterial, Pipeline
from gocdnext.pipeline.nodes import Node
from gocdnext.pipeline.parser import ParsedFile, outline
from gocdnext.pipeline.problems import Problem, path_below, quoted
from gocdnext.pipeline.schema import Block

POLICY_PREFIX = "_compliance_"
POLICY_PIPELINE_PREFIX = "_compliance"
_NOTIFICATION_JOB = re.compile(r"_notify_[0-9]+")


class _Refusal(msgspec.Struct, frozen=True):
    kind: str
    path: str
    message: str
    hint: str
    place: Callable[[Block], Node]


def check_applicable(pipeline: Pipeline, filename: str, source: str | None = None) -> list[Problem]:
    """Problems of a pipeline that was parsed: names used twice, names reserved for the server's own parts, and
    schedules that never come.

    With the `source` the problems have lines and columns, without it they stand at the start of the file. Timeouts and
    the like that mean nothing are no longer seen in a `Pipeline`: see `check_file`.
    """
    refusals = [*_names(pipeline), *_duplicates(pipeline), *_schedules(pipeline)]
    if not refusals:
        return []
    block = outline(source)[1] if source is not None else None
    return [_problem(refusal, filename, block) for refusal in refusals]


def check_file(parsed: ParsedFile) -> list[Problem]:
    """Everything that apply and `validate` refuse about one file, by position."""
    problems = [*parsed.refusals, *check_applicable(parsed.pipeline, parsed.filename, parsed.source)]
    return sorted(problems, key=lambda problem: (problem.line, problem.column))


def check_set(files: Iterable[ParsedFile]) -> list[Problem]:
    """`check_file` of all files of one apply, and deploy targets that differ for the same environment."""
    problems: list[Problem] = []
    declared: dict[str, tuple[object, str]] = {}
    for parsed in files:
        problems.extend(check_file(parsed))
        for job in parsed.pipeline.jobs:
            if job.deploy is None or job.deploy.target is None:
                continue
            here = f"job {quoted(job.name)} of {parsed.filename}"
            target, other = declared.setdefault(job.deploy.environment, (job.deploy.target, here))
            if target != job.deploy.target:
                refusal = _Refusal(
                    "deploy_target",
                    path_below("jobs", job.name),
                    f"the environment {quoted(job.deploy.environment)} has another target in {other}",
                    "an environment has one target",
                    _job(job.name),
                )
                problems.append(_problem(refusal, parsed.filename, outline(parsed.source)[1]))
    return problems


def _names(pipeline: Pipeline) -> Iterable[_Refusal]:
    if pipeline.name.startswith(POLICY_PIPELINE_PREFIX):
        message = f"pipeline names that start with `{POLICY_PIPELINE_PREFIX}` are reserved for policies"
        yield _Refusal("name_reserved", "name", message, "", lambda top: top.where("name"))
    for index, stage in enumerate(pipeline.stages):
        if stage.startswith(POLICY_PREFIX):
            message = f"stage names that start with `{POLICY_PREFIX}` are reserved for policies"
            yield _Refusal("name_reserved", f"stages[{index}]", message, "", _item("stages", index))
    for job in pipeline.jobs:
        if job.name.startswith(POLICY_PREFIX):
            message = f"job names that start with `{POLICY_PREFIX}` are reserved for policies"
            yield _Refusal("name_reserved", path_below("jobs", job.name), message, "", _job(job.name))
        elif _NOTIFICATION_JOB.fullmatch(job.name):
            message = f"the job name {quoted(job.name)} is reserved for notifications"
            yield _Refusal("name_reserved", path_below("jobs", job.name), message, "rename the job", _job(job.name))


def _duplicates(pipeline: Pipeline) -> Iterable[_Refusal]:
    seen: set[str] = set()
    for index, stage in enumerate(pipeline.stages):
        if stage in seen:
            message = f"the stage {quoted(stage)} is listed twice"
            yield _Refusal("stage_duplicate", f"stages[{index}]", message, "remove one", _item("stages", index))
        seen.add(stage)
    seen = set()
    for index, service in enumerate(pipeline.services):
        if service.name in seen:
            message = f"two services are called {quoted(service.name)}"
            hint = "give one of them another `name:`"
            yield _Refusal("service_duplicate", f"services[{index}]", message, hint, _service(index))
        seen.add(service.name)


def _schedules(pipeline: Pipeline) -> Iterable[_Refusal]:
    for index, material in enumerate(pipeline.materials):
        if isinstance(material, CronMaterial) and (trouble := cron.trouble(material.expression)):
            message = f"the schedule {quoted(material.expression)} starts nothing: {trouble}"
            hint = "write for example `0 4 * * 1-5`, `@daily` or `@every 6h`"
            yield _Refusal("cron_expression", f"materials[{index}].cron.expression", message, hint, _material(index))


def _material(index: int) -> Callable[[Block], Node]:
    return lambda top: top.blocks("materials")[index].node


def _item(key: str, index: int) -> Callable[[Block], Node]:
    return lambda top: top.item(key, index)


def _service(index: int) -> Callable[[Block], Node]:
    return lambda top: top.blocks("services")[index].node


def _job(name: str) -> Callable[[Block], Node]:
    return lambda top: top.named_blocks("jobs")[name].key


def _problem(refusal: _Refusal, filename: str, top: Block | None) -> Problem:
    node = refusal.place(top) if top is not None else None
    return Problem(
        file=filename,
        line=node.line if node else 1,
        column=node.column if node else 1,
        path=refusal.path,
        kind=refusal.kind,
        message=refusal.message,
        hint=refusal.hint,
    )
