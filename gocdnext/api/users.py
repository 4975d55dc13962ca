"""`/api/v1/admin/users`: accounts of people (contract-admin 7.1). Disable and delete are ours."""

from __future__ import annotations

from quart import Blueprint, Response

from gocdnext.api import params, people
from gocdnext.api.context import services
from gocdnext.api.respond import answer
from gocdnext.api.routing import route
from gocdnext.api.wire import identity as wire
from gocdnext.auth import accounts

blueprint = Blueprint("users", __name__)


@route(blueprint, "GET", "/api/v1/admin/users")
async def list_users() -> Response:
    """All accounts by e-mail."""
    rows = await accounts.users(services().identity, *people.page())
    return answer(wire.Users(users=[people.user(row) for row in rows]))


@route(blueprint, "POST", "/api/v1/admin/users")
async def create_user() -> Response:
    """A local account."""
    said = await people.body(wire.UserBody)
    row = await accounts.create(
        services().identity, said.email or "", said.name or "", said.role or "maintainer", said.password or ""
    )
    return answer(people.user(row), 201)


@route(blueprint, "PUT", "/api/v1/admin/users/<user_id>/role")
async def set_role(user_id: str) -> Response:
    """Another role; the account's sessions end."""
    found = params.uuid(user_id)
    said = await people.body(wire.RoleBody, 1024)
    _, row = await accounts.set_role(services().identity, found, said.role or "", people.caller_id())
    return answer(people.user(row))


@route(blueprint, "POST", "/api/v1/admin/users/<user_id>/disable")
async def disable_user(user_id: str) -> Response:
    """Shuts an account out with its sessions and tokens; `{"disabled": false}` lets it in again."""
    found = params.uuid(user_id)
    said = await people.body(wire.DisableBody, 1024)
    await accounts.set_disabled(services().identity, found, said.disabled, people.caller_id())
    return people.nothing()


@route(blueprint, "DELETE", "/api/v1/admin/users/<user_id>")
async def delete_user(user_id: str) -> Response:
    """Removes an account with its sessions and tokens; one that is not there is fine."""
    await accounts.delete(services().identity, params.uuid(user_id), people.caller_id())
    return people.nothing()
