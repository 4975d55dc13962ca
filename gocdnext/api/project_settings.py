"""What is set for a whole project: notifications, labels; its caches (contract-admin 6.3, 6.4, 6.6).

A PUT replaces all there is; the same again changes nothing.
"""

from __future__ import annotations

import asyncpg
from quart import Blueprint, Response

from gocdnext.api import params, people
from gocdnext.api.context import services
from gocdnext.api.respond import answer, nothing, utc
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.api.wire import Label
from gocdnext.api.wire import project_settings as wire
from gocdnext.pipeline.model import Notification
from gocdnext.projects import caches, labels, notifications

blueprint = Blueprint("project_settings", __name__)
PROJECT = "/api/v1/projects/<slug>"
MAX_NOTIFICATIONS, MAX_LABELS = 128 * 1024, 16 * 1024
"""Bytes of a body."""


@route(blueprint, "GET", f"{PROJECT}/notifications", described=Description(gives=wire.Notifications))
async def show_notifications(slug: str) -> Response:
    """What pipelines inherit that declare no notifications of their own."""
    found = await notifications.notifications(services().db, slug)
    messages = [
        wire.Notification(on=entry.on, uses=entry.uses, with_=entry.with_, secrets=list(entry.secrets))
        for entry in found
    ]
    return answer(wire.Notifications(notifications=messages))


@route(
    blueprint,
    "PUT",
    f"{PROJECT}/notifications",
    Audited("project_notifications.set", "project", "{slug}"),
    described=Description(takes=wire.NotificationsBody, status=204),
)
async def set_notifications(slug: str) -> Response:
    """Replaces them; runs that are made from now on have them."""
    here = services()
    said = (await people.body(wire.NotificationsBody, MAX_NOTIFICATIONS)).notifications or []
    note(slug=slug, count=len(said))
    wanted = [
        Notification(on=entry.on, uses=entry.uses, with_=entry.with_ or {}, secrets=tuple(entry.secrets or ()))
        for entry in said
    ]
    await notifications.set_notifications(here.db, slug, wanted, here.catalogue, here.clock())
    return nothing()


@route(blueprint, "GET", f"{PROJECT}/labels", described=Description(gives=wire.Labels))
async def show_labels(slug: str) -> Response:
    """The labels of a project, by key and value."""
    found = await labels.labels(services().db, slug)
    return answer(wire.Labels(labels=[Label(key=key, value=value) for key, value in found]))


@route(
    blueprint,
    "PUT",
    f"{PROJECT}/labels",
    Audited("project_labels.set", "project", "{slug}"),
    described=Description(takes=wire.LabelsBody, status=204),
)
async def set_labels(slug: str) -> Response:
    """Replaces them."""
    said = (await people.body(wire.LabelsBody, MAX_LABELS)).labels or []
    note(slug=slug, count=len(said))
    kept = await labels.set_labels(services().db, slug, ((label.key, label.value) for label in said))
    note(count=kept)
    return nothing()


@route(blueprint, "GET", f"{PROJECT}/caches", described=Description(asks=people.Paged, gives=wire.Caches))
async def list_caches(slug: str) -> Response:
    """The caches of a project, the one used last first."""
    found = await caches.caches(services().db, slug, *people.page())
    return answer(wire.Caches(caches=[_cache(row) for row in found.rows], total_bytes=found.total_bytes))


@route(
    blueprint,
    "DELETE",
    f"{PROJECT}/caches/<cache_id>",
    Audited("cache.purge", "cache", "{cache_id}"),
    described=Description(status=204),
)
async def purge_cache(slug: str, cache_id: str) -> Response:
    """Removes a cache: the next job that asks for its key has to begin anew."""
    here = services()
    note(slug=slug)
    key, size = await caches.purge(here.db, here.blobs.store, slug, params.uuid(cache_id))
    note(key=key, bytes=size)
    return nothing()


def _cache(row: asyncpg.Record) -> wire.Cache:
    return wire.Cache(
        id=str(row["id"]),
        key=row["key"],
        size_bytes=row["size_bytes"],
        status=row["status"],
        created_at=utc(row["created_at"]),
        updated_at=utc(row["updated_at"]),
        last_accessed_at=utc(row["last_accessed_at"]),
        content_sha256=row["content_sha256"] or "",
    )
