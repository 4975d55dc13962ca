"""Archives on their way between a job's directory and the store: packed and sent, fetched and unpacked.

It decides nothing about what is moved, when, and what a failure means. Each archive passes through a file beside the
job's directory: memory stays flat, and nothing is unpacked before its hash was seen to be right.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import trio

from gocdnext.agent import archive
from gocdnext.agent.archive import ArchiveError, Packed, Unpacked
from gocdnext.agent.found import Selection, select

if TYPE_CHECKING:
    from gocdnext.agent.transfer import Transfers

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Parcel:
    """An archive in a file of its own."""

    file: str
    packed: Packed


class Parcels:
    """For one job; a context manager. `root` is where its tasks run, `beside` the beginning of the names of files that
    go with the job's directory. Everything here raises DeliveryError and, cancelled, stops within moments."""

    def __init__(self, root: str, beside: str) -> None:
        self.root = root
        self._beside = beside
        self._count = 0
        self._transfers: Transfers | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._transfers is not None:
            await self._transfers.__aexit__(kind, error, at)

    async def select(self, path: str) -> Selection:
        """What a declared path means."""
        return await in_thread(select, self.root, path)

    async def pack(self, selections: Sequence[Selection]) -> Parcel:
        """An archive of the selections. It is to be discarded."""
        file = self._new_file()
        return Parcel(file, await in_thread(archive.pack, self.root, selections, file))

    async def send(self, parcel: Parcel, url: str) -> None:
        """Puts the archive where the server wants it."""
        await self._http().put(url, parcel.file, parcel.packed.size)

    async def discard(self, parcel: Parcel) -> None:
        """Its file is not needed any more. (After a cancel it goes with the job's directory.)"""
        await trio.to_thread.run_sync(_remove, parcel.file)

    async def fetch(self, url: str, sha256: str, dest: str = "") -> Unpacked:
        """Gets an archive and unpacks it into the clean relative path `dest`. An empty hash is not compared."""
        file = self._new_file()
        arrived = await self._http().get(url, file, archive.LIMITS.packed)
        if sha256 and sha256.lower() != arrived.sha256:
            raise ArchiveError(f"what arrived is not what was stored: its SHA-256 is {arrived.sha256}, not {sha256}")
        unpacked = await in_thread(_unpack, file, self.root, dest)
        await trio.to_thread.run_sync(_remove, file)
        return unpacked

    def _new_file(self) -> str:
        self._count += 1
        return f"{self._beside}.archive-{self._count}"

    def _http(self) -> Transfers:
        if self._transfers is None:
            from gocdnext.agent.transfer import Transfers

            self._transfers = Transfers()
        return self._transfers


async def in_thread(work: Callable[..., _Result], *args: Any) -> _Result:
    """Runs work that takes a Check as its last argument in a thread; a cancel ends it at its next check."""
    return await trio.to_thread.run_sync(partial(work, *args, trio.from_thread.check_cancelled))


def _unpack(file: str, root: str, dest: str, check: Callable[[], None]) -> Unpacked:
    with open(file, "rb", 0) as content:
        return archive.unpack(content, root, dest, check)


def _remove(file: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(file)
