"""Whether a path pattern is well formed (the doublestar grammar of spec-pipelines 2.1). Matching is done elsewhere."""

from __future__ import annotations


def flaw(pattern: str) -> str:
    """What is wrong with a pattern as half a sentence, or empty. Looks at each character once."""
    at, depth, end = 0, 0, len(pattern)
    while at < end:
        character = pattern[at]
        if character == "\\":
            if at + 1 == end:
                return "ends with a backslash"
            at += 1
        elif character == "[":
            closed = _class_end(pattern, at + 1)
            if closed < 0:
                return "has a `[` without its `]`"
            at = closed
        elif character == "{":
            depth += 1
        elif character == "}":
            if not depth:
                return "has a `}` without its `{`"
            depth -= 1
        at += 1
    return "has a `{` without its `}`" if depth else ""


def _class_end(pattern: str, at: int) -> int:
    """Index of the bracket that ends a character class whose content starts at `at`; -1 if empty or not ended."""
    if pattern[at : at + 1] in ("^", "!"):
        at += 1
    if pattern[at : at + 1] == "]":
        return -1
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] == "]":
            return at
        at += 1
    return -1
