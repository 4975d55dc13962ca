"""`schema`, `explain`, `import`: what the pipeline language is, what a file means in it, and files of other systems.

Needs neither network nor database. All rules are in `gocdnext.pipeline` and `gocdnext.importers`; this prints.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gocdnext.cli.common import FAILED, Failure, print_json
from gocdnext.cli.terminal import safe
from gocdnext.cli.validate import CONFIG_FOLDER, read, show_failure

if TYPE_CHECKING:
    from gocdnext.importers import Imported
    from gocdnext.pipeline.model import Job, Material, Pipeline

MAX_SHOWN = 12
"""Matrix instances shown of one job."""

FILE = click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Accepted for symmetry: the schema is JSON anyway.")
def schema(as_json: bool) -> None:
    """Print the JSON schema of pipeline files, for editors.

    With yaml-language-server, put into the first line of a file:  # yaml-language-server: $schema=pipeline.schema.json
    """
    from gocdnext.pipeline.json_schema import encoded

    click.echo(encoded().decode(), nl=False)


@click.command()
@FILE
@JSON
def explain(file: Path, as_json: bool) -> None:
    """Print what a pipeline FILE means: stages, jobs after `extends`, instances, what starts it.

    --json prints the normal form exactly as a server stores it.
    """
    from gocdnext.pipeline import PipelineError, model, parse

    content = read(file)
    try:
        pipeline = parse(content, str(file))
    except PipelineError as error:
        if as_json:
            import msgspec

            print_json({"ok": False, "problems": [msgspec.to_builtins(problem) for problem in error.problems]})
        else:
            show_failure(str(file), list(error.problems), content)
        raise SystemExit(FAILED) from None
    if as_json:
        click.echo(model.encode(pipeline).decode())
        return
    for line in explained(pipeline):
        click.echo(safe(line, colours=False))


def explained(pipeline: Pipeline) -> Iterator[str]:
    """The lines for people."""
    yield f"pipeline {pipeline.name}"
    if pipeline.concurrency:
        yield "  one run at a time"
    if pipeline.supersede:
        of = "its branch" if pipeline.supersede == "branch" else "the pipeline"
        yield f"  a new run cancels the older ones of {of}"
    yield from _mapping("  variables", pipeline.variables)
    yield "starts on"
    yield from (f"  {line}" for line in starts(pipeline))
    for service in pipeline.services:
        yield f"service {service.name}: {service.image}" + "".join(f" {word}" for word in service.command)
        yield from _mapping("  environment", service.env)
    if pipeline.notifications is None:
        yield "notifications: those of the project"
    elif not pipeline.notifications:
        yield "notifications: none"
    for notification in pipeline.notifications or ():
        yield f"notification on {notification.on}: {notification.uses}"
    for number, stage in enumerate(pipeline.stages, 1):
        jobs = [job for job in pipeline.jobs if job.stage == stage]
        yield ""
        yield f"stage {number} {stage}" + ("" if jobs else " (no jobs)")
        for job in jobs:
            yield from (f"  {line}" for line in described(job))


def starts(pipeline: Pipeline) -> list[str]:
    """Which events start a run, one sentence each."""
    from gocdnext.pipeline.model import GitMaterial

    when = pipeline.when
    found = [_material(material) for material in pipeline.materials]
    events = [event for event in when.events or ("push",) if event in ("push", "pull_request", "tag")]
    if events and not any(isinstance(material, GitMaterial) for material in pipeline.materials):
        branches = ", ".join(when.branches) or "the default branch"
        of = {"push": f"push to {branches}", "pull_request": f"pull request against {branches}", "tag": "tag"}
        found += [f"{of[event]} of the project's repository" for event in dict.fromkeys(events)]
    if when.paths:
        found.append(f"only for changes of {', '.join(when.paths)}")
    return [*found, "a person, always"]


def _material(material: Material) -> str:
    from gocdnext.pipeline.model import CronMaterial, GitMaterial, UpstreamMaterial

    if isinstance(material, GitMaterial):
        polled = f", asked every {material.poll_seconds}s" if material.poll_seconds else ""
        return f"{', '.join(material.events)} on {material.branch} of {material.url}{polled}"
    if isinstance(material, UpstreamMaterial):
        return f"{material.status} of the stage {material.stage} of {material.pipeline}"
    return f"the schedule {material.expression}" if isinstance(material, CronMaterial) else "nothing by itself"


def described(job: Job) -> Iterator[str]:
    """A job, its name first."""
    kinds = {"script": "script", "plugin": "plugin", "gate": "waits for people", "noop": "executes nothing"}
    yield f"{job.name}: {kinds[job.kind]}" + (f" in {job.image}" if job.image and job.kind != "plugin" else "")
    if job.plugin is not None:
        yield f"  runs {job.plugin.image}"
        yield from _mapping("  settings", job.plugin.settings)
    if job.approval is not None:
        yield from _gate(job)
    if job.instances:
        shown = "; ".join(job.instances[:MAX_SHOWN]) + ("; …" if len(job.instances) > MAX_SHOWN else "")
        yield f"  {len(job.instances)} instances: {shown}"
    facts: list[tuple[str, str]] = [
        ("needs", ", ".join(job.needs)),
        ("agents with", ", ".join((*job.tags, *((f"profile {job.profile}",) if job.profile else ())))),
        ("docker", "yes" if job.docker else ""),
        ("cluster", job.cluster),
        ("secrets", ", ".join(job.secrets)),
        ("identity tokens", ", ".join(job.id_tokens)),
        ("fetches", ", ".join(_fetched(each.from_job, each.from_pipeline) for each in job.needs_artifacts)),
        ("caches", ", ".join(each.key for each in job.cache)),
        ("keeps", ", ".join((*job.artifacts.required, *job.artifacts.optional)) if job.artifacts else ""),
        ("outputs", ", ".join(job.outputs)),
        ("test reports", ", ".join(job.test_reports)),
        ("coverage", job.coverage_report.path if job.coverage_report else ""),
        ("deploys to", job.deploy.environment if job.deploy else ""),
        ("environment", job.environment),
        ("limit", f"{job.timeout_seconds}s" if job.timeout_seconds else ""),
        ("repeated", f"up to {job.retry} times" if job.retry else ""),
    ]
    yield from (f"  {name}: {value}" for name, value in facts if value)
    yield from _mapping("  variables", job.variables)
    for line in job.script.removeprefix("set -e\n").splitlines():
        yield f"  | {line}"


def _fetched(job: str, pipeline: str) -> str:
    return f"{job} of {pipeline}" if pipeline else job


def _gate(job: Job) -> Iterator[str]:
    approval = job.approval
    if approval is None:
        return
    people = ", ".join((*approval.approvers, *(f"group {name}" for name in approval.approver_groups)))
    yield f"  {approval.required} of {people or 'anybody who is signed in'}"
    if approval.description:
        yield f"  {approval.description}"
    if approval.timeout != "inherit":
        yield f"  expires: {approval.timeout if approval.timeout == 'never' else f'after {approval.timeout}s'}"


def _mapping(title: str, values: dict[str, str]) -> Iterator[str]:
    if values:
        yield f"{title}: " + ", ".join(f"{name}={value}" for name, value in sorted(values.items()))


@click.group("import")
def import_() -> None:
    """Translate a pipeline of another system.

    The result is printed, or written with -o. What could not be translated is listed on stderr, line by line.
    """


def _importing(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--force", is_flag=True, help="Replace a file that exists."),
        click.option(
            "-o", "--output", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
            help=f"Write DIR/{CONFIG_FOLDER}/NAME.yaml.",
        ),
        JSON,
        FILE,
    ):  # fmt: skip
        command = option(command)
    return command


@import_.command("gitlab")
@_importing
def import_gitlab(file: Path, as_json: bool, output: Path | None, force: bool) -> None:
    """Translate a .gitlab-ci.yml."""
    from gocdnext.importers import import_gitlab

    _import(import_gitlab, file, as_json, output, force)


@import_.command("github")
@_importing
def import_github(file: Path, as_json: bool, output: Path | None, force: bool) -> None:
    """Translate a workflow of .github/workflows."""
    from gocdnext.importers import import_github

    _import(import_github, file, as_json, output, force)


def _import(
    importer: Callable[[bytes, str], Imported], file: Path, as_json: bool, output: Path | None, force: bool
) -> None:
    import msgspec

    from gocdnext.importers import ImportRefusedError

    try:
        imported = importer(read(file), str(file))
    except ImportRefusedError as error:
        notes = [msgspec.to_builtins(note) for note in error.notes]
        if as_json:
            print_json({"error": error.message, "line": error.line, "notes": notes})
            raise SystemExit(FAILED) from None
        for note in error.notes:
            _show(file, str(note))
        raise Failure(safe(f"{file}:{error.line}: {error.message}", colours=False)) from None
    written = _write(imported, output, force) if output is not None else None
    if as_json:
        document = {"yaml": imported.yaml, "notes": [msgspec.to_builtins(note) for note in imported.notes]}
        print_json(document if written is None else {**document, "file": str(written)})
        return
    for note in imported.notes:
        _show(file, str(note))
    if written is None:
        click.echo(imported.yaml, nl=False)
    else:
        click.echo(f"wrote {written}")


def _show(file: Path, text: str) -> None:
    click.echo(safe(f"{file}:{text}", colours=False), err=True)


def _write(imported: Imported, folder: Path, force: bool) -> Path:
    """The file that was written. It is complete or not there: a file that exists is not touched without `force`."""
    path = folder / CONFIG_FOLDER / f"{imported.name}.yaml"
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(imported.yaml, encoding="utf-8")
        try:
            if force:
                partial.replace(path)
            else:
                path.hardlink_to(partial)
        finally:
            partial.unlink(missing_ok=True)
    except FileExistsError:
        raise Failure(f"{path} exists; --force replaces it") from None
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}") from None
    return path
