"""What the sweepers would remove now, before they do: for people who want to know first (contract-admin 11.1).

Nothing is computed here that the sweepers do not do: their own statements are run in one transaction, which is taken back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

import asyncpg

from gocdnext.blobs import quotas as limits
from gocdnext.blobs import sweeping
from gocdnext.config import Quotas
from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import ConflictError
from gocdnext.materials.webhooks import deliveries

Kind = Literal["artifacts", "uploads", "caches", "blobs", "log_lines", "deliveries"]
MOST = 100_000
"""Things of a kind that are looked at. When there are more, the plan says that it is not complete."""
LOCK_TIMEOUT = "5s"
"""How long a row is waited for that somebody else changes."""

BUSY = "a server is sweeping at this moment: ask again in a minute"

_SQL, _BLOBS, _LOGS = queries.load("retention"), queries.load("blobs"), queries.load("logs")

WHY: Final = {
    "expired": "the time that their job said is over, or the 30 days of all others (artifacts: expire_in)",
    "keep_last": "more than {keep_last} newer runs of the pipeline are there (GOCDNEXT_ARTIFACTS_KEEP_LAST)",
    "project_quota": "their project has more than {project} bytes (GOCDNEXT_ARTIFACTS_PROJECT_QUOTA_BYTES)",
    "global_quota": "all projects together have more than {everything} bytes (GOCDNEXT_ARTIFACTS_GLOBAL_QUOTA_BYTES)",
    "given_up": "their upload was never completed",
    "unused": "no job has read them for {cache_days} days (GOCDNEXT_CACHE_TTL_DAYS)",
    "CachesDeletedByQuota": "their project has more than {project_caches} bytes (GOCDNEXT_CACHE_PROJECT_QUOTA_BYTES)",
    "CachesDeletedByGlobalQuota": (
        "all projects together have more than {all_caches} bytes (GOCDNEXT_CACHE_GLOBAL_QUOTA_BYTES)"
    ),
    "log_retention": "their last line is older than {log_days} days (GOCDNEXT_LOG_RETENTION)",
    "old_deliveries": "they are older than {delivery_days} days",
    "strangers": "they were refused, and there are more than {strangers} such",
    "removed": "their row has gone already; the bytes follow {grace} minutes later",
    "pinned": "they are pinned",
    "open_run": "a run that is open may fetch them",
    "newest_runs": (
        "their job said no time, and they belong to the newest {keep_newest} runs of a pipeline, or to runs that started "
        "those (GOCDNEXT_ARTIFACTS_KEEP_NEWEST)"
    ),
}
"""Each reason in words. Names are those of `Rules`."""
_CODES: Final = {"CachesDeletedByQuota": "project_quota", "CachesDeletedByGlobalQuota": "global_quota"}


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides: the settings of the server."""

    quotas: Quotas
    cache_life: timedelta | None
    log_retention: timedelta | None

    def words(self, reason: str) -> str:
        """A reason in words."""
        quotas = self.quotas
        return WHY[reason].format(
            keep_last=quotas.keep_last,
            keep_newest=quotas.keep_newest,
            project=quotas.project,
            everything=quotas.everything,
            project_caches=quotas.project_caches,
            all_caches=quotas.all_caches,
            cache_days=self.cache_life.days if self.cache_life else 0,
            log_days=self.log_retention.days if self.log_retention else 0,
            delivery_days=deliveries.KEPT_FOR.days,
            strangers=deliveries.KEPT_OF_STRANGERS,
            grace=int(sweeping.GRACE.total_seconds() // 60),
        )


@dataclass(slots=True)
class Group:
    """Things of one kind that go, or stay, for one reason."""

    kind: Kind
    reason: str
    why: str
    count: int = 0
    bytes: int = 0
    """0 where nobody knows."""
    oldest: datetime | None = None

    def add(self, count: int, size: int, since: datetime | None) -> None:
        """So many more; `since` is the oldest of them."""
        self.count += count
        self.bytes += size
        if since is not None:
            self.oldest = since if self.oldest is None else min(self.oldest, since)


@dataclass(slots=True)
class Plan:
    """What goes with the next passes, and what stays although a rule would take it."""

    goes: list[Group] = field(default_factory=list)
    stays: list[Group] = field(default_factory=list)
    complete: bool = True
    """Whether everything was looked at."""


async def plan(db: Database, rules: Rules, now: datetime) -> Plan:
    """The plan at this moment. Raises ConflictError while a server sweeps, DatabaseUnavailableError."""

    async def work(conn: Connection) -> Plan:
        transaction = conn.transaction()
        await transaction.start()
        try:
            return await _rehearse(conn, rules, now)
        except asyncpg.LockNotAvailableError as error:
            raise ConflictError(BUSY) from error
        finally:
            await transaction.rollback()

    return await db.run(work)


async def _rehearse(conn: Connection, rules: Rules, now: datetime) -> Plan:
    """The sweepers' statements in their order. Their locks are those of a sweep: a sweeper waits for its next turn."""
    await conn.execute(_SQL.limit_waiting, LOCK_TIMEOUT)
    if not await conn.fetchval(_BLOBS.try_sweep_lock):
        raise ConflictError(BUSY)
    made = Plan()
    await _blobs(conn, rules, now, made)
    await _database(conn, rules, now, made)
    return made


async def _blobs(conn: Connection, rules: Rules, now: datetime, made: Plan) -> None:
    # First: what the rehearsal itself buries is counted as artifacts and caches.
    _goes(made, rules, "blobs", "removed", await conn.fetch(_BLOBS.dead_blobs, now, MOST), sized=False)
    beyond = await limits.enforce(conn, rules.quotas, now)
    dropped = await sweeping.drop_rows(conn, rules.cache_life, now, keep_newest=rules.quotas.keep_newest, batch=MOST)
    by_reason: defaultdict[str, list[asyncpg.Record]] = defaultdict(list)
    for row in dropped.artifacts:
        by_reason[row["reason"]].append(row)
    for reason, rows in sorted(by_reason.items()):
        _goes(made, rules, "artifacts", reason, rows)
    _goes(made, rules, "uploads", "given_up", dropped.uploads)
    _goes(made, rules, "caches", "unused", dropped.caches)
    for reason, rows in beyond.caches.items():
        _goes(made, rules, "caches", reason, rows)
    for row in await conn.fetch(_BLOBS.kept_beyond, now):
        reason = row["reason"]
        made.stays.append(Group("artifacts", reason, rules.words(reason), row["count"], row["bytes"], row["oldest"]))


async def _database(conn: Connection, rules: Rules, now: datetime, made: Plan) -> None:
    if rules.log_retention is not None:
        ended = await conn.fetch(_LOGS.ended_partitions, now - rules.log_retention)
        _goes(made, rules, "log_lines", "log_retention", ended, counts=[row["lines"] for row in ended])
    for reason, row in await deliveries.forget_on(conn, now):
        group = Group("deliveries", reason, rules.words(reason), row["gone"], row["size_bytes"], row["since"])
        if group.count:
            made.goes.append(group)


def _goes(
    made: Plan,
    rules: Rules,
    kind: Kind,
    reason: str,
    rows: Sequence[asyncpg.Record],
    *,
    sized: bool = True,
    counts: Iterable[int] | None = None,
) -> None:
    """One more group, unless it is empty."""
    if not rows:
        return
    group = Group(kind, _CODES.get(reason, reason), rules.words(reason))
    for row, count in zip(rows, counts or [1] * len(rows), strict=True):
        group.add(count, (row["size_bytes"] or 0) if sized else 0, row["since"])
    made.goes.append(group)
    made.complete = made.complete and len(rows) < MOST
