"""A verifier built on another library (PyJWT) takes our tokens and nothing that is made of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio_asyncio

from gocdnext.db.pool import open_pool
from gocdnext.secrets.signing import EMERGENCY, SKEW, SigningKeys
from tests.secrets_room import BASE, TTL, signing_keys_of
from tests.service.secrets.verifier import public_pem

jwt = pytest.importorskip("jwt")

NOW = datetime.now(UTC)
AUDIENCE = "sts.acme.example"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def issuer(database_url: str) -> AsyncIterator[tuple[SigningKeys, Clock]]:
    async with trio_asyncio.open_loop(), open_pool({"dsn": database_url}, size=2) as db:
        clock = Clock()
        yield signing_keys_of(db, clock), clock


async def decode(keys: SigningKeys, token: str, **changed: Any) -> dict[str, Any]:
    """What a relying party does that was told our address, with the keys that we publish."""
    entries = [
        {"kty": "RSA", "use": "sig", "alg": row["alg"], "kid": row["kid"], "n": row["public_n"], "e": row["public_e"]}
        for row in await keys.published()
    ]
    published = jwt.PyJWKSet.from_dict({"keys": entries})
    wanted = {"algorithms": ["RS256"], "audience": AUDIENCE, "issuer": BASE} | changed
    key = published[jwt.get_unverified_header(token)["kid"]]
    found: dict[str, Any] = jwt.decode(token, key, **wanted)
    return found


async def token(keys: SigningKeys, audience: list[str] | None = None) -> str:
    return (await keys.signer())({"sub": "me"}, audience or [AUDIENCE])


def forged(token: str, header: dict[str, str], key: bytes | None) -> str:
    """The payload of a token under another header, signed with HMAC or not at all."""
    start = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode() + "." + token.split(".")[1]
    signature = b"" if key is None else hmac.digest(key, start.encode(), hashlib.sha256)
    return start + "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


async def test_our_token_is_taken_and_what_is_made_of_it_is_not(issuer: tuple[SigningKeys, Clock]) -> None:
    keys, clock = issuer
    good = await token(keys)
    assert (await decode(keys, good))["sub"] == "me"
    assert (await decode(keys, await token(keys, ["other", AUDIENCE])))["aud"] == ["other", AUDIENCE]
    kid = jwt.get_unverified_header(good)["kid"]
    pem = public_pem((await keys.published())[0])
    for header, key in (
        ({"alg": "none", "kid": kid}, None),
        ({"alg": "HS256", "kid": kid}, pem),
        ({"alg": "RS256", "kid": kid}, pem),
    ):
        with pytest.raises(jwt.InvalidTokenError):
            await decode(keys, forged(good, header, key))
    with pytest.raises(jwt.InvalidAudienceError):
        await decode(keys, good, audience="somebody.else.example")
    with pytest.raises(jwt.InvalidIssuerError):
        await decode(keys, good, issuer="https://evil.example")
    clock.now = NOW + SKEW - timedelta(seconds=5)  # the verifier's clock is behind
    assert (await decode(keys, await token(keys), leeway=SKEW))["sub"] == "me"
    clock.now = NOW + timedelta(seconds=600)
    with pytest.raises(jwt.ImmatureSignatureError):
        await decode(keys, await token(keys))
    clock.now = NOW - TTL - timedelta(seconds=1)
    with pytest.raises(jwt.ExpiredSignatureError):
        await decode(keys, await token(keys))
    clock.now = NOW
    await keys.rotate(EMERGENCY)
    with pytest.raises(KeyError):
        await decode(keys, good)
    assert (await decode(keys, await token(keys)))["sub"] == "me"
