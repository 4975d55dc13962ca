"""Expressions of GitHub, `${{ … }}`: as a text that is known, as a variable of the shell, or as a condition.

What has no equal stays as it is in scripts, where the shell stops at it, and is left out elsewhere; both are noted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec

from gocdnext.importers import expressions
from gocdnext.importers.conditions import (
    ALWAYS,
    DEFAULT_BRANCH,
    NEVER,
    Branch,
    Condition,
    Event,
    Tag,
    Unknown,
    Variable,
    every,
    negated,
    some,
)
from gocdnext.importers.expressions import Call, Literal, Name, NotUnderstood, Null, Operation, Tree
from gocdnext.importers.notes import Notes
from gocdnext.importers.shell import NAME, Quotes
from gocdnext.pipeline.context import RESERVED_PREFIXES
from gocdnext.pipeline.problems import quoted

EXPRESSION = re.compile(r"\$\{\{((?:[^}'$]|\$(?!\{\{)|'[^']*'|\}(?!\}))*+)\}\}")

_VARIABLES = {
    "github.sha": "CI_COMMIT_SHA",
    "github.ref_name": "CI_BRANCH",
    "github.head_ref": "CI_PULL_REQUEST_BRANCH",
    "github.base_ref": "CI_PULL_REQUEST_BASE",
    "github.run_id": "CI_RUN_ID",
    "github.run_number": "CI_RUN_COUNTER",
    "github.job": "CI_JOB_NAME",
    "github.workflow": "CI_PIPELINE_NAME",
    "github.workspace": "PWD",
    "github.event.number": "CI_PULL_REQUEST_KEY",
    "github.event.pull_request.number": "CI_PULL_REQUEST_KEY",
    "github.event.pull_request.title": "CI_PULL_REQUEST_TITLE",
    "github.event.pull_request.user.login": "CI_PULL_REQUEST_AUTHOR",
    "github.event.pull_request.html_url": "CI_PULL_REQUEST_URL",
}
_LITERALS = {"runner.os": "Linux", "runner.arch": "X64", "runner.temp": "/tmp"}
_KINDS: dict[str, Condition] = {"branch": Branch("*"), "tag": Tag("*")}
_EVENTS: dict[str, Condition] = {
    "push": Event("push"),
    "pull_request": Event("pull_request"),
    "pull_request_target": Event("pull_request"),
    "schedule": Event("cron"),
    "workflow_dispatch": Event("manual"),
}


class Known(msgspec.Struct, frozen=True):
    """A text that is fixed."""

    text: str


class Set(msgspec.Struct, frozen=True):
    """A variable of the job; `secret` when it has to be listed under `secrets`."""

    name: str
    secret: bool = False
    reference: str = ""
    """What the variable has to be set to: `needs.build.outputs.tag`."""


@dataclass
class Scope:
    """What expressions of one job can refer to."""

    notes: Notes
    called: str
    env: dict[str, str] = field(default_factory=dict)
    """The variables of workflow and job, as they are written here."""
    matrix: dict[str, str] = field(default_factory=dict)
    """Values of one combination."""
    dimensions: dict[str, str] = field(default_factory=dict)
    """Or: key of the matrix to the variable that has its value."""
    inputs: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    """Filled with the names that were used."""
    steps: set[str] = field(default_factory=set)
    """Ids of steps so far whose outputs are kept in variables."""
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of needed jobs: name of an output to its alias here."""
    needed: dict[str, str] = field(default_factory=dict)
    """Filled with the variables that have to be set to outputs of needed jobs."""

    def value(self, body: str) -> Known | Set | None:
        """What an expression stands for, or None."""
        try:
            return self._value(expressions.github(body))
        except NotUnderstood:
            return None

    def _value(self, tree: Tree) -> Known | Set | None:
        if isinstance(tree, Literal):
            return Known(tree.value)
        if isinstance(tree, Operation) and tree.operator == "||":
            # `inputs.x || 'default'`: the first that is known decides.
            first = self._value(tree.parts[0])
            if isinstance(first, Known):
                return first if first.text else self._value(tree.parts[1])
            return None
        return self._named(tree.name) if isinstance(tree, Name) else None

    def _named(self, name: str) -> Known | Set | None:
        context, _, key = name.partition(".")
        if name in _LITERALS:
            return Known(_LITERALS[name])
        if name in _VARIABLES:
            return Set(_VARIABLES[name])
        if context == "matrix":
            if key in self.matrix:
                return Known(self.matrix[key])
            if key in self.dimensions:
                return Set(self.dimensions[key])
            return Known("") if self.matrix else None
        if context == "secrets" and NAME.fullmatch(key):
            return Set(key, secret=True)
        if name == "github.token":
            return Set("GITHUB_TOKEN", secret=True)
        if context == "env" and NAME.fullmatch(key):
            return Set(key)
        if context == "inputs" or name.startswith("github.event.inputs."):
            wanted = name.rpartition(".")[2]
            return Set(self.inputs[wanted]) if wanted in self.inputs else None
        if context == "vars" and NAME.fullmatch(key):
            return Set(key)
        owner, _, output = key.partition(".outputs.")
        if context == "steps" and output and owner in self.steps:
            return Set(step_variable(owner, output))
        if context == "needs" and output in self.outputs.get(owner, {}):
            reference = f"needs.{owner}.outputs.{self.outputs[owner][output]}"
            return Set(re.sub(r"\W", "_", f"NEEDS_{owner}_{output}").upper(), reference=reference)
        return None

    def _use(self, found: Set) -> None:
        if found.secret and found.name not in self.secrets:
            self.secrets.append(found.name)
        if found.reference:
            self.needed[found.name] = f"${{{{ {found.reference} }}}}"

    def script(self, text: str, line: int) -> str:
        """A script with shell variables in the place of expressions."""
        pieces, at, quotes = [], 0, Quotes()
        for match in EXPRESSION.finditer(text):
            before = text[at : match.start()]
            quotes.feed(before)
            put = self._in_script(match, quotes, line)
            quotes.feed(put)
            pieces += [before, put]
            at = match.end()
        return "".join(pieces) + text[at:]

    def _in_script(self, match: re.Match[str], quotes: Quotes, line: int) -> str:
        found = self.value(match[1])
        if isinstance(found, Known):
            return found.text
        if found is None:
            advice = "it has no equal here; the shell stops at it, so write something else"
            self.notes.add(line, f"{quoted(match[0])} in a script of {self.called}", advice)
            return match[0]
        self._use(found)
        variable = f"${{{found.name}}}"
        return f"'\"{variable}\"'" if quotes.single else variable

    def quoted(self, text: str, what: str, line: int) -> str:
        """A text as one word of the shell, with variables in the place of expressions."""
        pieces, at = [], 0
        for match in [*EXPRESSION.finditer(text), None]:
            pieces.append(re.sub(r'([\\"`$])', r"\\\1", text[at : match.start() if match else len(text)]))
            if match is None:
                break
            at = match.end()
            found = self.value(match[1])
            if isinstance(found, Known):
                pieces.append(re.sub(r'([\\"`$])', r"\\\1", found.text))
            elif found is not None:
                self._use(found)
                pieces.append(f"${{{found.name}}}")
            else:
                self.notes.add(line, f"{quoted(match[0])} in {what} of {self.called}", "it has no equal; empty here")
        return '"' + "".join(pieces) + '"'

    def shown(self, text: str) -> str:
        """A text for people, with what is known put in."""

        def put(match: re.Match[str]) -> str:
            found = self.value(match[1])
            return found.text if isinstance(found, Known) else found.name if found is not None else "…"

        return EXPRESSION.sub(put, text)

    def setting(self, text: str, what: str, line: int) -> str | None:
        """The value of a variable: `${{ NAME }}` for secrets and built-in variables, which the server puts in."""
        good = True

        def put(match: re.Match[str]) -> str:
            nonlocal good
            found = self.value(match[1])
            if isinstance(found, Known):
                return found.text
            if found is not None and found.name in self.env and "${{" not in self.env[found.name]:
                return self.env[found.name]
            if found is not None and found.reference:
                return f"${{{{ {found.reference} }}}}"
            if found is not None and (found.secret or found.name.startswith(RESERVED_PREFIXES)):
                self._use(found)
                return f"${{{{ {found.name} }}}}"
            self.notes.add(line, f"{quoted(match[0])} in {what} of {self.called}", "it has no equal here; left out")
            good = False
            return ""

        result = EXPRESSION.sub(put, text)
        return result if good else None

    def plain(self, text: str, what: str, line: int) -> str:
        """A text that must be fixed; empty, with a note, when it is not."""
        good = True

        def put(match: re.Match[str]) -> str:
            nonlocal good
            found = self.value(match[1])
            if isinstance(found, Set) and found.name in self.env and "${{" not in self.env[found.name]:
                return self.env[found.name]
            if isinstance(found, Known):
                return found.text
            self.notes.add(line, f"{quoted(match[0])} in {what} of {self.called}", "only fixed texts can be here")
            good = False
            return ""

        result = EXPRESSION.sub(put, text)
        return result if good else ""

    def condition(self, text: str) -> Condition:
        """An `if`. The functions on the state of the job are the caller's business: they count as true."""
        whole = EXPRESSION.fullmatch(text.strip())
        body = whole[1] if whole else text
        if "${{" in body:
            return Unknown(text)
        try:
            return self._condition(expressions.github(body), text)
        except NotUnderstood:
            return Unknown(text)

    def _condition(self, tree: Tree, text: str) -> Condition:
        if isinstance(tree, Operation):
            if tree.operator == "!":
                return self._negated(tree.parts[0], text)
            if tree.operator in ("&&", "||"):
                join = every if tree.operator == "&&" else some
                return join(*(self._condition(part, text) for part in tree.parts))
            if tree.operator in ("==", "!="):
                found = self._equal(tree.parts[0], tree.parts[1], text)
                return negated(found) if tree.operator == "!=" and not isinstance(found, Unknown) else found
            return Unknown(text)
        if isinstance(tree, Literal):
            return ALWAYS if tree.value not in ("", "false", "0") else NEVER
        if isinstance(tree, Call):
            return self._call(tree, text)
        if isinstance(tree, Name):
            value = self._named(tree.name)
            if isinstance(value, Known):
                return ALWAYS if value.text not in ("", "false") else NEVER
            if value is not None and not value.secret:
                self._use(value)
                return Variable(value.name, None)
        return Unknown(text)

    def _negated(self, tree: Tree, text: str) -> Condition:
        """`!cancelled()` is true here: a cancelled job runs nothing at all."""
        if isinstance(tree, Call) and tree.name.lower() in ("cancelled", "failure"):
            return ALWAYS
        found = self._condition(tree, text)
        return Unknown(text) if isinstance(found, Unknown) else negated(found)

    def _call(self, tree: Call, text: str) -> Condition:
        name = tree.name.lower()
        if name in ("success", "always", "failure") and not tree.arguments:
            return ALWAYS
        if name == "startswith" and len(tree.arguments) == 2:
            context, start = tree.arguments
            if isinstance(context, Name) and isinstance(start, Literal) and "*" not in start.value:
                if context.name == "github.ref":
                    for prefix, kind in (("refs/heads/", Branch), ("refs/tags/", Tag)):
                        if start.value.startswith(prefix):
                            pattern = start.value.removeprefix(prefix) + "*"
                            return Branch(pattern) if kind is Branch else Tag(pattern)
                if context.name == "github.ref_name":
                    return some(Branch(f"{start.value}*"), Tag(f"{start.value}*"))
        return Unknown(text)

    def _equal(self, left: Tree, right: Tree, text: str) -> Condition:
        if isinstance(right, Name) and not isinstance(left, Name):
            left, right = right, left
        if not isinstance(left, Name):
            return Unknown(text)
        if isinstance(right, Name):
            default = "github.event.repository.default_branch"
            return DEFAULT_BRANCH if (left.name, right.name) == ("github.ref_name", default) else Unknown(text)
        if isinstance(right, Null):
            right = Literal("")
        if not isinstance(right, Literal) or "*" in right.value:
            return Unknown(text)
        return self._is(left.name, right.value, text)

    def _is(self, name: str, value: str, text: str) -> Condition:
        if name == "github.event_name":
            return _EVENTS.get(value, Unknown(text))
        if name == "github.ref":
            if value.startswith("refs/tags/"):
                return Tag(value.removeprefix("refs/tags/"))
            return Branch(value.removeprefix("refs/heads/")) if value.startswith("refs/heads/") else Unknown(text)
        if name == "github.ref_name":
            return some(Branch(value), Tag(value))
        if name == "github.ref_type":
            return _KINDS.get(value, Unknown(text))
        found = self._named(name)
        if isinstance(found, Known):
            return ALWAYS if found.text.lower() == value.lower() else NEVER
        if found is None or found.secret or found.name == "PWD":
            return Unknown(text)
        self._use(found)
        return Variable(found.name, value)


def step_variable(step: str, output: str) -> str:
    """The variable that keeps an output of a step."""
    return re.sub(r"\W", "_", f"STEP_{step}_{output}")


def mentions(text: str, context: str) -> bool:
    """Whether an expression in the text uses a context such as `matrix` or `steps`."""
    return any(re.search(rf"(?<![\w.]){context}\.", match[1]) for match in EXPRESSION.finditer(text))
