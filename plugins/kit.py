"""What our plugins share: inputs, messages without secrets, files, commands, outputs. HTTP is in `kit_http`.

A plugin is a program. Its inputs are PLUGIN_* variables, its directory is that of the job; it ends with 0 when the work
is done, with 2 when an input is wrong, with a tool's own code when a tool failed, else with 1. What it prints begins
with its name. Secrets go to tools in variables or in files in memory, never in arguments.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

NAME = Path(sys.argv[0]).parent.name
"""The plugin that runs."""
EXIT_FAILED, EXIT_INPUT = 1, 2
MAX_TEXT = 1024 * 1024
"""Bytes of a text file that is read as an input."""
SHOWN = 500
"""Characters of somebody else's error text that are shown."""

_secrets: list[str] = []


class InputError(Exception):
    """An input is missing or wrong; the text names it and says what to write."""


class FailedError(Exception):
    """The work could not be done; the text says why and what to do."""

    def __init__(self, message: str, code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.code = code


# Inputs. An empty one counts as left out.


def text(name: str, default: str = "") -> str:
    """The input `name` of the manifest, outer blanks removed."""
    return os.environ.get(_variable(name), "").strip() or default


def block(name: str, default: str = "") -> str:
    """An input of several lines, kept as it is."""
    value = os.environ.get(_variable(name), "")
    return value if value.strip() else default


def needed(name: str) -> str:
    """A required input. Raises InputError when it is empty."""
    return _present(name, text(name))


def needed_block(name: str) -> str:
    """A required input of several lines."""
    return _present(name, block(name))


def secret(name: str) -> str:
    """A secret input: it is kept out of everything that this module prints."""
    return hide(text(name))


def needed_secret(name: str) -> str:
    """A required secret input."""
    return _present(name, secret(name))


def flag(name: str, default: bool) -> bool:
    """A switch: true or false."""
    value = text(name).lower()
    if value not in ("", "true", "false", "1", "0", "yes", "no"):
        raise InputError(f"`{name}` is {shown(value)}; write true or false")
    return value in ("true", "1", "yes") if value else default


def number(name: str, default: int, low: int, high: int) -> int:
    """A whole number within bounds."""
    value = text(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
        raise InputError(f"`{name}` is {shown(value)}; write a whole number from {low} to {high}")
    return int(value)


def choice(name: str, options: Sequence[str], default: str = "") -> str:
    """One of several words. Without a default the input is required."""
    value = text(name, default) or needed(name)
    if value not in options:
        raise InputError(f"`{name}` is {shown(value)}; write {' or '.join(options)}")
    return value


def variable(name: str) -> str:
    """A credential that is read from the job's environment, not from an input; empty when it is not there."""
    return hide(os.environ.get(name, "").strip())


def _variable(name: str) -> str:
    return "PLUGIN_" + name.replace("-", "_").upper()


def _present(name: str, value: str) -> str:
    if not value.strip():
        raise InputError(f"the input `{name}` is missing; set it under `with:`")
    return value


# Messages


def hide(value: str) -> str:
    """From now on the value, and each line of it, is `***` in what is printed. Returns the value."""
    parts = {part.strip() for part in [value, *value.splitlines()] if len(part.strip()) >= 4}
    _secrets.extend(parts - set(_secrets))
    _secrets.sort(key=len, reverse=True)
    return value


def masked(message: str) -> str:
    """The message without secrets."""
    for value in _secrets:
        message = message.replace(value, "***")
    return message


def say(message: str) -> None:
    """A line of the log."""
    print(f"{NAME}: {masked(message)}", flush=True)


def shown(value: str) -> str:
    """A value in a message: quoted and cut."""
    return repr(value if len(value) <= 80 else f"{value[:80]}…")


def main(work: Callable[[], int | None]) -> NoReturn:
    """Runs a plugin and ends the process with its exit code; its errors are one line each."""
    code: int | None
    try:
        code = work()
    except InputError as error:
        code = _complain(error, EXIT_INPUT)
    except FailedError as error:
        code = _complain(error, error.code)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        code = _complain(what, EXIT_FAILED)
    sys.stdout.flush()
    sys.exit(code or 0)


def _complain(error: object, code: int) -> int:
    print(f"{NAME}: error: {masked(str(error))}", file=sys.stderr, flush=True)
    return code


def about() -> str:
    """The run in a line, as far as the server has said: `shop/ci #41 failed on main (1a2b3c4d)`."""

    def known(*names: str) -> str:
        return next(filter(None, (os.environ.get(name, "").strip() for name in names)), "")

    pipeline = "/".join(filter(None, [known("CI_PROJECT_SLUG"), known("CI_PIPELINE_NAME", "CI_PIPELINE")]))
    words = [
        pipeline or "a pipeline",
        f"#{known('CI_RUN_COUNTER')}" if known("CI_RUN_COUNTER") else "",
        known("CI_PIPELINE_STATUS") or f"job {known('CI_JOB_NAME') or 'without a name'}",
        f"on {known('CI_BRANCH')}" if known("CI_BRANCH") else "",
        f"({known('CI_COMMIT_SHORT_SHA')})" if known("CI_COMMIT_SHORT_SHA") else "",
        known("CI_RUN_URL"),
    ]
    return " ".join(filter(None, words))


def cut(message: str, limit: int) -> str:
    """The message, or the beginning of it where a service takes no more."""
    return message if len(message) <= limit else f"{message[: limit - 2]} …"


# Directories and files


def enter(name: str = "working-dir") -> Path:
    """Changes into the directory that an input names and returns it. Raises InputError when it is none."""
    value = text(name, ".")
    try:
        os.chdir(value)
    except OSError as error:
        raise InputError(f"`{name}` is {shown(value)}: {error.strerror}") from None
    return Path.cwd()


def read(name: str) -> str:
    """The text of the file that an input names. Raises InputError when it cannot be."""
    path = Path(text(name))
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TEXT + 1)
    except OSError as error:
        raise InputError(f"`{name}` is {shown(str(path))}: {error.strerror}") from None
    if len(content) > MAX_TEXT:
        raise InputError(f"`{name}` is {shown(str(path))}: larger than {MAX_TEXT // 1024} KiB")
    return content.decode("utf-8", "replace")


def write(path: str, content: str) -> None:
    """Writes a file of the job; its folder is made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(content, encoding="utf-8")


def deliver(path: str, values: Mapping[str, str]) -> None:
    """Writes KEY=value lines to a file of the job and, when the job declares outputs, to its outputs file."""
    lines = "".join(f"{key}={' '.join(value.split())}\n" for key, value in values.items())
    write(path, lines)
    outputs = os.environ.get("GOCDNEXT_OUTPUT_FILE", "")
    if outputs:
        with open(outputs, "a", encoding="utf-8") as file:
            file.write(lines)


def memory_file(content: str, mode: int = 0o600) -> str:
    """The path of a file that exists in memory, for as long as this process does: tools that we start can open it.

    A credential in it never is on a disk, also when the job is cancelled and nobody gets to remove anything.
    """
    number = os.memfd_create("gocdnext")
    os.fchmod(number, mode)
    os.write(number, content.encode())
    return f"/proc/{os.getpid()}/fd/{number}"


# Commands


def program(name: str, hint: str) -> str:
    """The path of a tool. Raises FailedError with the hint when it is not installed."""
    found = shutil.which(name)
    if found is None:
        raise FailedError(f"there is no `{name}` on this machine; {hint}", 127)
    return found


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> int:
    """Runs a tool with our output as its output; returns its exit code as a shell would tell it."""
    sys.stdout.flush()
    try:
        done = subprocess.run(command, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise FailedError(f"cannot start {command[0]}: {error.strerror}", 126) from None
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def shell(command: str, env: Mapping[str, str] | None = None) -> int:
    """Runs a text in bash, or in sh where there is none; like a script of a job it stops at the first failure."""
    return run([shutil.which("bash") or "sh", "-e", "-c", command], env)


def git(*arguments: str, env: Mapping[str, str] | None = None) -> str:
    """What a git command prints. Raises FailedError with git's own words."""
    command = [program("git", "install git"), "-c", "safe.directory=*", *arguments]
    quiet = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(env or {})}
    done = subprocess.run(
        command, env={**os.environ, **quiet}, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace").strip()
        raise FailedError(f"git {_subcommand(arguments)}: {without_credentials(words)[-SHOWN:]}", done.returncode)
    return done.stdout.decode("utf-8", "replace")


def _subcommand(arguments: Sequence[str]) -> str:
    """The word after git's own options."""
    left = iter(arguments)
    for argument in left:
        if argument == "-c":
            next(left, "")
        else:
            return argument
    return ""


def without_credentials(message: str) -> str:
    """The message with what stands before the host of an URL replaced."""
    return re.sub(r"://[^/\s@]+@", "://***@", message)
