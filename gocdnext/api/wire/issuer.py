"""The issuer of job identity tokens: what verifiers read, and the keys as administrators see them (contract-admin 7.12, 12).
No logic here."""

from __future__ import annotations

from gocdnext.api.wire.base import Id, Time, Wire


class Discovery(Wire):
    issuer: str
    jwks_uri: str
    response_types_supported: list[str]
    subject_types_supported: list[str]
    id_token_signing_alg_values_supported: list[str]
    claims_supported: list[str]


class PublicKey(Wire):
    kty: str
    use: str
    alg: str
    kid: str
    n: str
    e: str


class PublicKeys(Wire):
    keys: list[PublicKey]


class SigningKey(Wire):
    id: Id
    kid: str
    alg: str
    created_at: Time
    retired_at: Time | None = None
    revoked_at: Time | None = None


class SigningKeys(Wire):
    keys: list[SigningKey]


class RotateBody(Wire):
    mode: str = "graceful"


class Rotated(Wire):
    kid: str
    mode: str
    note: str
