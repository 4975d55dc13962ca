"""What a place for blobs has to be able to do, and what can go wrong with one. No I/O here.

A blob is written once, whole or not at all, under a key that the server made. Memory stays flat whatever its size.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gocdnext.errors import UnavailableError

Piece = bytes | bytearray
MAX_KEY = 512
_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")


class StoreTroubleError(UnavailableError, OSError):
    """A store that is reached over the network does not do what it was asked for; the message says why and what helps.

    An OSError, as every trouble of a store; to a caller of the API it is a 503, so that agents try again.
    """


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob that was written: its length in bytes and its sha256 in hex, as seen on the way in."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A blob that is there, and since when."""

    key: str
    modified: datetime


class Blob(Protocol):
    """A blob that is open for reading; it stays readable when it is deleted meanwhile."""

    @property
    def size(self) -> int:
        """Its length in bytes."""

    def pieces(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to `stop`, in large pieces."""


class BlobStore(Protocol):
    """Trio functions; each may raise OSError, and ValueError for what is no key (`check_key`)."""

    direct: bool
    """Whether agents write to it by themselves, so that the server has not seen what came in."""

    async def put(self, key: str, pieces: AsyncIterable[Piece], *, expected: int = 0, limit: int = 0) -> Stored:
        """Writes a blob, in place of one that is there. Durable when it returns, and nothing is left of one that broke off.

        `expected` is the announced length in bytes, 0 if there is none; `limit` the most that is taken, 0 for any.
        Raises TooLargeError, NoRoomError.
        """

    def open(self, key: str) -> AbstractAsyncContextManager[Blob | None]:
        """The blob for reading, or None when there is none."""

    async def sizes(self, keys: Sequence[str]) -> Mapping[str, int]:
        """The lengths in bytes of those that are there."""

    async def delete(self, keys: Sequence[str]) -> list[str]:
        """Removes blobs; the keys that are gone now, those that were never there among them."""

    def pages(self, prefix: str) -> AsyncIterator[list[Listed]]:
        """All blobs whose keys begin with the segments `prefix`, a page at a time, in no order."""

    async def clean(self, older_than: datetime) -> int:
        """Removes what broken uploads have left behind since before then; how many there were."""


def check_key(key: str) -> str:
    """The key, if it is one: segments of letters, digits, `.`, `_` and `-`, none of which begins with a dot.

    So no key leads out of the store, and none meets a store's own files. Raises ValueError.
    """
    if len(key) > MAX_KEY or _KEY.fullmatch(key) is None:
        raise ValueError(f"not a storage key: {key[:64]!r}")
    return key


def is_key(text: str) -> bool:
    """Whether a text that came from outside could be a key."""
    return len(text) <= MAX_KEY and _KEY.fullmatch(text) is not None
