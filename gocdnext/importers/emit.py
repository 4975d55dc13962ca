"""A draft as the text of a pipeline file: the same draft always gives the same text.

PyYAML does the quoting: a text that any YAML reader could take for something else is quoted. Only comments and blank
lines are put between its pieces here.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from gocdnext.importers.draft import Draft
from gocdnext.importers.notes import Imported, ImportRefusedError, Notes
from gocdnext.pipeline import PipelineError, check_file, parse_file

MAX_TEXT = 1024 * 1024
MAX_JOBS = 1_000
_SHORT_LIST = 88
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class _Dumper(yaml.SafeDumper):
    """Block style with indented lists; short lists of plain words on one line; several lines as a literal block."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, value: str) -> yaml.Node:
    # Blank lines at the end would belong to the lines that come next; some characters count as line ends for YAML only.
    literal = "\n" in value and value.strip("\n") and not value.endswith("\n\n")
    odd = re.search("[\x85\u2028\u2029\ufeff]", value) is not None
    style = "|" if literal and not odd else '"' if "\n" in value or odd else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _list(dumper: _Dumper, values: list[Any]) -> yaml.Node:
    short = all(isinstance(value, str) and not re.search(r"[\s,\[\]{}'\"#]", value) for value in values)
    flow = short and sum(len(value) + 2 for value in values) <= _SHORT_LIST
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flow)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)


def render(draft: Draft) -> str:
    """The text of a file. Raises `ImportRefusedError` when it would be too large."""
    if len(draft.jobs) > MAX_JOBS:
        raise ImportRefusedError(f"the file makes {len(draft.jobs):,} jobs, at most {MAX_JOBS:,} are translated")
    head = draft.head()
    documents = [job.document() for job in draft.jobs]
    if _size([head, documents], MAX_TEXT) > MAX_TEXT:
        raise ImportRefusedError(f"the translated file is larger than {MAX_TEXT // 1024 // 1024} MiB")
    pieces = [f"# Translated from {_comment(draft.source)}."]
    pieces += ["\n" + _dump({key: value}) if key in ("services", "stages") else _dump({key: value})
               for key, value in head.items()]  # fmt: skip
    pieces.append("\njobs:" if documents else "\njobs: {}")
    for job, document in zip(draft.jobs, documents, strict=True):
        pieces += [f"  # {_comment(remark)}" for remark in job.remarks]
        pieces.append(_dump({"jobs": {job.name: document}}).split("\n", 1)[1])
    return "\n".join(pieces) + "\n"


def finish(draft: Draft, notes: Notes) -> Imported:
    """The draft as a file that our own parser reads. Raises `ImportRefusedError` when there is nothing to run."""
    if not any(not job.approval for job in draft.jobs):
        raise ImportRefusedError("no job could be translated", notes=notes.listed())
    try:
        text = render(draft)
        parsed = parse_file(text, f"{draft.name}.yaml")
        problems = check_file(parsed)
    except ImportRefusedError as error:
        raise ImportRefusedError(error.message, error.line, notes.listed()) from None
    except PipelineError as error:
        raise ImportRefusedError(f"the translation is no valid pipeline: {error}", notes=notes.listed()) from None
    lines = {f"jobs.{job.name}": job.line for job in draft.jobs}
    for problem in problems:
        notes.add(lines.get(problem.path, 1), problem.message, problem.hint or "apply refuses it: change it")
    return Imported(name=draft.name, yaml=text, notes=notes.listed(), pipeline=parsed.pipeline)


def file_name(text: str, default: str = "ci") -> str:
    """A name for the file, made of letters, digits, `.`, `_` and `-`."""
    return _UNSAFE.sub("-", text).strip("-.")[:60].strip("-.").lower() or default


def _dump(value: dict[str, Any]) -> str:
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31 - 1, default_flow_style=False
    )
    return text.rstrip("\n")


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:200]


def _size(value: object, most: int) -> int:
    """Characters of all texts, counted until there are more than `most`."""
    total, waiting = 0, [value]
    while waiting and total <= most:
        item = waiting.pop()
        if isinstance(item, str):
            total += len(item) + 4
        elif isinstance(item, dict):
            waiting += item.keys()
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return total
