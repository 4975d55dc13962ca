"""`/api/v1/admin/scm-credentials`: what the server signs in with at hosts of repositories (contract-admin 7.9)."""

from __future__ import annotations

import asyncpg
from quart import Blueprint, Response

from gocdnext.api import params, people
from gocdnext.api.context import services
from gocdnext.api.respond import answer, nothing, utc
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note, unchanged
from gocdnext.api.wire import settings_admin as wire
from gocdnext.secrets import scm_credentials
from gocdnext.secrets.scm_credentials import NewCredential

blueprint = Blueprint("scm_credentials", __name__)
PATH = "/api/v1/admin/scm-credentials"
MAX_BODY = 32 * 1024
"""Bytes of a body."""


@route(blueprint, "GET", PATH, described=Description(asks=people.Paged, gives=wire.Credentials))
async def list_credentials() -> Response:
    """By provider and host; of each token as much as tells it from another."""
    here = services()
    kept = await scm_credentials.listed(here.db, here.keyring, *people.page())
    return answer(wire.Credentials(credentials=[_message(one.row, one.preview) for one in kept]))


@route(
    blueprint,
    "POST",
    PATH,
    Audited("scm_credential.set", "scm_credential"),
    described=Description(takes=wire.CredentialBody, gives=wire.Credential, status=201),
)
async def set_credential() -> Response:
    """Keeps a token, in place of the one for the same provider and host."""
    here = services()
    said = await people.body(wire.CredentialBody, MAX_BODY)
    note(provider=said.provider, host=said.host)
    new = NewCredential(
        provider=said.provider or "",
        host=said.host or "",
        api_base=said.api_base or "",
        display_name=said.display_name or "",
        token=said.auth_ref or "",
    )
    row = await scm_credentials.keep(here.db, here.keyring, new, here.clock(), here.new_id)
    note(target=str(row["id"]), provider=row["provider"], host=row["host"])
    await here.access.refresh()
    return answer(_message(row), 201)


@route(
    blueprint,
    "DELETE",
    f"{PATH}/<credential_id>",
    Audited("scm_credential.delete", "scm_credential", "{credential_id}"),
    described=Description(status=204),
)
async def delete_credential(credential_id: str) -> Response:
    """Removes a token; one that is not there is fine."""
    here = services()
    if not await scm_credentials.delete(here.db, params.uuid(credential_id, "invalid credential id")):
        unchanged()
    await here.access.refresh()
    return nothing()


def _message(row: asyncpg.Record, preview: str = "") -> wire.Credential:
    return wire.Credential(
        id=str(row["id"]),
        provider=row["provider"],
        host=row["host"],
        api_base=row["api_base"],
        display_name=row["display_name"],
        auth_ref_preview=preview,
        created_at=utc(row["created_at"]),
        updated_at=utc(row["updated_at"]),
    )
