"""References in texts: the passes `needs`, `strict` and `soft`, and plugin variable names (spec-pipelines 3.2, 8.1).

A text under substitution is a list of pieces, open or sealed. What a pass inserts is sealed for the rest of that pass;
values that came from outside (secrets, built-ins, tokens, outputs of other jobs) stay sealed for good, so that no later
pass looks inside them (design 9, decision 4). Messages name references, never values. Every scan is linear.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

ErrorKind = Literal[
    "unresolved",
    "unsupported",
    "missing_job",
    "missing_selector",
    "selector_on_plain",
    "bad_selector",
    "no_such_key",
    "missing_output",
    "missing_secret",
]

_BLANKS = " \t\r\n\f"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SOFT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NEEDS = re.compile(r"needs\.([A-Za-z0-9_-]+)(?:\.matrix\[(.*)\])?\.outputs\.([a-z][a-zA-Z0-9_-]*)", re.DOTALL)

# The classes of the needs pass, strongest first.
_NEEDS_ORDER: tuple[ErrorKind, ...] = (
    "missing_job",
    "missing_selector",
    "selector_on_plain",
    "bad_selector",
    "no_such_key",
    "missing_output",
)


class SubstitutionError(Exception):
    """A reference that cannot be replaced. `names` are the references' own words; values are never part of it."""

    def __init__(self, kind: ErrorKind, message: str, names: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.names = tuple(names)


class Piece(msgspec.Struct, frozen=True):
    text: str
    sealed: bool = False


Pieces = tuple[Piece, ...]
Sources = Sequence[Mapping[str, Pieces]]
"""Where names are looked up, first map first."""


class OutputValue(msgspec.Struct, frozen=True):
    value: str
    masked: bool = False


class NeededJob(msgspec.Struct, frozen=True):
    """The outputs of a job listed in `needs`: by instance key (empty for a plain job), then by alias.

    Only instances that succeeded are in it. `dimensions` are the names of the matrix; a plain job has none.
    """

    instances: Mapping[str, Mapping[str, OutputValue]]
    dimensions: tuple[str, ...] = ()


def written(text: str) -> Pieces:
    """A text from a pipeline file: open to every pass."""
    return (Piece(text),)


def outside(text: str) -> Pieces:
    """A value from elsewhere: no pass looks inside."""
    return (Piece(text, sealed=True),)


def joined(pieces: Pieces) -> str:
    return "".join(piece.text for piece in pieces)


def strict(text: str, sources: Sequence[Mapping[str, str]]) -> str:
    """`${{ NAME }}` replaced. Raises `SubstitutionError` (`unsupported`, `unresolved`)."""
    return joined(strict_pass(written(text), _written(sources)))


def soft(text: str, sources: Sequence[Mapping[str, str]]) -> str:
    """`${NAME}` replaced where the name is known; everything else is left as written."""
    return joined(soft_pass(written(text), _written(sources)))


def needs(text: str, jobs: Mapping[str, NeededJob]) -> str:
    """`${{ needs.JOB.outputs.ALIAS }}` and its matrix form replaced. Raises the strongest failure."""
    return joined(needs_pass(written(text), jobs))


def bodies(text: str) -> Iterator[str]:
    """What stands between `${{` and `}}` in a text, without outer blanks."""
    return (body for _, _, body in _tokens(text))


def plugin_env(name: str) -> str:
    """The environment variable of a plugin setting: `targetEnv` is `PLUGIN_TARGET_ENV` (spec-pipelines 3.2)."""
    characters, before = [], ""
    for character in name:
        if character.isupper() and before.islower():
            characters.append("_")
        upper = character.upper()
        characters.append("_" if character in "-. " else upper if len(upper) == 1 else character)
        before = character
    return "PLUGIN_" + "".join(characters)


def strict_pass(pieces: Pieces, sources: Sources) -> Pieces:
    unsupported: list[str] = []
    unresolved: list[str] = []

    def resolve(body: str) -> Pieces | None:
        if not _NAME.fullmatch(body):
            unsupported.append(body)
            return None
        found = _look_up(body, sources)
        if found is None:
            unresolved.append(body)
        return found

    result = _over_tokens(pieces, _tokens, resolve)
    if unsupported:
        hint = "only ${{ NAME }} and outputs of needed jobs are possible"
        message = f"unsupported expression {_shown(unsupported)}: {hint}"
        raise SubstitutionError("unsupported", message, unsupported)
    if unresolved:
        raise SubstitutionError("unresolved", f"unresolved reference {_shown(unresolved)}", unresolved)
    return result


def soft_pass(pieces: Pieces, sources: Sources) -> Pieces:
    return _over_tokens(pieces, _soft_tokens, lambda name: _look_up(name, sources))


def needs_pass(pieces: Pieces, jobs: Mapping[str, NeededJob]) -> Pieces:
    failures: dict[ErrorKind, tuple[str, str]] = {}

    def resolve(body: str) -> Pieces | None:
        reference = _NEEDS.fullmatch(body)
        if reference is None:
            return None
        found = _output(reference[1], reference[2], reference[3], jobs)
        if isinstance(found, str):
            return outside(found)
        failures.setdefault(found[0], (found[1], body))
        return None

    result = _over_tokens(pieces, _tokens, resolve)
    for kind in _NEEDS_ORDER:
        if kind in failures:
            message, body = failures[kind]
            raise SubstitutionError(kind, f"needs outputs: {message} in {_shown([body])}", [body])
    return result


def _output(job: str, selector: str | None, alias: str, jobs: Mapping[str, NeededJob]) -> str | tuple[ErrorKind, str]:
    """The value of an output, or the class of the failure with its sentence."""
    needed = jobs.get(job)
    if needed is None:
        return "missing_job", f"{job} is not in the `needs` of this job"
    if not needed.dimensions:
        if selector is not None:
            return "selector_on_plain", f"{job} has no matrix"
        key = ""
    else:
        if selector is None:
            return "missing_selector", f"{job} has a matrix, write needs.{job}.matrix[{','.join(needed.dimensions)}]…"
        found = _instance_key(selector, needed.dimensions)
        if found is None:
            return "bad_selector", f"the selector does not give each of {', '.join(needed.dimensions)} once"
        if found not in needed.instances:
            return "no_such_key", f"{job} has no instance with this selector that succeeded"
        key = found
    value = needed.instances.get(key, {}).get(alias)
    return value.value if value is not None else ("missing_output", f"{job} did not produce {alias}")


def _instance_key(selector: str, dimensions: tuple[str, ...]) -> str | None:
    """The instance key `D1=v1,D2=v2` that a selector means; None when it is malformed."""
    if "=" not in selector:
        value = selector.strip(_BLANKS)
        return f"{dimensions[0]}={value}" if len(dimensions) == 1 and value and "," not in value else None
    given: dict[str, str] = {}
    for pair in selector.split(","):
        name, equals, value = pair.strip(_BLANKS).partition("=")
        if not equals or not value or name not in dimensions or name in given:
            return None
        given[name] = value
    return ",".join(f"{name}={given[name]}" for name in sorted(given)) if len(given) == len(dimensions) else None


_Tokens = Callable[[str], Iterator[tuple[int, int, str]]]
"""Where the tokens of a pass stand in a text."""
_Resolve = Callable[[str], "Pieces | None"]
"""What a pass makes of a token's body: pieces, or None to leave the token as it stands."""


def _over_tokens(pieces: Pieces, tokens: _Tokens, resolve: _Resolve) -> Pieces:
    result: list[Piece] = []
    for piece in pieces:
        if piece.sealed:
            result.append(piece)
            continue
        at = 0
        for start, end, body in tokens(piece.text):
            found = resolve(body)
            if found is None:
                continue
            result.append(Piece(piece.text[at:start]))
            result.extend(found)
            at = end
        result.append(Piece(piece.text[at:]))
    return tuple(result)


def _soft_tokens(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and name of each `${NAME}`."""
    return ((token.start(), token.end(), token[1]) for token in _SOFT.finditer(text))


def _tokens(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and trimmed body of each `${{ … }}`. A body has at least one character and no `}`."""
    at = 0
    while (start := text.find("${{", at)) >= 0:
        close = text.find("}", start)
        if close < 0:
            return
        if close == start + 3 or text[close : close + 2] != "}}":
            # Every other opening before this brace would end at it too.
            at = close + 1
            continue
        yield start, close + 2, text[start + 3 : close].strip(_BLANKS)
        at = close + 2


def _look_up(name: str, sources: Sources) -> Pieces | None:
    return next((source[name] for source in sources if name in source), None)


def _written(sources: Sequence[Mapping[str, str]]) -> Sources:
    return [{name: written(value) for name, value in source.items()} for source in sources]


def _shown(names: Sequence[str]) -> str:
    """References for a message: each once, the first five, short and printable."""
    unique = list(dict.fromkeys(names))
    shown = [f"${{{{ {_short(name)} }}}}" if name else "${{ }}" for name in unique[:5]]
    return ", ".join(shown) + (f" and {len(unique) - 5} more" if len(unique) > 5 else "")


def _short(name: str) -> str:
    kept = name if len(name) <= 80 else name[:79] + "…"
    return "".join(character if character.isprintable() else " " for character in kept)
