"""The outputs file of a job (protocol-agent 3.11): made before the tasks, read after them. Files and text only."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

MAX_BYTES = 64 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class OutputsError(Exception):
    """The file cannot be used; the text says which line or key and why."""


def prepare(script_dir: str, job_id: str) -> str:
    """Makes the empty file and returns its absolute path, the value of GOCDNEXT_OUTPUT_FILE."""
    try:
        own = os.path.join(script_dir, ".gocdnext")
        os.makedirs(own, mode=0o755, exist_ok=True)
        folder = os.path.join(own, "outputs")
        if os.path.islink(own) or os.path.islink(folder):
            raise OutputsError("the repository has a link where .gocdnext/outputs should be")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.chmod(folder, 0o700)
        digits = "".join(char for char in job_id if char in "0123456789abcdefABCDEF")[:12]
        path = os.path.join(folder, f"{digits}.env")
        if os.path.lexists(path):
            os.unlink(path)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        raise OutputsError(f"cannot make the outputs file: {error.strerror}") from error
    return path


def collect(path: str, declared: Mapping[str, str]) -> dict[str, str]:
    """Alias → value for the declared map alias → key. OutputsError for a bad line or a key that is missing."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise OutputsError(f"the outputs file cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise OutputsError(f"the outputs file is larger than {MAX_BYTES // 1024} KiB")
    values = parse(data)
    missing = sorted(key for key in declared.values() if key not in values)
    if missing:
        raise OutputsError(f"the job declares {', '.join(missing)} but did not write it to $GOCDNEXT_OUTPUT_FILE")
    return {alias: values[key] for alias, key in declared.items()}


def parse(data: bytes) -> dict[str, str]:
    """The KEY=value lines. OutputsError names the line."""
    if b"\0" in data:
        raise OutputsError("the outputs file holds a NUL byte")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise OutputsError("the outputs file is not UTF-8") from error
    values: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.removesuffix("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.partition("=")
        key = key.strip()
        if not equals:
            raise OutputsError(f"line {number} of the outputs file has no '='")
        if not _NAME.fullmatch(key):
            raise OutputsError(f"line {number} of the outputs file: {key[:64]!r} is not a name (letters, digits, _)")
        if key in values:
            raise OutputsError(f"line {number} of the outputs file: {key} is there twice")
        values[key] = value[1:-1] if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'" else value
    return values
