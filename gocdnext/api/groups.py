"""`/api/v1/admin/groups`: groups of people whom gates ask for (contract-admin 7.2)."""

from __future__ import annotations

from uuid import UUID

import asyncpg
from quart import Blueprint, Response

from gocdnext.api import params, people
from gocdnext.api.context import services
from gocdnext.api.respond import answer, nothing, utc
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note, unchanged
from gocdnext.api.wire import identity as wire
from gocdnext.auth import groups

blueprint = Blueprint("groups", __name__)
PATH = "/api/v1/admin/groups"


@route(blueprint, "GET", PATH, described=Description(asks=people.Paged, gives=wire.Groups))
async def list_groups() -> Response:
    """All groups by name."""
    rows = await groups.listed(services().identity, *people.page())
    return answer(wire.Groups(groups=[_message(row) for row in rows]))


@route(
    blueprint,
    "POST",
    PATH,
    Audited("group.create", "group"),
    described=Description(takes=wire.GroupBody, gives=wire.Group, status=201, fails=frozenset({409})),
)
async def create_group() -> Response:
    """A new group, with nobody in it."""
    said = await people.body(wire.GroupBody)
    note(name=said.name)
    row = await groups.create(services().identity, said.name or "", said.description or "", people.caller_id())
    note(target=str(row["id"]))
    return answer(_message(row), 201)


@route(
    blueprint,
    "PUT",
    f"{PATH}/<group_id>",
    Audited("group.update", "group", "{group_id}"),
    described=Description(takes=wire.GroupBody, status=204, fails=frozenset({409})),
)
async def change_group(group_id: str) -> Response:
    """Another name and description."""
    found = _group_id(group_id)
    said = await people.body(wire.GroupBody)
    note(name=said.name)
    await groups.change(services().identity, found, said.name or "", said.description or "")
    return nothing()


@route(
    blueprint,
    "DELETE",
    f"{PATH}/<group_id>",
    Audited("group.delete", "group", "{group_id}"),
    described=Description(status=204),
)
async def delete_group(group_id: str) -> Response:
    """Removes a group; one that is not there is fine."""
    if not await groups.delete(services().identity, _group_id(group_id)):
        unchanged()
    return nothing()


@route(blueprint, "GET", f"{PATH}/<group_id>/members", described=Description(asks=people.Paged, gives=wire.Members))
async def list_members(group_id: str) -> Response:
    """Who is in a group."""
    rows = await groups.members(services().identity, _group_id(group_id), *people.page())
    members = [
        wire.Member(
            user_id=str(row["user_id"]),
            email=row["email"],
            name=row["name"],
            role=row["role"],
            added_at=utc(row["added_at"]),
        )
        for row in rows
    ]
    return answer(wire.Members(members=members))


@route(
    blueprint,
    "POST",
    f"{PATH}/<group_id>/members",
    Audited("group.member_add", "group", "{group_id}"),
    described=Description(takes=wire.MemberBody, status=204),
)
async def add_member(group_id: str) -> Response:
    """Puts a person into a group; again is fine."""
    found = _group_id(group_id)
    said = await people.body(wire.MemberBody)
    user_id = params.uuid(said.user_id or "", "invalid user_id")
    note(user_id=str(user_id))
    await groups.add(services().identity, found, user_id, people.caller_id())
    return nothing()


@route(
    blueprint,
    "DELETE",
    f"{PATH}/<group_id>/members/<user_id>",
    Audited("group.member_remove", "group", "{group_id}"),
    described=Description(status=204),
)
async def remove_member(group_id: str, user_id: str) -> Response:
    """Takes a person out of a group; again is fine."""
    note(user_id=user_id)
    await groups.remove(services().identity, _group_id(group_id), params.uuid(user_id, "invalid user_id"))
    return nothing()


def _group_id(text: str) -> UUID:
    return params.uuid(text, "invalid group id")


def _message(row: asyncpg.Record) -> wire.Group:
    return wire.Group(
        id=str(row["id"]),
        name=row["name"],
        description=row["description"],
        member_count=row["member_count"],
        created_by=str(row["created_by"]) if row["created_by"] else None,
        created_at=utc(row["created_at"]),
        updated_at=utc(row["updated_at"]),
    )
