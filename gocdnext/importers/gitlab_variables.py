"""Variables of GitLab: what is said beforehand, what the shell works out at run time, and what nobody sets here."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gocdnext.importers.notes import Notes
from gocdnext.importers.reading import Part
from gocdnext.pipeline.nodes import Mapping
from gocdnext.pipeline.problems import quoted

MAX_VALUE = 10_000
MAX_ROUNDS = 10

_REFERENCE = re.compile(r"\$(?:\$|\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")
_USED = re.compile(r"\$\{?((?:CI|GITLAB)_\w+)")
BUILT_IN = frozenset((
    "CI", "CI_COMMIT_SHA", "CI_COMMIT_SHORT_SHA", "CI_COMMIT_BRANCH", "CI_PIPELINE_ID", "CI_PROJECT_ID", "CI_JOB_NAME",
    "CI_PIPELINE_NAME", "CI_NODE_INDEX", "CI_NODE_TOTAL",
))  # fmt: skip
"""Set here under the same name."""
ALIASES = {
    "CI_COMMIT_REF_NAME": "${CI_BRANCH:-}",
    "CI_COMMIT_REF_SLUG": "$(printf %s \"${CI_BRANCH:-}\" | tr 'A-Z' 'a-z' | tr -c 'a-z0-9' '-' | cut -c1-63)",
    "CI_COMMIT_TAG": "${CI_TAG_NAME:-}",
    "CI_DEFAULT_BRANCH": "${CI_DEFAULT_BRANCH:-main}",
    "CI_MERGE_REQUEST_ID": "${CI_PULL_REQUEST_KEY:-}",
    "CI_MERGE_REQUEST_IID": "${CI_PULL_REQUEST_KEY:-}",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "${CI_PULL_REQUEST_BRANCH:-}",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "${CI_PULL_REQUEST_BASE:-}",
    "CI_MERGE_REQUEST_TITLE": "${CI_PULL_REQUEST_TITLE:-}",
    "CI_PIPELINE_IID": "${CI_RUN_COUNTER:-}",
    "CI_PROJECT_DIR": "$PWD",
    "CI_PROJECT_NAME": "${CI_PROJECT_SLUG:-}",
    "GITLAB_CI": "",
}
"""What stands for it here, as the shell writes it."""


def declared(part: Part | None, notes: Notes) -> dict[str, str]:
    """A `variables` block: texts, or mappings with a `value`."""
    found: dict[str, str] = {}
    for name in part or ():
        assert part is not None
        node = part.take(name)
        if isinstance(node, Mapping):
            entry = Part(node, notes)
            entry.skip("description", "options")
            found[name] = entry.text("value")
            entry.rest(f"the variable {quoted(name)}", {})
        else:
            found[name] = part.text(name)
        if "${{" in found[name]:
            advice = "`${{ … }}` means something else here; left out"
            notes.add(part.line(name), f"the variable {quoted(name)}", advice)
            del found[name]
    return found


def expanded(text: str, known: dict[str, str]) -> str:
    """The text with the known variables put in, and in their values again. What is not known stays."""
    for _ in range(MAX_ROUNDS):
        size = len(text) + sum(len(known.get(m[1] or m[2] or "", "")) for m in _REFERENCE.finditer(text))
        if size > MAX_VALUE:
            break
        changed = _REFERENCE.sub(lambda m: known.get(m[1] or m[2] or "", m[0]), text)
        if changed == text:
            break
        text = changed
    return text


def unresolved(text: str) -> list[str]:
    """The variables that a text still refers to."""
    return [m[1] or m[2] for m in _REFERENCE.finditer(text) if m[1] or m[2]]


def unset(names: Iterable[str], known: dict[str, str]) -> list[str]:
    """Those of the names that GitLab sets and nobody sets here."""
    return [
        name
        for name in dict.fromkeys(names)
        if name.startswith(("CI_", "GITLAB_")) and name not in known and name not in BUILT_IN and name not in ALIASES
    ]


def used(scripts: Iterable[str]) -> list[str]:
    """The predefined variables that scripts look at, in order."""
    return list(dict.fromkeys(name for script in scripts for name in _USED.findall(script)))
