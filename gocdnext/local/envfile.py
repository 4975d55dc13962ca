"""Files of `KEY=VALUE` lines with the values of secrets (contract-cli-plugins 4.5). Text only; messages show no value."""

from __future__ import annotations

import re

MAX_BYTES = 1024 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class EnvFileError(Exception):
    """The text cannot be used; says which line and why."""


def parse(data: bytes) -> dict[str, str]:
    """The values by name. Blank lines and lines beginning with `#` do not count; a value is taken as it stands."""
    if len(data) > MAX_BYTES:
        raise EnvFileError(f"it is larger than {MAX_BYTES // 1024} KiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise EnvFileError("it is not UTF-8") from None
    if "\0" in text:
        raise EnvFileError("it holds a NUL byte")
    values: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.removesuffix("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise EnvFileError(f"line {number} has no `=`; write KEY=VALUE")
        name = name.strip()
        if not _NAME.fullmatch(name):
            raise EnvFileError(f"line {number}: the name before the `=` may only have letters, digits and `_`")
        if name in values:
            raise EnvFileError(f"line {number}: {name} is there twice")
        values[name] = value
    return values
