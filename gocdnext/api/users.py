"""`/api/v1/admin/users`: accounts of people (contract-admin 7.1)."""

from __future__ import annotations

from quart import Blueprint, Response

from gocdnext.api import params, people
from gocdnext.api.context import services
from gocdnext.api.respond import answer, nothing
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note, unchanged
from gocdnext.api.wire import identity as wire
from gocdnext.auth import accounts

blueprint = Blueprint("users", __name__)


@route(blueprint, "GET", "/api/v1/admin/users", described=Description(asks=people.Paged, gives=wire.Users))
async def list_users() -> Response:
    """All accounts by e-mail."""
    rows = await accounts.users(services().identity, *people.page())
    return answer(wire.Users(users=[people.user(row) for row in rows]))


@route(
    blueprint,
    "POST",
    "/api/v1/admin/users",
    Audited("user.create", "user"),
    described=Description(takes=wire.UserBody, gives=wire.User, status=201, fails=frozenset({409})),
)
async def create_user() -> Response:
    """A local account."""
    said = await people.body(wire.UserBody)
    note(email=said.email, role=said.role or "maintainer")
    row = await accounts.create(
        services().identity, said.email or "", said.name or "", said.role or "maintainer", said.password or ""
    )
    note(target=str(row["id"]), email=row["email"])
    return answer(people.user(row), 201)


@route(
    blueprint,
    "PUT",
    "/api/v1/admin/users/<user_id>/role",
    Audited("user.role_change", "user", "{user_id}"),
    described=Description(takes=wire.RoleBody, sends={"role": "viewer"}, gives=wire.User, fails=frozenset({409})),
)
async def set_role(user_id: str) -> Response:
    """Another role; the account's sessions end."""
    found = params.uuid(user_id)
    said = await people.body(wire.RoleBody, 1024)
    old, row = await accounts.set_role(services().identity, found, said.role or "", people.caller_id())
    note(**{"email": row["email"], "from": old, "to": row["role"]})
    return answer(people.user(row))


@route(
    blueprint,
    "POST",
    "/api/v1/admin/users/<user_id>/disable",
    Audited("user.disable", "user", "{user_id}"),
    described=Description(takes=wire.DisableBody, sends={"disabled": True}, status=204, fails=frozenset({409})),
)
async def disable_user(user_id: str) -> Response:
    """Shuts an account out with its sessions and tokens; `{"disabled": false}` lets it in again."""
    found = params.uuid(user_id)
    said = await people.body(wire.DisableBody, 1024)
    note(disabled=said.disabled)
    await accounts.set_disabled(services().identity, found, said.disabled, people.caller_id())
    return nothing()


@route(
    blueprint,
    "DELETE",
    "/api/v1/admin/users/<user_id>",
    Audited("user.delete", "user", "{user_id}"),
    described=Description(status=204, fails=frozenset({409})),
)
async def delete_user(user_id: str) -> Response:
    """Removes an account with its sessions and tokens; one that is not there is fine."""
    if not await accounts.delete(services().identity, params.uuid(user_id), people.caller_id()):
        unchanged()
    return nothing()
