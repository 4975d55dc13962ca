"""When something runs, apart from how a system writes it: a small logic that becomes `when` or a test in the shell.

Conditions decide what is deployed, so they fail closed: what is not understood is `Unknown`, never "always".
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec


class Event(msgspec.Struct, frozen=True):
    """`push`, `pull_request`, `tag`, `cron`, `manual` or `upstream`."""

    name: str


class Branch(msgspec.Struct, frozen=True):
    """A run of a branch (no pull request, no tag) whose name matches; `*` in it is any text."""

    pattern: str
    regex: bool = False
    """The pattern is an extended regular expression (POSIX) that is looked for in the name."""


class Tag(msgspec.Struct, frozen=True):
    """A run of a tag whose name matches, as for `Branch`."""

    pattern: str
    regex: bool = False


class Variable(msgspec.Struct, frozen=True):
    """A variable of the job with this value; None for any that is not empty."""

    name: str
    value: str | None


class Unknown(msgspec.Struct, frozen=True):
    """Something that cannot be said here."""

    text: str


class Not(msgspec.Struct, frozen=True):
    part: Condition


class All(msgspec.Struct, frozen=True):
    parts: tuple[Condition, ...] = ()


class Any(msgspec.Struct, frozen=True):
    parts: tuple[Condition, ...] = ()


Condition = Event | Branch | Tag | Variable | Unknown | Not | All | Any

ALWAYS: Final = All()
NEVER: Final = Any()
DEFAULT_BRANCH: Final = Branch("${CI_DEFAULT_BRANCH:-main}")
"""The one pattern that is not literal: a run does not know the default branch, a variable says it."""
ANY_BRANCH: Final = Branch("*")

_CAUSES: Final = {
    "push": ("webhook", "poll"),
    "pull_request": ("pull_request",),
    "tag": ("tag",),
    "cron": ("cron", "schedule"),
    "manual": ("manual",),
    "upstream": ("upstream",),
}
MAX_PARTS = 200


def every(*parts: Condition) -> Condition:
    """All of them, simplified."""
    flat: dict[Condition, None] = {}
    for part in parts:
        flat.update(dict.fromkeys(part.parts if isinstance(part, All) else (part,)))
    if NEVER in flat:
        return NEVER
    for part in flat:
        if isinstance(part, Not) and part.part in flat:
            return NEVER
    return next(iter(flat)) if len(flat) == 1 else All(tuple(flat))


def some(*parts: Condition) -> Condition:
    """One of them, simplified."""
    flat: dict[Condition, None] = {}
    for part in parts:
        flat.update(dict.fromkeys(part.parts if isinstance(part, Any) else (part,)))
    if ALWAYS in flat:
        return ALWAYS
    for part in flat:
        if isinstance(part, Not) and part.part in flat:
            return ALWAYS
    return next(iter(flat)) if len(flat) == 1 else Any(tuple(flat))


def negated(part: Condition) -> Condition:
    if isinstance(part, Not):
        return part.part
    if isinstance(part, All):
        return some(*map(negated, part.parts))
    if isinstance(part, Any):
        return every(*map(negated, part.parts))
    return Not(part)


def atoms(condition: Condition) -> Iterator[tuple[Condition, bool]]:
    """Every part that is no combination, with whether it is wanted (not negated)."""
    waiting = [(condition, True)]
    while waiting:
        part, wanted = waiting.pop()
        if isinstance(part, Not):
            waiting.append((part.part, not wanted))
        elif isinstance(part, All | Any):
            waiting += [(inner, wanted) for inner in reversed(part.parts)]
        else:
            yield part, wanted


def unknown(condition: Condition) -> list[str]:
    """The texts in it that were not understood."""
    return [part.text for part, _ in atoms(condition) if isinstance(part, Unknown)]


class When(msgspec.Struct, frozen=True):
    events: tuple[str, ...]
    branches: tuple[str, ...]
    """Exact names; none for the default branch."""
    any_branch: bool = False
    """Pushes to every branch are meant, which `when` cannot say."""


def as_when(condition: Condition) -> When | None:
    """The condition as the top-level `when` of a file, or None when that cannot say it.

    It can: a choice of events, pushes limited to the default branch or to branches by exact name.
    """
    events: dict[str, None] = {}
    branches: dict[str, None] = {}
    any_branch = regex = False
    for part in condition.parts if isinstance(condition, Any) else (condition,):
        inner = set(part.parts) if isinstance(part, All) else {part}
        inner -= {Not(Event("pull_request")), Not(Event("tag"))}
        named = [item for item in inner if isinstance(item, Branch)]
        rest = [item for item in inner if not isinstance(item, Branch)]
        if len(named) > 1 or len(rest) > 1:
            return None
        if named and (not rest or rest == [Event("push")]):
            events["push"] = None
            branches[named[0].pattern] = None
            regex = regex or named[0].regex
        elif not named and len(rest) == 1 and isinstance(event := rest[0], Event):
            events[event.name] = None
            any_branch = any_branch or event.name == "push"
        elif not named and rest == [Tag("*")]:
            events["tag"] = None
        else:
            return None
    if ANY_BRANCH.pattern in branches:
        any_branch, branches = True, {}
    if (any_branch and branches) or any("*" in name for name in branches) or regex:
        return None
    if DEFAULT_BRANCH.pattern in branches:
        if len(branches) > 1:
            return None
        branches = {}
    return When(tuple(events), tuple(branches), any_branch) if events else None


def shell(condition: Condition) -> str:
    """A list of commands that succeeds when the condition holds (POSIX). Raises ValueError for `Unknown`."""
    if condition == ALWAYS:
        return "true"
    if condition == NEVER:
        return "false"
    return _text(condition, top=True)


def _text(condition: Condition, top: bool = False) -> str:
    if isinstance(condition, Not):
        cause = "tag" if condition.part == Tag("*") else ""
        if isinstance(condition.part, Event) and len(_CAUSES[condition.part.name]) == 1:
            cause = _CAUSES[condition.part.name][0]
        return _case("CI_CAUSE", cause, "false", "true") if cause else f"! {_grouped(condition.part)}"
    if isinstance(condition, All | Any):
        if not condition.parts:
            return "true" if isinstance(condition, All) else "false"
        joined = (" && " if isinstance(condition, All) else " || ").join(map(_grouped, condition.parts))
        return joined if top else f"{{ {joined}; }}"
    return _atom(condition)


def _grouped(condition: Condition) -> str:
    text = _text(condition)
    simple = text.startswith("{ ") or (" && " not in text and " || " not in text)
    return text if simple else f"{{ {text}; }}"


def _atom(condition: Condition) -> str:
    if isinstance(condition, Event):
        return _case("CI_CAUSE", "|".join(_CAUSES[condition.name]))
    if isinstance(condition, Branch):
        named = _case_of("CI_BRANCH", condition)
        return f"{_case('CI_CAUSE', 'pull_request|tag', 'false', 'true')} && {named}"
    if isinstance(condition, Tag):
        if condition.pattern == "*":
            return _case("CI_CAUSE", "tag")
        if condition.regex:
            return f"{_case('CI_CAUSE', 'tag')} && {_found('CI_TAG_NAME', condition.pattern)}"
        return (
            f'case "${{CI_CAUSE:-}}:${{CI_TAG_NAME:-}}" in tag:{_starred(condition.pattern)}) true ;; *) false ;; esac'
        )
    if isinstance(condition, Variable):
        if condition.value is None:
            return f'[ -n "${{{condition.name}:-}}" ]'
        return f'[ "${{{condition.name}:-}}" = {shlex.quote(condition.value)} ]'
    raise ValueError(f"not understood: {condition}")


def _case_of(name: str, part: Branch) -> str:
    if part == DEFAULT_BRANCH:
        return f'[ "${{{name}:-}}" = "{part.pattern}" ]'
    if part.regex:
        return _found(name, part.pattern)
    if part.pattern == "*":
        return f'[ -n "${{{name}:-}}" ]'
    if "*" not in part.pattern:
        return f'[ "${{{name}:-}}" = {shlex.quote(part.pattern)} ]'
    return _case(name, _starred(part.pattern))


def _found(name: str, regex: str) -> str:
    return f"printf '%s\\n' \"${{{name}:-}}\" | grep -Eq -e {shlex.quote(regex)}"


def _starred(pattern: str) -> str:
    return "*".join(shlex.quote(piece) if piece else "" for piece in pattern.split("*"))


def _case(name: str, patterns: str, hit: str = "true", miss: str = "false") -> str:
    if re.fullmatch(r"\w+", patterns):
        return f'[ "${{{name}:-}}" {"=" if hit == "true" else "!="} {patterns} ]'
    return f'case "${{{name}:-}}" in {patterns}) {hit} ;; *) {miss} ;; esac'


def matching(kind: type[Branch | Tag], pattern: str) -> Branch | Tag | None:
    """Names in which a regular expression is found, or None for one that POSIX does not have."""
    plain = re.fullmatch(r"\^((?:[\w/@-]|\\[./-])*)(\.\*)?\$?", pattern)
    if plain and (plain[2] or pattern.endswith("$")):
        return kind(re.sub(r"\\(.)", r"\1", plain[1]) + ("*" if plain[2] else ""))
    if plain:
        return kind(re.sub(r"\\(.)", r"\1", plain[1]) + "*")
    text = _extended(pattern)
    return None if text is None else kind(text, regex=True)


def _extended(pattern: str) -> str | None:
    """A regular expression in the words of `grep -E`."""
    found, at, inside = [], 0, False
    while at < len(pattern):
        char, following = pattern[at], pattern[at + 1 : at + 2]
        if char == "\\":
            escaped = {"d": "0-9", "w": "[:alnum:]_", "/": "/", "-": "-" if not inside else ""}.get(following, "")
            if not escaped and (inside or following not in ".^$*+?()[]{}|\\" or not following):
                return None
            found.append((f"[{escaped}]" if following in "dw" and not inside else escaped) or f"\\{following}")
            at += 1
        elif char == "\n" or (not inside and char in "?+*}" and following in ("?", "+")) or (char + following) == "(?":
            return None
        else:
            inside = char != "]" if inside else char == "["
            found.append(char)
        at += 1
    return None if inside else "".join(found)


def switched(condition: Condition, name: str) -> Condition:
    """The condition with a variable that people set to `true` in the place of what was not understood."""
    if isinstance(condition, Unknown) or (isinstance(condition, Not) and isinstance(condition.part, Unknown)):
        return Variable(name, "true")
    if isinstance(condition, All):
        return every(*(switched(part, name) for part in condition.parts))
    if isinstance(condition, Any):
        return some(*(switched(part, name) for part in condition.parts))
    return condition


def assuming(condition: Condition, events: Sequence[str]) -> Condition:
    """The condition in a pipeline that only these events of a repository start."""
    if isinstance(condition, Not):
        return negated(assuming(condition.part, events))
    if isinstance(condition, All):
        return every(*(assuming(part, events) for part in condition.parts))
    if isinstance(condition, Any):
        return some(*(assuming(part, events) for part in condition.parts))
    name = "tag" if isinstance(condition, Tag) else condition.name if isinstance(condition, Event) else ""
    return NEVER if name in ("push", "pull_request", "tag") and name not in events else condition
