"""The conditions and expressions of other systems as a tree: one grammar for both, told apart by their tokens.

    or := and ("||" and)*   and := comparison ("&&" comparison)*
    comparison := unary (("==" | "!=" | "=~" | "!~" | "<" | "<=" | ">" | ">=") unary)?
    unary := "!" unary | "(" or ")" | call | name | literal

Only the shape is read here; what a name or a function means is the importer's business.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

MAX_LENGTH = 4_000
MAX_DEPTH = 40


class Name(msgspec.Struct, frozen=True):
    """A variable (`CI_COMMIT_BRANCH`) or a context (`github.ref`, `matrix.python-version`)."""

    name: str


class Literal(msgspec.Struct, frozen=True):
    value: str


class Pattern(msgspec.Struct, frozen=True):
    """A regular expression between slashes."""

    value: str
    flags: str = ""


class Null(msgspec.Struct, frozen=True):
    pass


class Call(msgspec.Struct, frozen=True):
    name: str
    arguments: tuple[Tree, ...]


class Operation(msgspec.Struct, frozen=True):
    """`operator` is `!`, `&&`, `||` or a comparison."""

    operator: str
    parts: tuple[Tree, ...]


Tree = Name | Literal | Pattern | Null | Call | Operation


class NotUnderstood(Exception):
    """The text has another shape than the grammar."""


_COMPARISONS: Final = ("==", "!=", "=~", "!~", "<=", ">=", "<", ">")
_GITLAB = re.compile(
    r"""\s*(?:(?P<op>==|!=|=~|!~|&&|\|\||[!()])|\$(?:\{(?P<braced>\w+)\}|(?P<name>\w+))
    |"(?P<double>[^"]*)"|'(?P<single>[^']*)'|/(?P<regex>(?:[^/\\]|\\.)*)/(?P<flags>[a-zA-Z]*)|(?P<word>null))""",
    re.VERBOSE,
)
_GITHUB = re.compile(
    r"""\s*(?:(?P<op>==|!=|&&|\|\||<=|>=|[<>!(),])|'(?P<text>(?:[^']|'')*)'|(?P<number>-?\d+(?:\.\d+)?)
    |(?P<word>[A-Za-z_](?:[\w-]|\.[\w*-]|\['[^']{0,100}'\])*))""",
    re.VERBOSE,
)


def gitlab(text: str) -> Tree:
    """The tree of a `rules:if` text. Raises `NotUnderstood`."""
    return _Reader(_tokens(text, _GITLAB, _gitlab_leaf)).whole()


def github(text: str) -> Tree:
    """The tree of what stands between `${{` and `}}`. Raises `NotUnderstood`."""
    return _Reader(_tokens(text, _GITHUB, _github_leaf)).whole()


Token = str | Name | Literal | Pattern | Null


def _gitlab_leaf(found: re.Match[str]) -> Token:
    kind = found.lastgroup
    if kind in ("braced", "name"):
        return Name(found[kind])
    if kind in ("double", "single"):
        return Literal(found[kind])
    if kind in ("regex", "flags"):
        return Pattern(found["regex"], found["flags"])
    return Null()


def _github_leaf(found: re.Match[str]) -> Token:
    if found.lastgroup == "text":
        return Literal(found["text"].replace("''", "'"))
    if found.lastgroup == "number":
        return Literal(found["number"])
    word = re.sub(r"\['([^']*)'\]", r".\1", found["word"])
    if word in ("true", "false"):
        return Literal(word)
    return Null() if word == "null" else Name(word)


def _tokens(text: str, grammar: re.Pattern[str], leaf: object) -> list[Token]:
    if len(text) > MAX_LENGTH:
        raise NotUnderstood("the condition is too long")
    found: list[Token] = []
    at, text = 0, text.rstrip()
    while at < len(text):
        token = grammar.match(text, at)
        if token is None or token.end() == at:
            raise NotUnderstood(text[at : at + 20])
        found.append(token["op"] if token["op"] else leaf(token))  # type: ignore[operator]
        at = token.end()
    return found


class _Reader:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def whole(self) -> Tree:
        tree = self._or()
        if self._at < len(self._tokens):
            raise NotUnderstood(str(self._tokens[self._at]))
        return tree

    def _peek(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _is(self, *operators: str) -> str:
        """The next token when it is one of these operators, which is then passed; else empty."""
        token = self._peek()
        if isinstance(token, str) and token in operators:
            self._at += 1
            return token
        return ""

    def _or(self) -> Tree:
        parts = [self._and()]
        while self._is("||"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else Operation("||", tuple(parts))

    def _and(self) -> Tree:
        parts = [self._comparison()]
        while self._is("&&"):
            parts.append(self._comparison())
        return parts[0] if len(parts) == 1 else Operation("&&", tuple(parts))

    def _comparison(self) -> Tree:
        left = self._unary()
        operator = self._is(*_COMPARISONS)
        return Operation(operator, (left, self._unary())) if operator else left

    def _unary(self) -> Tree:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotUnderstood("nested too deep")
        try:
            if self._is("!"):
                return Operation("!", (self._unary(),))
            if self._is("("):
                tree = self._or()
                self._close()
                return tree
            token = self._peek()
            if token is None or isinstance(token, str):
                raise NotUnderstood(token or "the end")
            self._at += 1
            if isinstance(token, Name) and self._is("("):
                return Call(token.name, self._arguments())
            return token
        finally:
            self._depth -= 1

    def _arguments(self) -> tuple[Tree, ...]:
        if self._is(")"):
            return ()
        found = [self._or()]
        while self._is(","):
            found.append(self._or())
        self._close()
        return tuple(found)

    def _close(self) -> None:
        if not self._is(")"):
            raise NotUnderstood("a missing `)`")
