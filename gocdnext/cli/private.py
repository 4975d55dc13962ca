"""What must not be seen: where secrets are read from, and the file that tokens are kept in (contract-cli 4.1, 4.4).

A secret never is an argument: others on the machine can read those.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gocdnext.cli.common import Failure, config_file

LONGEST = 64 * 1024
"""Characters of a secret; more is a mistake in the name of the file."""


def secret_options(command: Callable[..., object]) -> Callable[..., object]:
    """Adds `--from-file` and `--from-stdin`."""
    command = click.option("--from-stdin", is_flag=True, help="Read it from stdin, also on a terminal.")(command)
    return click.option("--from-file", metavar="PATH", help="Read it from a file; - is stdin.")(command)


def read_secret(prompt: str, from_file: str | None, from_stdin: bool, *, twice: bool = False) -> str:
    """A secret from a file, from stdin, or from the keyboard without echo. Line ends behind it are cut."""
    if from_file and from_file != "-":
        try:
            with open(from_file, encoding="utf-8") as file:
                text = file.read(LONGEST + 1)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise Failure(f"cannot read {from_file}: {reason}") from None
    elif from_file == "-" or from_stdin or not sys.stdin.isatty():
        text = sys.stdin.read(LONGEST + 1)
    else:
        text = click.prompt(prompt, hide_input=True, err=True, confirmation_prompt=twice)
    text = text.rstrip("\n")
    if not text:
        raise Failure(f"the {prompt.lower()} is empty")
    if len(text) > LONGEST:
        raise Failure(f"the {prompt.lower()} is over {LONGEST} characters: is it the right file?")
    return text


def keep_token(server: str, token: str) -> Path:
    """Writes the token of a server into the configuration file; returns the file."""
    document = _read()
    document.setdefault("servers", {})[server] = {"token": token}
    return _write(document)


def forget_token(server: str) -> bool:
    """Removes the token of a server; False when there was none."""
    document = _read()
    if document.get("servers", {}).pop(server, None) is None:
        return False
    _write(document)
    return True


def _read() -> dict[str, Any]:
    path = config_file()
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Failure(f"cannot read {path}: {error}. Correct it, or move it away.") from None
    if not isinstance(document, dict) or not isinstance(document.setdefault("servers", {}), dict):
        raise Failure(f"{path} is not a configuration of gocdnext. Correct it, or move it away.")
    return document


def _write(document: dict[str, Any]) -> Path:
    """Whole or not at all, and readable for its owner only from the first byte on."""
    path = config_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, making = tempfile.mkstemp(dir=path.parent, prefix=".config.")  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(making, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(making)
            raise
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}") from None
    return path
