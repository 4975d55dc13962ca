"""`/api/v1/projects/{slug}/secrets` and `/api/v1/admin/secrets`: names, never values (contract-admin 5.3 to 5.6)."""

from __future__ import annotations

from typing import Annotated

import asyncpg
import msgspec
from msgspec import Meta
from quart import Blueprint, Response

from gocdnext.api import params, query, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer, nothing, utc
from gocdnext.api.routing import Answer, Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.errors import TooLargeError
from gocdnext.secrets.store import DB, NewSecret

blueprint = Blueprint("secrets", __name__)

MAX_BODY = 64 * 1024
"""Bytes of a request that sets a secret: the cap of its value (5.4)."""


class SecretQuery(msgspec.Struct):
    """Lenient on purpose: what is no number, or out of bounds, is the default (5.3)."""

    limit: Annotated[int, Meta(ge=1, le=200, extra={"whole": query.Whole(lenient=True)})] = 50
    offset: Annotated[int, Meta(ge=0, le=params.INT32, extra={"whole": query.Whole(lenient=True)})] = 0


@route(blueprint, "GET", "/api/v1/projects/<slug>/secrets", described=Description(asks=SecretQuery, gives=wire.Secrets))
async def list_secrets(slug: str) -> Response:
    """The names of a project's secrets, and of the global ones it inherits."""
    return await _list(slug)


@route(
    blueprint,
    "POST",
    "/api/v1/projects/<slug>/secrets",
    Audited("secret.set", "project_secret", "{slug}"),
    described=Description(
        takes=wire.SecretBody, gives=wire.SecretSet, also=(Answer(gives=wire.SecretSet, status=201),)
    ),
)
async def set_secret(slug: str) -> Response:
    """Keeps a value under a name, in place of what was there."""
    return await _set(slug)


@route(
    blueprint,
    "DELETE",
    "/api/v1/projects/<slug>/secrets/<name>",
    Audited("secret.delete", "project_secret", "{slug}/{name}"),
    described=Description(status=204),
)
async def delete_secret(slug: str, name: str) -> Response:
    """Removes a secret of a project."""
    return await _delete(slug, name)


@route(blueprint, "GET", "/api/v1/admin/secrets", described=Description(asks=SecretQuery, gives=wire.Secrets))
async def list_global_secrets() -> Response:
    """The names of the global secrets."""
    return await _list(None)


@route(
    blueprint,
    "POST",
    "/api/v1/admin/secrets",
    Audited("global_secret.set", "global_secret"),
    described=Description(
        takes=wire.SecretBody, gives=wire.SecretSet, also=(Answer(gives=wire.SecretSet, status=201),)
    ),
)
async def set_global_secret() -> Response:
    """Keeps a value for every project that has none of that name."""
    return await _set(None)


@route(
    blueprint,
    "DELETE",
    "/api/v1/admin/secrets/<name>",
    Audited("global_secret.delete", "global_secret", "{name}"),
    described=Description(status=204),
)
async def delete_global_secret(name: str) -> Response:
    """Removes a global secret."""
    return await _delete(None, name)


async def _list(slug: str | None) -> Response:
    asked = query.asked(SecretQuery)
    page = await services().secrets.page(slug, asked.limit, asked.offset)
    message = wire.Secrets(
        secrets=[_secret(row) for row in page.secrets],
        total=page.total,
        limit=asked.limit,
        offset=asked.offset,
        configured_sources=await services().secrets.sources(),
        inherited=[_secret(row) for row in page.inherited],
    )
    return answer(message)


async def _set(slug: str | None) -> Response:
    data = await params.body_within(MAX_BODY)
    if data is None:
        raise TooLargeError("secret value too large — cap is 64 KiB")
    body = params.json_object(data, wire.SecretBody)
    reference = body.ref or wire.SecretRef()
    new = NewSecret(
        name=body.name.strip(),
        value=body.value or "",
        source=(body.source or DB).strip(),
        ref_path=(reference.path or "").strip(),
        ref_key=(reference.key or "").strip(),
    )
    _note(slug, new.name, source=new.source)
    created = await services().secrets.set(slug, new)
    note(created=created)
    return answer(wire.SecretSet(name=new.name, created=created), 201 if created else 200)


async def _delete(slug: str | None, name: str) -> Response:
    _note(slug, name)
    await services().secrets.delete(slug, name)
    return nothing()


def _note(slug: str | None, name: str, **details: str) -> None:
    if slug is None:
        note(target=name, name=name, **details)
    else:
        note(target=f"{slug}/{name}", slug=slug, name=name, **details)


def _secret(row: asyncpg.Record) -> wire.Secret:
    reference = wire.SecretRef(path=row["ref_path"], key=row["ref_key"]) if row["ref_path"] else None
    return wire.Secret(
        name=row["name"],
        source=row["source"],
        created_at=utc(row["created_at"]),
        updated_at=utc(row["updated_at"]),
        ref=reference,
    )
