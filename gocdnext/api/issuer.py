"""The issuer of job identity tokens: discovery and keys for verifiers, rotation for administrators (contract-admin 7.12, 12).

Without `GOCDNEXT_PUBLIC_BASE` nobody could reach the issuer: its public routes are not there then.
"""

from __future__ import annotations

import asyncpg
import msgspec
from quart import Blueprint, Response
from werkzeug.exceptions import NotFound

from gocdnext.api import params, query, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer, utc, utc_or_none
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.errors import InvalidError
from gocdnext.runs.identity import CLAIMS
from gocdnext.secrets.signing import ALG, EMERGENCY, GRACEFUL

blueprint = Blueprint("issuer", __name__)

JWKS_PATH = "/.well-known/jwks.json"
CACHED = "public, max-age=300"
MAX_BODY = 4 * 1024
_NOTES = {
    GRACEFUL: "the new key signs from now on; the old one stays published until its last token has ended",
    EMERGENCY: "the old key is withdrawn: its tokens are refused as soon as verifiers fetch the keys again, which they "
    "may put off for the 5 minutes that they may keep them",
}


@route(
    blueprint,
    "GET",
    "/.well-known/openid-configuration",
    described=Description(gives=wire.Discovery, fails=frozenset({404})),
)
async def discovery() -> Response:
    """Where verifiers of identity tokens find the keys, and what tokens say."""
    base = _issuer()
    message = wire.Discovery(
        issuer=base,
        jwks_uri=base + JWKS_PATH,
        response_types_supported=["id_token"],
        subject_types_supported=["public"],
        id_token_signing_alg_values_supported=[ALG],
        claims_supported=list(CLAIMS),
    )
    return _public(message)


@route(blueprint, "GET", "/.well-known/jwks.json", described=Description(gives=wire.PublicKeys, fails=frozenset({404})))
async def jwks() -> Response:
    """The keys that identity tokens are verified with."""
    _issuer()
    rows = await services().signing_keys.published()
    keys = [
        wire.PublicKey(kty="RSA", use="sig", alg=row["alg"], kid=row["kid"], n=row["public_n"], e=row["public_e"])
        for row in rows
    ]
    return _public(wire.PublicKeys(keys=keys))


@route(blueprint, "GET", "/api/v1/admin/oidc/keys", described=Description(asks=query.Paged, gives=wire.SigningKeys))
async def list_keys() -> Response:
    """Every signing key there ever was, newest first."""
    rows = await services().signing_keys.list()
    return answer(wire.SigningKeys(keys=[_key(row) for row in rows[query.asked(query.Paged).part]]))


@route(
    blueprint,
    "POST",
    "/api/v1/admin/oidc/keys/rotate",
    Audited("oidc_key.rotate", "oidc_key"),
    described=Description(takes=wire.RotateBody, gives=wire.Rotated),
)
async def rotate() -> Response:
    """Makes a new signing key. `emergency` withdraws the old one at once. Each call makes one more."""
    mode = (await _body()).mode
    if mode not in (GRACEFUL, EMERGENCY):
        raise InvalidError('mode must be "graceful" or "emergency"')
    note(mode=mode)
    kid = await services().signing_keys.rotate(mode)
    note(target=kid, kid=kid)
    return answer(wire.Rotated(kid=kid, mode=mode, note=_NOTES[mode]))


async def _body() -> wire.RotateBody:
    data = await params.body_within(MAX_BODY)
    if data is None:
        raise InvalidError(f"invalid JSON body: larger than {MAX_BODY} bytes")
    if data.strip() in (b"", b"null"):
        return wire.RotateBody()
    try:
        return params.json_object(data, wire.RotateBody)
    except InvalidError as error:
        raise InvalidError(str(error).replace("invalid json:", "invalid JSON body:", 1)) from None


def _issuer() -> str:
    """The issuer. Raises NotFound when there is none."""
    base = services().signing_keys.issuer
    if not base:
        raise NotFound
    return base


def _public(message: msgspec.Struct) -> Response:
    response = answer(message)
    response.headers["Cache-Control"] = CACHED
    return response


def _key(row: asyncpg.Record) -> wire.SigningKey:
    return wire.SigningKey(
        id=str(row["id"]),
        kid=row["kid"],
        alg=row["alg"],
        created_at=utc(row["created_at"]),
        retired_at=utc_or_none(row["retired_at"]),
        revoked_at=utc_or_none(row["revoked_at"]),
    )
