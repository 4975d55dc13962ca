"""`/api/v1/admin/retention`: what sweepers have done and will do; `log-archive` of projects (contract-admin 6.1, 7.4)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Literal, cast

import msgspec
from msgspec import Meta
from quart import Blueprint, Response

from gocdnext import retention
from gocdnext.api import params, query
from gocdnext.api.context import services
from gocdnext.api.params import INT64
from gocdnext.api.query import Whole
from gocdnext.api.respond import answer, utc, utc_or_none
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.api.wire.retention import LogArchive, LogArchiveBody, PlanGroup, Retention, RetentionPlan, SweeperReport
from gocdnext.blobs import sweeping
from gocdnext.config import Quotas, Settings
from gocdnext.errors import TooLargeError
from gocdnext.projects import log_archive
from gocdnext.retention import Group, Rules
from gocdnext.sweeps import CHANGED

blueprint = Blueprint("retention", __name__)

NANOSECONDS = 10**9
TICK = 600 * NANOSECONDS
SMALL = 1024
"""Bytes of a body that sets whether logs are archived."""
_INSTEAD = "Instead of what the server is set to."
Limit = Annotated[int, Meta(ge=0, le=INT64, description=_INSTEAD, extra={"whole": Whole(INT64)})] | None
STATS = (
    "DemotedKeepLast", "DemotedProjectCap", "DemotedGlobalCap", "Claimed", "Deleted", "StorageFailures", "DBFailures",
    "BytesFreed", "LogPartitionsCreated", "LogPartitionsDropped", "ArchivesReSubmitted", "ArchiveOrphansDeleted",
    "CachesDeleted", "CachesDeletedByQuota", "CachesDeletedByGlobalQuota", "CacheStorageFailures", "CacheDBFailures",
    "CacheBytesFreed",
)  # fmt: skip
"""The names that clients know."""


class PlanQuery(msgspec.Struct):
    """Other limits to try before they are set."""

    keep_last: Limit = None
    keep_newest: Limit = None
    project_quota_bytes: Limit = None
    global_quota_bytes: Limit = None

    def tried_on(self, quotas: Quotas) -> Quotas:
        """The quotas with what was said."""
        said = {
            "keep_last": self.keep_last,
            "keep_newest": self.keep_newest,
            "project": self.project_quota_bytes,
            "everything": self.global_quota_bytes,
        }
        return replace(quotas, **{name: value for name, value in said.items() if value is not None})


@route(blueprint, "GET", "/api/v1/admin/retention", described=Description(gives=Retention))
async def show_retention() -> Response:
    """What is kept for how long, and what sweepers have done since this process began."""
    return answer(_retention())


@route(
    blueprint,
    "GET",
    "/api/v1/admin/retention/plan",
    described=Description(asks=PlanQuery, gives=RetentionPlan, fails=frozenset({409})),
)
async def show_plan() -> Response:
    """What the next passes of the sweepers would remove now, for each kind and reason, and what stays all the same."""
    here, now = services(), services().clock()
    rules = _rules(here.settings, query.asked(PlanQuery))
    made = await retention.plan(here.db, rules, now)
    return answer(
        RetentionPlan(
            computed_at=utc(now),
            complete=made.complete,
            count=sum(group.count for group in made.goes),
            bytes=sum(group.bytes for group in made.goes),
            goes=[_group(group) for group in made.goes],
            stays=[_group(group) for group in made.stays],
        )
    )


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


def _rules(settings: Settings, tried: PlanQuery) -> Rules:
    return Rules(
        tried.tried_on(settings.quotas),
        timedelta(days=settings.cache_days) if settings.cache_days else None,
        timedelta(seconds=settings.log_retention) if settings.log_retention else None,
    )


def _group(group: Group) -> PlanGroup:
    return PlanGroup(
        kind=group.kind,
        reason=group.reason,
        why=group.why,
        count=group.count,
        bytes=group.bytes,
        oldest=utc_or_none(group.oldest),
    )


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
        keep_newest=settings.quotas.keep_newest,
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
