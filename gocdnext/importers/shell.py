"""Pieces of POSIX shell that stand for what other systems do around a job's commands. Text only."""

from __future__ import annotations

import re

from gocdnext.importers.conditions import ALWAYS, Condition, shell, switched, unknown

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_BASH = re.compile(
    r"(?:^|[\s;&|(])\[\[\s|<<<|\bpipefail\b|<\(|&>|(?:^|\s)(?:shopt|declare|mapfile|readarray|source|pushd|popd)\s"
    r"|\b\w+=\(|\$\{\w+\[|\$\{\w+(?:\^\^?|,,?|//?|:[:0-9])|(?:^|\s)function\s+\w+|(?:^|\s)\(\(",
    re.MULTILINE,
)
_LEAVES_TRACES = re.compile(r"(?:^|[;&|({]\s*|\s)(?:cd|set|exit|trap|exec|umask|return)(?:\s|$|;)", re.MULTILINE)


def needs_bash(script: str) -> str:
    """The first thing in a script that only bash understands, or empty."""
    found = _BASH.search(script)
    return found[0].strip() if found else ""


def leaves_traces(script: str) -> bool:
    """Whether commands after it would run in another folder or with other options, or not at all."""
    return _LEAVES_TRACES.search(script) is not None


def export(name: str, value: str) -> str:
    """Sets a variable to a text in which `$X` and `${X}` are variables and nothing else is special."""
    inner = re.sub(r'([\\"`])', r"\\\1", value)
    inner = re.sub(r"\$(?![A-Za-z_{])|\$(?=\{(?![A-Za-z_][\w]*\}))", r"\\$", inner)
    return f'export {name}="{inner}"'


def program(interpreter: str, script: str, suffix: str = "") -> str:
    """A script for another interpreter, which reads it from a file of its own: standard input stays free."""
    end = "STEP"
    while f"\n{end}\n" in f"\n{script}\n":
        end += "_"
    return f"{interpreter} /dev/fd/3 3<<'{end}'{suffix}\n{script}\n{end}"


def subshell(lines: list[str]) -> str:
    """The lines by themselves, not indented: a here-document in them must keep its end."""
    return "\n".join(("(", *lines, ")"))


def guard(condition: Condition, switch: str) -> tuple[str, str]:
    """Lines that end a job with success unless the condition holds, and a name when it has to be switched on by hand.

    A condition that is not understood is never taken for true: the job then runs only if the variable `switch` is set.
    """
    if condition == ALWAYS:
        return "", ""
    reason = "its condition does not hold for this run"
    if unknown(condition):
        condition, reason = switched(condition, switch), f"{reason}, or {switch} is not set to true"
    else:
        switch = ""
    test = shell(condition)
    return f"if {test}; then :; else\n  echo 'Nothing to do: {reason}.'\n  exit 0\nfi", switch


def ending(after: list[str], allowed_to_fail: bool) -> str:
    """Lines for the start of a script: what happens at its end, whatever the end is. Empty when nothing does."""
    if not after and not allowed_to_fail:
        return ""
    lines = []
    if after:
        lines += ["start_folder=$PWD", "after_script() (", "set +e", 'cd "$start_folder"', *after, ")"]
    lines += ["at_end() {", "code=$?"]
    if after:
        lines.append("after_script || true")
    if allowed_to_fail:
        lines += ['[ "$code" -eq 0 ] || echo "Failed with exit code $code, which is allowed here."', "code=0"]
    return "\n".join((*lines, 'exit "$code"', "}", "trap at_end EXIT"))


class Quotes:
    """Follows a script piece by piece, to know whether what comes next stands inside single quotes."""

    def __init__(self) -> None:
        self._quote = ""
        self._escaped = False
        self._comment = False
        self._last = "\n"

    @property
    def single(self) -> bool:
        return self._quote == "'"

    def feed(self, text: str) -> None:
        for char in text:
            if self._comment:
                self._comment = char != "\n"
            elif self._quote == "'":
                self._quote = "" if char == "'" else self._quote
            elif self._escaped:
                self._escaped = False
            elif char == "\\":
                self._escaped = True
            elif self._quote == '"':
                self._quote = "" if char == '"' else self._quote
            elif char in "'\"":
                self._quote = char
            elif char == "#" and self._last in " \t\n;":
                self._comment = True
            self._last = char


def switch_name(job: str) -> str:
    """The variable that switches a job on."""
    return "RUN_" + (re.sub(r"[^A-Za-z0-9]+", "_", job).strip("_").upper() or "JOB")
