"""Plugin manifests, and whether the settings of plugin steps fit them (spec-pipelines 6, contract-cli-plugins 5.1).

Pure: reading the catalogue's folders is somebody else's work. A plugin that is not in the catalogue is never checked.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

import msgspec

from gocdnext.pipeline.language import BOOLEAN, TEXT
from gocdnext.pipeline.model import Pipeline
from gocdnext.pipeline.nodes import Node, Unreadable, decode, read
from gocdnext.pipeline.parser import outline
from gocdnext.pipeline.problems import Problem, Problems, path_below, quoted
from gocdnext.pipeline.schema import Block, Fields, ListOf, MapOf, each
from gocdnext.pipeline.uses import lookup_name

_MANIFEST = Fields(
    "a plugin manifest",
    {
        "name": TEXT,
        "description": TEXT,
        "category": TEXT,
        "inputs": MapOf(
            Fields("an input", {"required": BOOLEAN, "default": TEXT, "description": TEXT}, tolerant=True, null=True)
        ),
        "examples": ListOf(Fields("an example", {"name": TEXT, "description": TEXT, "yaml": TEXT}, tolerant=True)),
    },
    tolerant=True,
)


MAX_SHOWN = 40
"""Characters of an unknown input's name in a message."""


class ManifestError(Exception):
    """A manifest that cannot be used; the text says where and why."""


class Input(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    required: bool
    default: str
    """Documentation: the plugin applies it itself, nobody injects it."""
    description: str


class Example(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str
    yaml: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str
    category: str
    inputs: tuple[Input, ...]
    """By name."""
    examples: tuple[Example, ...]


def parse_manifest(text: str | bytes, folder: str) -> Manifest:
    """The manifest of the plugin in a folder of that name. Unknown keys are tolerated. Raises `ManifestError`."""
    problems = Problems(f"{folder}/plugin.yaml")
    try:
        root = read(decode(text))
    except Unreadable as error:
        raise ManifestError(f"{folder}/plugin.yaml:{error.line}:{error.column}: {error.message}") from None
    block = _MANIFEST.read(root, problems)
    if problems:
        raise ManifestError(str(problems.listed(root)[0]))
    if not isinstance(block, Block) or not block.text("name"):
        raise ManifestError(f"{folder}/plugin.yaml: the manifest lacks its `name`")
    if block.text("name") != folder:
        raise ManifestError(f"{folder}/plugin.yaml: the name {quoted(block.text('name'))} is not that of its folder")
    return Manifest(
        name=folder,
        description=block.text("description").strip(),
        category=block.text("category").strip(),
        inputs=tuple(_input(name, entry) for name, entry in each(block.named_blocks("inputs"))),
        examples=tuple(_example(entry) for entry in block.blocks("examples")),
    )


def check_plugins(
    pipeline: Pipeline, filename: str, catalogue: Mapping[str, Manifest], source: str | None = None
) -> list[Problem]:
    """Missing and unknown inputs of the plugin jobs and notifications of a pipeline, with places if `source` is given.

    A required input counts as given when its key is there, even with an empty value.
    """
    found: list[tuple[str, str, str, str, str]] = []
    for job in pipeline.jobs:
        # Only `uses` has no image of its own: the older form with `settings` is not checked.
        if job.plugin is not None and not job.image:
            for kind, flaw, hint in _flaws(job.plugin.image, job.plugin.settings, catalogue):
                found.append((job.name, path_below("jobs", job.name), kind, f'job "{job.name}": {flaw}', hint))
    for index, notification in enumerate(pipeline.notifications or ()):
        path = f"notifications[{index}]"
        for kind, flaw, hint in _flaws(notification.uses, notification.with_, catalogue):
            found.append(("", path, kind, f"{path}: {flaw}", hint))
    if not found:
        return []  # the text is read a second time only to say where something is wrong
    places = _places(source) if source is not None else {}
    problems = [
        _problem(filename, places.get(f"jobs {job}" if job else path), path, kind, message, hint)
        for job, path, kind, message, hint in found
    ]
    return sorted(problems, key=lambda problem: (problem.line, problem.column))


def plugin_flaws(image: str, settings: Mapping[str, str], catalogue: Mapping[str, Manifest]) -> Iterator[str]:
    """What does not fit in settings that stand in no file."""
    yield from (message for _, message, _ in _flaws(image, settings, catalogue))


def _places(source: str) -> dict[str, Node]:
    """Where jobs (`jobs NAME`) and notifications (`notifications[0]`) stand."""
    block = outline(source)[1]
    places = {f"jobs {name}": entry.key for name, entry in block.named_blocks("jobs").items()}
    return places | {f"notifications[{i}]": entry.node for i, entry in enumerate(block.blocks("notifications"))}


def _flaws(
    image: str, settings: Mapping[str, str], catalogue: Mapping[str, Manifest]
) -> Iterator[tuple[str, str, str]]:
    """Kind, message and hint of everything that does not fit (contract-runs 7.3)."""
    manifest = catalogue.get(lookup_name(image))
    if manifest is None:
        return
    known = [item.name for item in manifest.inputs]
    for item in manifest.inputs:
        if item.required and item.name not in settings:
            missing = f'plugin {manifest.name}: required input "{item.name}" is missing from `with`'
            yield "plugin_input_missing", missing, ""
    for name in settings:
        if name not in known:
            shown = name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}…"
            close = difflib.get_close_matches(name, known, 1, 0.7) if len(name) <= MAX_SHOWN else []
            unknown = f'plugin {manifest.name}: unknown input "{shown}"; known inputs: {", ".join(known) or "none"}'
            yield "plugin_input_unknown", unknown, f"did you mean `{close[0]}`?" if close else ""


def _input(name: str, block: Block) -> Input:
    return Input(
        name=name,
        required=block.flag("required"),
        default=block.text("default"),
        description=block.text("description"),
    )


def _example(block: Block) -> Example:
    return Example(
        name=block.text("name").strip(),
        description=block.text("description").strip(),
        yaml=block.text("yaml").rstrip("\n"),
    )


def _problem(filename: str, node: Node | None, path: str, kind: str, message: str, hint: str) -> Problem:
    line, column = (node.line, node.column) if node else (1, 1)
    return Problem(file=filename, line=line, column=column, path=path, kind=kind, message=message, hint=hint)
