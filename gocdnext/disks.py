"""Room on the server's disks: what stops first when it gets scarce, so that the database never has none (contract-admin 11).

Three marks, in the order in which they are reached. Uploads stop at the first: the store refuses each that would leave less
(`blobs.filesystem`). No job is started at the second. At half of that, lines of running jobs are left with their agents,
where the embedded database is on that disk. Everything goes on by itself when there is room again. Here it is measured and
decided; nothing is refused here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, Literal

import structlog
import trio

EVERY = 1.0
"""Seconds between two looks: little is written in that time against what the marks leave."""
PATIENCE = 5.0
"""Seconds that a look may take: the disk may be a network's that is away. What was seen last counts then."""
AGAIN = 5 / 4
"""Jobs start again when so much more than the mark is free: one that ends must not let another in at once."""
MIB = 2**20
Word = Literal["ok", "no_uploads", "no_jobs", "no_lines"]

_log = structlog.get_logger("disks")


class Level(IntEnum):
    """What is left out for want of room; each includes those before it."""

    OK = 0
    NO_UPLOADS = 1
    NO_JOBS = 2
    NO_LINES = 3

    @property
    def word(self) -> Word:
        """For programs."""
        return _WORDS[self]


_WORDS: Final[tuple[Word, ...]] = ("ok", "no_uploads", "no_jobs", "no_lines")


@dataclass(frozen=True, slots=True)
class Place:
    """A directory whose disk is watched, and what is there. One with neither mark is only measured."""

    name: Literal["state", "artifacts"]
    path: Path
    uploads: int = 0
    """Bytes that uploads leave free; 0 = this is nobody's mark."""
    jobs: int = 0
    """Bytes below which no job is started."""
    database: bool = False
    """Whether the embedded database is here."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was seen of a place."""

    place: Place
    free: int
    """Bytes that are free for this user."""
    total: int
    level: Level

    @property
    def sentence(self) -> str:
        """What it means, for whoever looks after the server; empty when there is room."""
        if self.level is Level.OK:
            return ""
        place = self.place
        names = {
            Level.NO_UPLOADS: f"uploads are refused below {place.uploads // MIB} MiB (GOCDNEXT_ARTIFACTS_MIN_FREE_MB)",
            Level.NO_JOBS: f"no job is started below {place.jobs // MIB} MiB (GOCDNEXT_DISK_MIN_FREE_MB)",
            Level.NO_LINES: f"log lines wait with their agents below {place.jobs // 2 // MIB} MiB, and no job is started",
        }
        return f"{self.free // MIB} MiB are free on the disk of {place.path}: {names[self.level]}. Make room there."


class Disks:
    """The disks of this process. `freed` is called when jobs may start again."""

    def __init__(self, places: Sequence[Place], freed: Callable[[], None] = lambda: None) -> None:
        self._places = tuple(places)
        self._freed = freed
        # A thread that hangs in a dead disk keeps its place: there will not be many of them.
        self._threads = trio.CapacityLimiter(2)
        self.readings: tuple[Reading, ...] = ()

    @property
    def worst(self) -> Reading | None:
        """The reading that says what is left out; None before the first."""
        return max(self.readings, key=lambda reading: reading.level, default=None)

    @property
    def level(self) -> Level:
        """What is left out now."""
        return Level.OK if self.worst is None else self.worst.level

    def holds_jobs(self) -> str:
        """Why no job is started, for whoever waits for one; empty when they are. Names no path and no figure that moves."""
        worst = self.worst
        if worst is None or worst.level < Level.NO_JOBS:
            return ""
        return (
            f"the server's disk is nearly full (less than {worst.place.jobs // MIB} MiB are free): nothing is started until "
            "an administrator makes room"
        )

    def holds_lines(self) -> bool:
        """Whether log lines are not to be stored now."""
        return self.level is Level.NO_LINES

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Looks until cancelled; started when it has looked once."""
        await self.look()
        task_status.started()
        while True:
            await trio.sleep(EVERY)
            await self.look()

    async def look(self) -> None:
        """Measures once, and tells what has changed."""
        before = self.level
        with trio.move_on_after(PATIENCE):
            self.readings = await trio.to_thread.run_sync(self._measure, abandon_on_cancel=True, limiter=self._threads)
        if self.level is before:
            return
        worst = self.worst
        assert worst is not None
        if self.level > before:
            _log.error("a disk gets full", level=self.level.word, text=worst.sentence)
        else:
            _log.warning("a disk has room again", level=self.level.word, text=worst.sentence, free=worst.free)
        if before >= Level.NO_JOBS > self.level:
            self._freed()

    def _measure(self) -> tuple[Reading, ...]:
        known = {reading.place: reading for reading in self.readings}
        found = []
        for place in self._places:
            try:
                status = os.statvfs(place.path)
            except OSError:
                # Whoever writes there will find out what is wrong.
                found += [known[place]] if place in known else []
                continue
            free, total = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
            held = place in known and known[place].level >= Level.NO_JOBS
            found.append(Reading(place, free, total, level_of(place, free, held=held)))
        return tuple(found)


def level_of(place: Place, free: int, *, held: bool) -> Level:
    """What so many free bytes leave out; `held` when jobs are held already."""
    if place.database and free < place.jobs // 2:
        return Level.NO_LINES
    if free < place.jobs * (AGAIN if held else 1):
        return Level.NO_JOBS
    return Level.NO_UPLOADS if free < place.uploads else Level.OK
