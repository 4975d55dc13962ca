"""Whether an ID token is what it says: signature, issuer, audience, times, nonce (OpenID Connect Core 3.1.3.7). Pure.

Only signatures with a private key count, whatever the token says of itself: a shared secret or none at all never does, nor
does a key that the token brings along.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from joserfc import errors, jwt
from joserfc.jwk import ECKey, JWKRegistry, KeySet, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from gocdnext.auth.providers.errors import RejectedError, UnknownKeyError

ALGORITHMS: Final = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
)
DEFAULT: Final = frozenset(("RS256",))
"""For a provider that does not say what it signs with."""
LEEWAY = 60
"""Seconds that the provider's clock may differ from ours."""
LONGEST = 64 * 1024
LONGEST_HEADER = 8 * 1024
"""Bytes: some providers send their certificates along."""
MOST_KEYS = 50
_RSA_BITS = range(2048, 8193)
_KEY_ERRORS = (errors.JoseError, ValueError, TypeError, KeyError, OverflowError)


def algorithms(said: object) -> frozenset[str]:
    """Those of a provider's signature algorithms that count."""
    return frozenset(each for each in said if isinstance(each, str)) & ALGORITHMS if isinstance(said, list) else DEFAULT


def key_set(document: object) -> KeySet:
    """The public keys of a JWKS document. Those that cannot be read, or are too weak, are left out. Raises RejectedError."""
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise RejectedError("the key set is no JSON object with keys")
    return KeySet([key for entry in entries[:MOST_KEYS] if (key := _key(entry)) is not None])


def verify(
    token: object,
    keys: KeySet,
    allowed: Collection[str],
    *,
    issuer: str,
    client_id: str,
    nonce: str,
    now: datetime,
) -> dict[str, Any]:
    """The claims of a good token. Raises UnknownKeyError for a signature of none of the keys, RejectedError for the rest."""
    if not isinstance(token, str) or len(token) > LONGEST:
        raise RejectedError("there is no ID token, or it is too long")
    claims = _signed(token, keys, allowed)
    rules = jwt.JWTClaimsRegistry(
        int(now.timestamp()),
        LEEWAY,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": client_id},
        sub={"essential": True},
        exp={"essential": True},
        iat={"essential": True},
    )
    try:
        rules.validate(claims)
    except errors.JoseError as error:
        raise RejectedError(f"the ID token is not good: {error}") from None
    if not _is_for(claims, client_id):
        raise RejectedError("the ID token was made for another client as well")
    said = claims.get("nonce")
    if not isinstance(said, str) or not hmac.compare_digest(said.encode("utf-8", "replace"), nonce.encode()):
        raise RejectedError("the ID token has the nonce of another sign-in")
    return claims


def _signed(token: str, keys: KeySet, allowed: Collection[str]) -> dict[str, Any]:
    # Header fields that we do not know are none of our business, as RFC 7515 says; `crit` is obeyed all the same.
    registry = JWSRegistry(algorithms=sorted(allowed), strict_check_header=False)
    registry.max_header_length = LONGEST_HEADER
    if not allowed or not keys:
        raise UnknownKeyError("the provider has no key that signatures may be made with")
    try:
        return jwt.decode(token, keys, registry=registry).claims
    except (errors.InvalidKeyIdError, errors.BadSignatureError) as error:
        raise UnknownKeyError(f"the ID token is not signed with a key of the provider: {error}") from None
    except _KEY_ERRORS as error:
        raise RejectedError(f"the ID token cannot be read: {type(error).__name__}") from None


def _is_for(claims: dict[str, Any], client_id: str) -> bool:
    """Several audiences are fine as long as the token was made for us."""
    audience, party = claims["aud"], claims.get("azp")
    if isinstance(audience, list) and len(audience) > 1 and party is None:
        return False
    return party is None or party == client_id


def _key(entry: object) -> RSAKey | ECKey | OKPKey | None:
    if not isinstance(entry, dict) or entry.get("kty") not in ("RSA", "EC", "OKP") or entry.get("use", "sig") != "sig":
        return None
    try:
        key = JWKRegistry.import_key(entry)
        if isinstance(key, RSAKey) and key.public_key.key_size not in _RSA_BITS:
            return None
    except _KEY_ERRORS:
        return None
    return key if isinstance(key, (RSAKey, ECKey, OKPKey)) else None
