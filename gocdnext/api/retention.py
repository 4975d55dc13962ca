"""`/api/v1/admin/retention`: what sweepers have done, and doing it now; `log-archive` of projects (contract-admin 6.1, 7.4)."""

from __future__ import annotations

from collections import Counter
from typing import Literal, cast

from quart import Blueprint, Response

from gocdnext.api import params
from gocdnext.api.context import services
from gocdnext.api.respond import answer, utc_or_none
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.api.wire.retention import LogArchive, LogArchiveBody, Retention, SweeperReport
from gocdnext.blobs import sweeping
from gocdnext.errors import TooLargeError
from gocdnext.projects import log_archive
from gocdnext.sweeps import CHANGED

blueprint = Blueprint("retention", __name__)

NANOSECONDS = 10**9
TICK = 600 * NANOSECONDS
SMALL = 1024
"""Bytes of a body that sets whether logs are archived."""
STATS = (
    "DemotedKeepLast", "DemotedProjectCap", "DemotedGlobalCap", "Claimed", "Deleted", "StorageFailures", "DBFailures",
    "BytesFreed", "LogPartitionsCreated", "LogPartitionsDropped", "ArchivesReSubmitted", "ArchiveOrphansDeleted",
    "CachesDeleted", "CachesDeletedByQuota", "CachesDeletedByGlobalQuota", "CacheStorageFailures", "CacheDBFailures",
    "CacheBytesFreed",
)  # fmt: skip
"""The names that clients know."""


@route(blueprint, "GET", "/api/v1/admin/retention", described=Description(gives=Retention))
async def show_retention() -> Response:
    """What is kept for how long, and what sweepers have done since this process began."""
    return answer(_retention())


@route(
    blueprint,
    "POST",
    "/api/v1/admin/retention/run",
    Audited("retention.run", "server"),
    Description(gives=Retention),
)
async def sweep_now() -> Response:
    """One pass of every sweeper of this process, now; the answer is what they have done."""
    await services().board.all_once()
    return answer(_retention())


@route(
    blueprint,
    "GET",
    "/api/v1/projects/<slug>/log-archive",
    described=Description(gives=LogArchive, fails=frozenset({404})),
)
async def show_log_archive(slug: str) -> Response:
    """Whether the logs of a project are archived."""
    return answer(_log_archive(await log_archive.of_project(services().db, slug)))


@route(
    blueprint,
    "PUT",
    "/api/v1/projects/<slug>/log-archive",
    Audited("project_log_archive.set", "project", "{slug}"),
    Description(takes=LogArchiveBody, gives=LogArchive, fails=frozenset({404, 413})),
)
async def set_log_archive(slug: str) -> Response:
    """Sets whether the logs of a project are archived; null: as the server does."""
    here = services()
    data = await params.body()
    if len(data) > SMALL:
        raise TooLargeError(f"body is larger than {SMALL} bytes")
    wanted = params.json_object(data, LogArchiveBody)
    await log_archive.set_of_project(here.db, slug, wanted.enabled, here.clock())
    note(slug=slug, enabled=wanted.enabled)
    return answer(_log_archive(wanted.enabled))


def _log_archive(enabled: bool | None) -> LogArchive:
    policy = cast('Literal["auto", "on", "off"]', services().settings.log_archive)
    return LogArchive(enabled=enabled, global_policy=policy, has_artifact_backend=True)


def _retention() -> Retention:
    here = services()
    settings, reports = here.settings, here.board.reports
    last, totals = Counter(dict.fromkeys(STATS, 0)), Counter(dict.fromkeys(STATS, 0))
    for report in reports.values():
        last.update({name: count for name, count in report.last.items() if name != CHANGED})
        totals.update({name: count for name, count in report.totals.items() if name != CHANGED})
    blobs = reports.get("blobs")
    totals["sweeps"] = 0 if blobs is None else blobs.passes
    return Retention(
        enabled=True,
        tick=TICK,
        batch_size=sweeping.BATCH,
        grace_minutes=int(sweeping.GRACE.total_seconds() // 60),
        keep_last=settings.quotas.keep_last,
        project_quota_bytes=settings.quotas.project,
        global_quota_bytes=settings.quotas.everything,
        cache_ttl=settings.cache_days * 86_400 * NANOSECONDS,
        cache_project_quota_bytes=settings.quotas.project_caches,
        cache_global_quota_bytes=settings.quotas.all_caches,
        log_retention=(settings.log_retention or 0) * NANOSECONDS,
        log_archive=settings.log_archive,
        last_sweep_at=None if blobs is None else utc_or_none(blobs.last_at),
        last_stats=dict(last),
        totals=dict(totals),
        sweepers=[
            SweeperReport(
                name=name,
                last_at=utc_or_none(report.last_at),
                last_error=report.last_error,
                last_stats=dict(report.last),
                totals=dict(report.totals),
                passes=report.passes,
                failures=report.failures,
            )
            for name, report in sorted(reports.items())
        ],
    )
