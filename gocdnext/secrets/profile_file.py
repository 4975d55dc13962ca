"""Runner profiles of a file that is read at start (contract-admin 7.11): made or replaced by name, never removed, and their
secrets left alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import structlog

from gocdnext.db.pool import Connection, Database
from gocdnext.errors import InvalidError
from gocdnext.pipeline.nodes import Mapping, Node, Scalar, Unreadable, decode, read
from gocdnext.pipeline.profiles import Profile
from gocdnext.secrets import profiles
from gocdnext.secrets.profiles import Wanted

MAX_BYTES = 1024 * 1024
_LOG = structlog.get_logger(__name__)
_NOTHING = frozenset({"", "~", "null"})


class _Entry(Profile, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Strict: a key that is not known is a mistake."""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    profiles: list[_Entry]


async def load(db: Database, path: Path, now: datetime, new_id: Callable[[], UUID]) -> int:
    """Keeps the profiles of the file; how many. Raises InvalidError with the file's name, DatabaseUnavailableError."""
    wanted = _read(path)

    async def work(conn: Connection) -> None:
        for entry in wanted:
            await profiles.keep(conn, new_id(), entry, now)

    await db.transaction(work)
    _LOG.info("runner profiles read", file=str(path), profiles=[entry.name for entry in wanted])
    return len(wanted)


def _read(path: Path) -> list[Profile]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InvalidError(f"{path}: larger than {MAX_BYTES} bytes")
        found = msgspec.convert(_plain(read(decode(data))), _File, strict=False).profiles
    except OSError as error:
        raise InvalidError(f"{path}: {error.strerror}") from None
    except Unreadable as error:
        raise InvalidError(f"{path}:{error.line}:{error.column}: {error.message}") from None
    except msgspec.ValidationError as error:
        raise InvalidError(f"{path}: {error}") from None
    for entry in found:
        try:
            profiles.check(Wanted(entry))
        except InvalidError as error:
            raise InvalidError(f"{path}: profile {entry.name!r}: {error}") from None
    return list(found)


def _plain(node: Node) -> Any:
    """The node as plain values; numbers are still text. The tree is bounded in depth."""
    if isinstance(node, Scalar):
        return None if node.plain and node.value in _NOTHING else node.value
    if not isinstance(node, Mapping):
        return [_plain(item) for item in node.items]
    found: dict[Any, Any] = {}
    for key, value in node.pairs:
        name = _plain(key)
        if not isinstance(name, str) or name in found:
            raise Unreadable("yaml_syntax", "a key must be a text, and there only once", node.line, node.column)
        found[name] = _plain(value)
    for toleration in found.get("tolerations") or ():
        if isinstance(toleration, dict):
            toleration.setdefault("operator", "Equal")
    return {name: value for name, value in found.items() if value is not None}
