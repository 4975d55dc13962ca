"""`/api/v1/admin/auth/providers`: by whom people may sign in (contract-admin 7.10). Secrets go in, never out."""

from __future__ import annotations

import asyncpg
from quart import Blueprint, Response

from gocdnext.api import params, people
from gocdnext.api.context import services
from gocdnext.api.respond import answer, nothing, utc
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.api.wire import auth_providers as wire
from gocdnext.auth.providers import stored
from gocdnext.auth.providers.registry import Providers

blueprint = Blueprint("auth_providers", __name__)
PATH = "/api/v1/admin/auth/providers"
LIMIT = 64 * 1024


@route(blueprint, "GET", PATH, described=Description(gives=wire.AuthProviders))
async def list_auth_providers() -> Response:
    """The providers in the database, and what is wrong with any."""
    here, providers = services(), _providers()
    rows = await stored.listed(here.db)
    names = {row["name"] for row in rows}
    limit, offset = people.page()
    shown = rows[offset:] if limit is None else rows[offset : offset + limit]
    return answer(
        wire.AuthProviders(
            enabled=here.settings.auth_enabled,
            providers=[_message(row) for row in shown],
            env_only=[name for name in providers.environment if name not in names],
            problems=providers.problems,
        )
    )


@route(
    blueprint,
    "POST",
    PATH,
    Audited("auth_provider.set", "auth_provider"),
    described=Description(
        takes=wire.AuthProviderBody, gives=wire.AuthProviderSaved, status=201, fails=frozenset((409,))
    ),
)
async def save_auth_provider() -> Response:
    """Makes a provider, or replaces the one of that name; it is in force at once."""
    here, providers = services(), _providers()
    said = await people.body(wire.AuthProviderBody, LIMIT)
    note(name=said.name)
    new = stored.checked(
        stored.NewProvider(
            name=said.name or "",
            kind=said.kind or "",
            display_name=said.display_name or "",
            client_id=said.client_id or "",
            client_secret=said.client_secret or "",
            issuer=said.issuer or "",
            github_api_base=said.github_api_base or "",
            enabled=said.enabled is not False,
            adopt_accounts=said.adopt_accounts is True,
        ),
        here.outbound.policy,
    )
    note(
        name=new.name,
        kind=new.kind,
        issuer=new.issuer or new.github_api_base,
        enabled=new.enabled,
        new_secret=bool(new.client_secret),
        adopt_accounts=new.adopt_accounts,
    )
    row = await stored.save(here.identity, here.keyring, new, providers.environment)
    note(target=str(row["id"]))
    loaded = await providers.reload()
    return answer(wire.AuthProviderSaved(provider=_message(row), reload_warning=loaded.problems.get(new.name, "")), 201)


@route(
    blueprint,
    "DELETE",
    f"{PATH}/<provider_id>",
    Audited("auth_provider.delete", "auth_provider", "{provider_id}"),
    described=Description(status=204, fails=frozenset((409,))),
)
async def delete_auth_provider(provider_id: str) -> Response:
    """Removes a provider. The accounts of its people stay, and nobody can sign in to them."""
    found = params.uuid(provider_id, "invalid provider id")
    providers = _providers()
    note(name=await stored.delete(services().identity, found, providers.environment))
    await providers.reload()
    return nothing()


@route(
    blueprint,
    "POST",
    f"{PATH}/reload",
    Audited("auth_provider.reload", "auth_provider"),
    described=Description(gives=wire.AuthProvidersActive),
)
async def reload_auth_providers() -> Response:
    """Reads the providers again, and asks each of them about itself."""
    loaded = await _providers().reload(ask_all=True)
    return answer(wire.AuthProvidersActive(active=loaded.active, problems=loaded.problems))


def _providers() -> Providers:
    found = services().identity.providers
    assert found is not None, "the server gives the room of identity its providers"
    return found


def _message(row: asyncpg.Record) -> wire.AuthProvider:
    return wire.AuthProvider(
        id=str(row["id"]),
        name=row["name"],
        kind=row["kind"],
        display_name=row["display_name"],
        client_id=row["client_id"],
        issuer=row["issuer"],
        github_api_base=row["github_api_base"],
        enabled=row["enabled"],
        created_at=utc(row["created_at"]),
        updated_at=utc(row["updated_at"]),
    )
