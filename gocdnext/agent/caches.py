"""The caches of a job: restored before its tasks, stored after a success (protocol-agent 3.10).

A cache never fails a job, only its key can: what cannot be restored or stored is a line in the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from gocdnext.agent import markers
from gocdnext.agent.artifacts import tell_skipped
from gocdnext.agent.cache_keys import CacheKeyError, expand
from gocdnext.agent.calls import CallError, Calls
from gocdnext.agent.engines import TaskLog
from gocdnext.agent.failures import DeliveryError
from gocdnext.agent.joblog import STDERR
from gocdnext.agent.parcels import Parcels, in_thread
from gocdnext.proto.agent_pb2 import JobAssignment, RequestCacheGetResponse


@dataclass
class _Cache:
    key: str
    paths: Sequence[str]
    restored: str = ""
    """The hash of what was restored."""


class Caches:
    """Of one job: `expand`, then `fetch`, and `store` in the end."""

    def __init__(self, assignment: JobAssignment, parcels: Parcels, calls: Calls, log: TaskLog) -> None:
        self._assignment = assignment
        self._parcels = parcels
        self._calls = calls
        self._log = log
        self._caches: list[_Cache] = []

    async def expand(self) -> None:
        """Makes the keys that the server sees. CacheKeyError, which fails the job: it would share the wrong files."""
        for entry in self._assignment.caches:
            try:
                key = await in_thread(expand, entry.key, self._parcels.root)
            except CacheKeyError as error:
                raise CacheKeyError(f"cache key: {error}") from error
            self._caches.append(_Cache(key, list(entry.paths)))

    async def fetch(self) -> None:
        """Restores what there is."""
        for cache in self._caches:
            try:
                found = await self._find(cache.key)
                if found is None:
                    await self._log.line(f"cache {cache.key}: there is none yet")
                    continue
                unpacked = await self._parcels.fetch(found.get_url, found.content_sha256)
            except DeliveryError as error:
                await self._log.line(f"cache {cache.key} is not restored: {error}", STDERR)
                continue
            cache.restored = found.content_sha256.lower()
            await tell_skipped(self._log, unpacked.skipped)
            entries = markers.number(unpacked.entries, "entry", "entries")
            await self._log.line(f"cache {cache.key}: {entries}, {markers.size(unpacked.size)} restored")

    async def _find(self, key: str) -> RequestCacheGetResponse | None:
        assignment = self._assignment
        try:
            found = await self._calls.find_cache(assignment.run_id, assignment.job_id, key)
        except CallError as error:
            if error.status == "NOT_FOUND":
                return None
            raise
        return found if found.found else None

    async def store(self) -> None:
        """Stores all caches under their keys."""
        if not self._caches:
            return
        label = f"cache store ({markers.number(len(self._caches), 'entry', 'entries')})"
        began = trio.current_time()
        await self._log.line(markers.opened(label))
        failures = 0
        for cache in self._caches:
            try:
                await self._store(cache)
            except DeliveryError as error:
                failures += 1
                await self._log.line(f"cache {cache.key} is not stored: {error}", STDERR)
        seconds = trio.current_time() - began
        if failures:
            await self._log.line(markers.failed(label, seconds, f"{failures} of {len(self._caches)} not stored"))
        else:
            await self._log.line(markers.done(label, seconds))

    async def _store(self, cache: _Cache) -> None:
        assignment = self._assignment
        selections = []
        for path in cache.paths:
            selection = await self._parcels.select(path)
            selections.append(selection)
            if not selection.names:
                await self._log.line(f"cache {cache.key}: there is no {path}")
        parcel = await self._parcels.pack(selections)
        packed = parcel.packed
        await tell_skipped(self._log, packed.skipped)
        if packed.sha256 == cache.restored:
            await self._log.line(f"cache {cache.key}: unchanged")
        else:
            offer = await self._calls.offer_cache(assignment.run_id, assignment.job_id, cache.key)
            await self._parcels.send(parcel, offer.put_url)
            await self._calls.cache_ready(offer.cache_id, packed.size, packed.sha256)
            entries = markers.number(packed.entries, "entry", "entries")
            await self._log.line(f"cache {cache.key}: {entries}, {markers.size(packed.size)} stored")
        await self._parcels.discard(parcel)
