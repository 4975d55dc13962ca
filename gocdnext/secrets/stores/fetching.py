"""Values of secrets are fetched from other stores beside the scheduler: a store that is slow or away holds up only the jobs
that need it.

What was fetched is kept for a while in memory, under a fingerprint of the store's configuration; fetches of the same value
at the same time are one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog
import trio

from gocdnext.db.pool import DatabaseUnavailableError
from gocdnext.runs.assignment import Reference
from gocdnext.secrets.stores.configured import LISTED, Open, Stores
from gocdnext.secrets.stores.errors import UNREACHABLE, StoreError

_log = structlog.get_logger("secrets")
MAX_CACHED = 4096
AT_ONCE = 16
"""Fetches at the same time."""
MAX_WAITING = 10_000
"""Runs whose fetches may be under way; above that the scheduler's tick asks again."""
HANDED_OVER = 60.0
"""Seconds that what was fetched for a run waits for its dispatch, beyond the cache."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A value, or why there is none."""

    value: str | None = field(default=None, repr=False)
    why: str = ""


_Key = tuple[str, Reference]


@dataclass(slots=True)
class _Flight:
    """A fetch that is under way, for everybody who wants its value."""

    landed: trio.Event = field(default_factory=trio.Event)
    result: Fetched = Fetched(why="the fetch was broken off")


class Fetching:
    """Owns every fetch; `run` is its nursery. `wake` is told of runs whose values are there."""

    def __init__(self, stores: Stores, wake: Callable[[UUID], None], *, ttl: float) -> None:
        """`ttl`: seconds that a value is kept; 0 for not at all."""
        self._stores = stores
        self._wake = wake
        self._ttl = ttl
        self._cache: OrderedDict[_Key, tuple[float, Fetched]] = OrderedDict()
        self._for_run: OrderedDict[UUID, tuple[float, dict[Reference, Fetched]]] = OrderedDict()
        self._under_way: dict[_Key, _Flight] = {}
        self._waiting: set[UUID] = set()
        self._limit = trio.CapacityLimiter(AT_ONCE)
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def sources(self) -> list[str]:
        """The stores in use. Raises DatabaseUnavailableError."""
        used = await self._stores.open()
        return [source for source in LISTED if source in used]

    async def at_hand(self, run_id: UUID, references: Sequence[Reference]) -> dict[Reference, Fetched]:
        """What is known of these now, without any fetch. Raises DatabaseUnavailableError."""
        stores = await self._stores.open()
        handed = self._for_run.pop(run_id, (0.0, {}))[1] if run_id not in self._waiting else {}
        found = {}
        for reference in references:
            one = stores.get(reference.source)
            if one is None:
                found[reference] = Fetched(why=not_enabled(reference.source))
            elif reference in handed:
                found[reference] = handed[reference]
            elif (cached := self._cached((one.fingerprint, reference))) is not None:
                found[reference] = cached
        return found

    def begin(self, run_id: UUID, references: Sequence[Reference]) -> None:
        """Fetches these for a run, which is woken when all of them have come or failed."""
        if self._nursery is None or run_id in self._waiting or len(self._waiting) >= MAX_WAITING:
            return
        self._waiting.add(run_id)
        self._nursery.start_soon(self._all, run_id, tuple(references))

    # ---- inside ------------------------------------------------------------------------------------

    async def _all(self, run_id: UUID, references: Sequence[Reference]) -> None:
        found: dict[Reference, Fetched] = {}

        async def one(reference: Reference, stores: Mapping[str, Open]) -> None:
            found[reference] = await self._one(reference, stores)

        try:
            stores = await self._stores.open()
            async with trio.open_nursery() as nursery:
                for reference in references:
                    nursery.start_soon(one, reference, stores)
        except* DatabaseUnavailableError as error:
            _log.warning("secrets wait for the database", run_id=str(run_id), error=str(error.exceptions[0]))
        finally:
            self._waiting.discard(run_id)
        now = trio.current_time()
        while self._for_run and (len(self._for_run) > MAX_WAITING or next(iter(self._for_run.values()))[0] < now):
            self._for_run.popitem(last=False)
        if found:
            self._for_run[run_id] = (now + HANDED_OVER, found)
            self._wake(run_id)

    async def _one(self, reference: Reference, stores: Mapping[str, Open]) -> Fetched:
        one = stores.get(reference.source)
        if one is None:
            return Fetched(why=not_enabled(reference.source))
        key = (one.fingerprint, reference)
        if (cached := self._cached(key)) is not None:
            return cached
        if (flight := self._under_way.get(key)) is not None:
            await flight.landed.wait()
            return flight.result
        flight = self._under_way[key] = _Flight()
        try:
            async with self._limit:
                flight.result = await _read(one, reference)
            self._keep(key, flight.result)
            return flight.result
        finally:
            del self._under_way[key]
            flight.landed.set()

    def _cached(self, key: _Key) -> Fetched | None:
        until, result = self._cache.get(key, (0.0, None))
        return result if trio.current_time() < until else None

    def _keep(self, key: _Key, result: Fetched) -> None:
        if not self._ttl or result.value is None:
            return
        self._cache[key] = (trio.current_time() + self._ttl, result)
        self._cache.move_to_end(key)
        while len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)


async def _read(one: Open, reference: Reference) -> Fetched:
    try:
        return Fetched(await one.store.read(reference.path, reference.key))
    except StoreError as error:
        again = "; run the job again when it is back" if error.kind == UNREACHABLE else ""
        return Fetched(why=f"{error}{again}")


def not_enabled(source: str) -> str:
    """What a job is told whose secret is in a store that is not in use."""
    return f"the secret source {source} is not enabled on this server"
