"""From the text of a file to its normal form, or every reason why not (spec-pipelines part 1, order of section 5).

The steps: text → nodes (`nodes`) → values by schema (`schema`, `language`) → inheritance → checks of each part. A part
that could not be read is left out of the later checks, so that one mistake is reported once.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gocdnext.pipeline import extends, materials, model, needs, services, top
from gocdnext.pipeline.context import Context
from gocdnext.pipeline.jobs import JobReader
from gocdnext.pipeline.language import PIPELINE
from gocdnext.pipeline.nodes import Node, Unreadable, decode, read
from gocdnext.pipeline.problems import PipelineError, Problem, Problems
from gocdnext.pipeline.schema import UNREADABLE, Block


class ParsedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is a pipeline. `source` is its text, verbatim."""

    filename: str
    source: str
    pipeline: model.Pipeline
    refusals: tuple[Problem, ...] = ()
    """What the language reads but apply and `validate` refuse: timeouts and the like that cannot be enforced."""


def parse(text: str | bytes, filename: str) -> model.Pipeline:
    """The normal form of a file. Raises `PipelineError` with all problems of the file.

    `filename` is used in messages, and without its folder and last extension as the name of a nameless pipeline.
    """
    return parse_file(text, filename).pipeline


def parse_file(text: str | bytes, filename: str) -> ParsedFile:
    """As `parse`, with the source and the refusals that belong to apply and `validate`."""
    try:
        source = decode(text)
        root = read(source)
    except Unreadable as error:
        raise PipelineError([_unreadable(error, filename)]) from None
    problems, refusals = Problems(filename), Problems(filename)
    block = PIPELINE.read(root, problems)
    pipeline = _pipeline(block, filename, Context(problems, refusals)) if isinstance(block, Block) else None
    if problems or pipeline is None:
        raise PipelineError(problems.listed(root))
    return ParsedFile(filename=filename, source=source, pipeline=pipeline, refusals=refusals.listed(root))


def parse_files(files: Iterable[tuple[str, str | bytes]]) -> list[ParsedFile]:
    """The files (name, content) of one set, sorted by pipeline name (spec-pipelines 1.1).

    Raises `PipelineError` with the problems of all files, among them two files with the same pipeline name.
    """
    parsed: dict[str, ParsedFile] = {}
    problems: list[Problem] = []
    for filename, content in files:
        try:
            file = parse_file(content, filename)
        except PipelineError as error:
            problems.extend(error.problems)
            continue
        first = parsed.setdefault(file.pipeline.name, file)
        if first is not file:
            problems.append(_twice(first, file))
    if problems:
        raise PipelineError(problems)
    return [parsed[name] for name in sorted(parsed)]


def outline(source: str) -> tuple[Node, Block]:
    """The nodes and the values of a text that was parsed before, to find the place of something in it."""
    root = read(source)
    block = PIPELINE.read(root, Problems(""))
    return root, block if isinstance(block, Block) else Block(root)


def _pipeline(block: Block, filename: str, context: Context) -> model.Pipeline:
    context.variables = block.map("variables")
    name = top.name(block, filename, context)
    return model.Pipeline(
        name=name,
        concurrency=top.concurrency(block, context),
        supersede=top.supersede(block, context),
        template=block.text("template"),
        variables=block.map("variables"),
        stages=top.stages(block, context),
        when=top.when(block, context),
        services=services.services(block, context),
        notifications=top.notifications(block, context),
        materials=materials.materials(block, context),
        jobs=_jobs(block, context),
    )


def _jobs(block: Block, context: Context) -> tuple[model.Job, ...]:
    """The visible jobs by stage and name. Problems are looked for in name order."""
    written = block.named_blocks("jobs")
    resolved = extends.resolve(written, context)
    visible = {name: job for name, job in resolved.items() if not name.startswith(".")}
    reader = JobReader(context)
    found = []
    for name in sorted(visible):
        if context.problems.full:
            return ()
        if not _hopeless(visible[name]):
            found.append(reader.read(name, visible[name]))
    needs.check(visible, context)
    stages = context.stages or {}
    return tuple(sorted(found, key=lambda job: (stages.get(job.stage, 0), job.name)))


def _hopeless(job: Block) -> bool:
    """Not a mapping at all, or without the parents it counts on: nothing further can be said about it."""
    return UNREADABLE in job.bad and (not job.nodes or job.broken)


def _twice(first: ParsedFile, second: ParsedFile) -> Problem:
    _, block = outline(second.source)
    node = block.where("name")
    return Problem(
        file=second.filename,
        line=node.line,
        column=node.column,
        path="name" if "name" in block else "",
        kind="name_duplicate",
        message=f'pipeline "{second.pipeline.name}" defined twice: {first.filename} and {second.filename}',
        hint="give one of them another `name:`",
    )


def _unreadable(error: Unreadable, filename: str) -> Problem:
    return Problem(
        file=filename,
        line=error.line,
        column=error.column,
        path="",
        kind=error.kind,
        message=error.message,
        hint=error.hint,
    )
