"""Secrets from files on disk, for what systemd (`LoadCredential=`) or a container's volume puts there.

Only what lies in the one directory that the operator named, whatever a reference says and wherever links lead.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import orjson
import trio

from gocdnext.secrets.stores.errors import ERROR, UNREACHABLE, StoreError, checked

MAX_BYTES = 64 * 1024
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}")


@dataclass(frozen=True, slots=True)
class FileStore:
    """The files of a directory; of `$CREDENTIALS_DIRECTORY`, where others lie too, only those that begin with `prefix`."""

    directory: Path
    prefix: str = ""

    async def read(self, path: str, key: str) -> str:
        """The text of a file without newlines at its end; with a `key`, that field of the JSON object in it. Raises
        StoreError."""
        segments = path.split("/")
        if len(segments) > 8 or not all(_SEGMENT.fullmatch(segment) for segment in segments):
            raise StoreError(ERROR, f"{path[:80]!r} is not a path below the directory of secrets")
        data = await trio.to_thread.run_sync(self._data, self.prefix + path, abandon_on_cancel=True)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise StoreError(ERROR, f"the file {path} is not UTF-8 text: encode it, for example with base64") from None
        return checked(_field(text, path, key) if key else text.rstrip("\n"), MAX_BYTES)

    async def check(self) -> None:
        """Raises StoreError when the directory cannot be read."""
        try:
            await trio.to_thread.run_sync(os.listdir, self.directory, abandon_on_cancel=True)
        except OSError as error:
            raise StoreError(UNREACHABLE, f"the directory of secrets cannot be read: {error.strerror}") from None

    def _data(self, name: str) -> bytes:
        shown = name.removeprefix(self.prefix)
        try:
            root = self.directory.resolve(strict=True)
            file = (root / name).resolve(strict=True)
            if not file.is_relative_to(root):
                raise StoreError(ERROR, f"the file {shown} leads out of the directory of secrets")
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise StoreError(ERROR, f"{shown} is not a file")
                with os.fdopen(descriptor, "rb", closefd=False) as opened:
                    data = opened.read(MAX_BYTES + 1)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            raise StoreError(ERROR, f"there is no file {shown} in the directory of secrets") from None
        except (OSError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it leads in a circle"
            raise StoreError(UNREACHABLE, f"the file {shown} cannot be read: {reason}") from None
        if len(data) > MAX_BYTES:
            raise StoreError(ERROR, f"the file {shown} is larger than {MAX_BYTES // 1024} KiB")
        return data


def _field(text: str, path: str, key: str) -> str:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise StoreError(ERROR, f"the file {path} holds no JSON object, so it has no field {key}")
    if key not in document:
        raise StoreError(ERROR, f"the file {path} has no field {key}")
    value = document[key]
    return value if isinstance(value, str) else orjson.dumps(value).decode()
