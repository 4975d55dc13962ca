"""The first admin: a one-time code from the state directory, and what it is exchanged for (design 9, 17).

Whoever can read the state directory, or the log of the first start, may make the first admin; nobody else, and once.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from gocdnext.db.errors import StateDirectoryError
from gocdnext.db.statedir import StateDir, read_key_file

_log = structlog.get_logger(__name__)

KEY = "setup-code"
"""Name of the key in the state directory."""
_BYTES = 15
_GROUP = 4


@dataclass(frozen=True, slots=True)
class SetupCode:
    """The code of this server, and how it is thrown away once it has served."""

    text: str
    spend: Callable[[], None]

    def matches(self, said: str) -> bool:
        """Whether somebody knows the code; dashes, spaces and case do not count. Takes the same time for any answer."""
        return hmac.compare_digest(_plain(said).encode("utf-8", "surrogatepass"), _plain(self.text).encode())


def make(state: StateDir) -> SetupCode:
    """The code of a state directory; the first call makes it."""

    def spend() -> None:
        try:
            state.drop_key(KEY)
        except StateDirectoryError as error:
            # The admin is made, and with an admin there the code is good for nothing: the next start removes it.
            _log.warning("the set-up code could not be removed", error=str(error))

    return SetupCode(_written(state.ensure_key(KEY)), spend)


def shown(state_dir: Path) -> str | None:
    """The code of a state directory that a server may be using, or None when there is none.

    Raises StateDirectoryError when it cannot be read.
    """
    key = read_key_file(state_dir, KEY)
    return None if key is None else _written(key)


def _written(key: bytes) -> str:
    letters = base64.b32encode(key[:_BYTES]).decode()
    return "-".join(letters[start : start + _GROUP] for start in range(0, len(letters), _GROUP))


def _plain(text: str) -> str:
    return "".join(text.split()).replace("-", "").upper()
