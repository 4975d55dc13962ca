"""`/api/v1/admin/service-accounts`: callers that are no people, and their tokens (contract-admin 4)."""

from __future__ import annotations

import asyncpg
from quart import Blueprint, Response

from gocdnext.api import account, params, people
from gocdnext.api.context import services
from gocdnext.api.respond import answer, nothing, utc, utc_or_none
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note, unchanged
from gocdnext.api.wire import identity as wire
from gocdnext.auth import api_tokens, service_accounts
from gocdnext.auth.api_tokens import Owner

blueprint = Blueprint("service_accounts", __name__)
PATH = "/api/v1/admin/service-accounts"


@route(blueprint, "GET", PATH, described=Description(asks=people.Paged, gives=wire.ServiceAccounts))
async def list_accounts() -> Response:
    """All of them, newest first."""
    rows = await service_accounts.listed(services().identity, *people.page())
    return answer(wire.ServiceAccounts(service_accounts=[_message(row) for row in rows]))


@route(
    blueprint,
    "POST",
    PATH,
    Audited("service_account.create", "service_account"),
    described=Description(takes=wire.ServiceAccountBody, gives=wire.ServiceAccount, status=201, fails=frozenset({409})),
)
async def create_account() -> Response:
    """A new one, without a token."""
    said = await people.body(wire.ServiceAccountBody)
    note(name=said.name, role=said.role)
    row = await service_accounts.create(
        services().identity, said.name or "", said.description or "", said.role or "", people.caller_id()
    )
    note(target=str(row["id"]))
    return answer(_message(row), 201)


@route(
    blueprint,
    "PUT",
    f"{PATH}/<account_id>",
    Audited("service_account.update", "service_account", "{account_id}"),
    described=Description(takes=wire.ServiceAccountBody, status=204),
)
async def change_account(account_id: str) -> Response:
    """Another description and role."""
    found = params.uuid(account_id)
    said = await people.body(wire.ServiceAccountBody)
    note(role=said.role)
    await service_accounts.change(services().identity, found, said.description or "", said.role or "")
    return nothing()


@route(
    blueprint,
    "DELETE",
    f"{PATH}/<account_id>",
    Audited("service_account.delete", "service_account", "{account_id}"),
    described=Description(status=204),
)
async def delete_account(account_id: str) -> Response:
    """Removes one with its tokens; one that is not there is fine."""
    if not await service_accounts.delete(services().identity, params.uuid(account_id)):
        unchanged()
    return nothing()


@route(
    blueprint,
    "POST",
    f"{PATH}/<account_id>/disable",
    Audited("service_account.disable", "service_account", "{account_id}"),
    described=Description(takes=wire.DisableBody, sends={"disabled": True}, status=204),
)
async def disable_account(account_id: str) -> Response:
    """Shuts one out with all its tokens; `{"disabled": false}` lets it in again."""
    found = params.uuid(account_id)
    said = await people.body(wire.DisableBody, 1024)
    note(disabled=said.disabled)
    await service_accounts.set_disabled(services().identity, found, said.disabled)
    return nothing()


@route(blueprint, "GET", f"{PATH}/<account_id>/tokens", described=Description(asks=people.Paged, gives=wire.Tokens))
async def list_account_tokens(account_id: str) -> Response:
    """Its tokens, newest first; none for an account that is not there."""
    rows = await api_tokens.listed(services().identity, _owner(account_id), *people.page())
    return answer(wire.Tokens(tokens=[people.token(row) for row in rows]))


@route(
    blueprint,
    "POST",
    f"{PATH}/<account_id>/tokens",
    Audited("service_account_token.create", "api_token"),
    described=Description(takes=wire.TokenBody, gives=wire.NewToken, status=201, stored=False, fails=frozenset({409})),
)
async def create_account_token(account_id: str) -> Response:
    """A new token for it; only this answer ever shows it."""
    owner = _owner(account_id)
    note(service_account_id=str(owner.service_account_id))
    return await account.new_token(owner, await people.body(wire.TokenBody))


@route(
    blueprint,
    "DELETE",
    f"{PATH}/<account_id>/tokens/<token_id>",
    Audited("api_token.revoke", "api_token", "{token_id}"),
    described=Description(status=204),
)
async def revoke_account_token(account_id: str, token_id: str) -> Response:
    """Revokes one of its tokens; again is fine."""
    owner = _owner(account_id)
    note(subject="service_account", service_account_id=str(owner.service_account_id))
    await api_tokens.revoke(services().identity, owner, params.uuid(token_id))
    return nothing()


def _owner(account_id: str) -> Owner:
    return Owner(service_account_id=params.uuid(account_id))


def _message(row: asyncpg.Record) -> wire.ServiceAccount:
    return wire.ServiceAccount(
        id=str(row["id"]),
        name=row["name"],
        description=row["description"],
        role=row["role"],
        created_by=str(row["created_by"]) if row["created_by"] else None,
        disabled_at=utc_or_none(row["disabled_at"]),
        created_at=utc(row["created_at"]),
        updated_at=utc(row["updated_at"]),
    )
