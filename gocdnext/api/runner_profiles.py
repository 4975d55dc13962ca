"""`/api/v1/admin/runner-profiles`: what jobs get besides what they say themselves (contract-admin 7.11)."""

from __future__ import annotations

import asyncpg
import msgspec
from quart import Blueprint, Response

from gocdnext.api import params, people
from gocdnext.api.context import services
from gocdnext.api.respond import answer, nothing, utc
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.api.wire import settings_admin as wire
from gocdnext.errors import InvalidError
from gocdnext.pipeline.profiles import Profile
from gocdnext.projects.limits import unstorable_text
from gocdnext.secrets import profiles
from gocdnext.secrets.profiles import Wanted

blueprint = Blueprint("runner_profiles", __name__)
PATH = "/api/v1/admin/runner-profiles"
MAX_BODY = 16 * 1024
"""Bytes of a body."""


@route(blueprint, "GET", PATH, described=Description(asks=people.Paged, gives=wire.Profiles))
async def list_profiles() -> Response:
    """All profiles by name."""
    rows = await profiles.listed(services().db, *people.page())
    return answer(wire.Profiles(profiles=[_message(row) for row in rows]))


@route(
    blueprint,
    "POST",
    PATH,
    Audited("runner_profile.create", "runner_profile"),
    described=Description(takes=wire.ProfileBody, gives=wire.Profile, status=201, fails=frozenset({409})),
)
async def create_profile() -> Response:
    """A new profile."""
    here = services()
    wanted = await _wanted()
    note(engine=wanted.profile.engine)
    row = await profiles.create(here.db, here.keyring, wanted, here.clock(), here.new_id)
    note(target=str(row["id"]))
    await here.default_profile.refresh()
    return answer(_message(row), 201)


@route(
    blueprint,
    "PUT",
    f"{PATH}/<profile_id>",
    Audited("runner_profile.update", "runner_profile", "{profile_id}"),
    described=Description(takes=wire.ProfileBody, status=204, fails=frozenset({409})),
)
async def change_profile(profile_id: str) -> Response:
    """Replaces a profile. Jobs that are dispatched from now on have its environment; the rest waits for the next apply."""
    here = services()
    found = params.uuid(profile_id, "invalid profile id")
    wanted = await _wanted()
    await profiles.change(here.db, here.keyring, found, wanted, here.clock(), here.new_id)
    await here.default_profile.refresh()
    return nothing()


@route(
    blueprint,
    "DELETE",
    f"{PATH}/<profile_id>",
    Audited("runner_profile.delete", "runner_profile", "{profile_id}"),
    described=Description(status=204, fails=frozenset({409})),
)
async def delete_profile(profile_id: str) -> Response:
    """Removes a profile that nothing uses."""
    here = services()
    note(name=await profiles.delete(here.db, params.uuid(profile_id, "invalid profile id")))
    await here.default_profile.refresh()
    return nothing()


async def _wanted() -> Wanted:
    """What the body says. Strict: no unknown keys, nothing behind it. Raises InvalidError, never with a value in it."""
    data = await params.body_within(MAX_BODY)
    if data is None:
        raise InvalidError(f"read body: larger than {MAX_BODY} bytes")
    try:
        said = msgspec.json.decode(b"{}" if data.strip() == b"null" else data, type=wire.ProfileBody)
        if found := unstorable_text(msgspec.to_builtins(said)):
            raise InvalidError(found.split(":", 1)[0])
    except RecursionError:
        raise InvalidError("invalid json: nested too deeply") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidError(f"invalid json: {error}") from None
    wanted = _made(said)
    note(
        name=wanted.profile.name,
        env_keys=", ".join(sorted(wanted.profile.env)),
        secret_keys=", ".join(sorted(wanted.secrets)),
    )
    return wanted


def _made(said: wire.ProfileBody) -> Wanted:
    profile = Profile(
        name=(said.name or "").strip(),
        description=(said.description or "").strip(),
        engine=(said.engine or "").strip(),
        default_image=(said.default_image or "").strip(),
        default_cpu_request=(said.default_cpu_request or "").strip(),
        default_cpu_limit=(said.default_cpu_limit or "").strip(),
        default_mem_request=(said.default_mem_request or "").strip(),
        default_mem_limit=(said.default_mem_limit or "").strip(),
        max_cpu=(said.max_cpu or "").strip(),
        max_mem=(said.max_mem or "").strip(),
        tags=tuple(dict.fromkeys(said.tags or ())),
        config=said.config or {},
        node_selector=said.node_selector or {},
        tolerations=tuple(given.kept() for given in said.tolerations or ()),
        preferred_node_affinity=tuple(given.kept() for given in said.preferred_node_affinity or ()),
        env=said.env or {},
    )
    return Wanted(profile, said.secrets or {})


def _message(row: asyncpg.Record) -> wire.Profile:
    plain = {
        name: row[name] for name in wire.Profile.__struct_fields__ if name not in ("id", "created_at", "updated_at")
    }
    return wire.Profile(
        id=str(row["id"]), created_at=utc(row["created_at"]), updated_at=utc(row["updated_at"]), **plain
    )
