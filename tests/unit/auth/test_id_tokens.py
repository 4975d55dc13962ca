"""ID tokens that are good, and every way in which one is not (contract-admin 2.3, anchors E 15)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey
from joserfc.jws import JWSRegistry

from gocdnext.auth.providers import id_token
from gocdnext.auth.providers.errors import RejectedError, UnknownKeyError

NOW = datetime(2026, 4, 28, 13, 0, tzinfo=UTC)
TIME = int(NOW.timestamp())
ISSUER, CLIENT, NONCE = "https://sso.acme.example", "gocd", "the-nonce"
KEY = RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})
OTHER = RSAKey.generate_key(2048, {"kid": "other"})
CURVE = ECKey.generate_key("P-256", {"kid": "curve"})
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": CLIENT,
    "sub": "00u1",
    "nonce": NONCE,
    "iat": TIME,
    "exp": TIME + 300,
}


def published(*keys: RSAKey | ECKey) -> KeySet:
    return id_token.key_set({"keys": [key.as_dict(private=False) for key in keys]})


def signed(claims: dict[str, Any], key: Any = KEY, alg: str = "RS256", **header: Any) -> str:
    registry = JWSRegistry(algorithms=[alg], strict_check_header=False)
    kid = {"kid": key.kid} if key.kid else {}
    return jwt.encode({"alg": alg, **kid, **header}, claims, key, registry=registry)


def verify(
    token: object, keys: KeySet | None = None, algorithms: frozenset[str] = id_token.ALGORITHMS
) -> dict[str, Any]:
    return id_token.verify(
        token, keys or published(KEY, CURVE), algorithms, issuer=ISSUER, client_id=CLIENT, nonce=NONCE, now=NOW
    )


def part(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"aud": [CLIENT]},
        {"aud": [CLIENT, "another"], "azp": CLIENT},
        {"azp": CLIENT},
        {"iat": TIME + 30, "nbf": TIME + 30},
        {"exp": TIME - 30},
        {"exp": TIME + 0.5},
    ],
)
def test_good_ones(more: dict[str, Any]) -> None:
    assert verify(signed(CLAIMS | more))["sub"] == "00u1"


@pytest.mark.parametrize(("key", "alg"), [(KEY, "RS512"), (KEY, "PS256"), (CURVE, "ES256")])
def test_other_algorithms_of_the_provider_are_good(key: Any, alg: str) -> None:
    assert verify(signed(CLAIMS, key, alg))["sub"] == "00u1"
    with pytest.raises(RejectedError):
        verify(signed(CLAIMS, key, alg), algorithms=id_token.DEFAULT)


@pytest.mark.parametrize(
    "more",
    [
        {"iss": "https://sso.acme.example/"},
        {"iss": "https://evil.example"},
        {"iss": [ISSUER]},
        {"iss": None},
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": CLIENT + "2"},
        {"aud": []},
        {"aud": None},
        {"aud": {"gocd": 1}},
        {"aud": [CLIENT, "another"]},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"azp": "another"},
        {"exp": TIME - 61},
        {"exp": None},
        {"exp": "never"},
        {"exp": True},
        {"exp": float("nan")},
        {"iat": TIME + 61},
        {"iat": None},
        {"iat": "now"},
        {"nbf": TIME + 61},
        {"nonce": "another"},
        {"nonce": ""},
        {"nonce": None},
        {"nonce": [NONCE]},
        {"nonce": NONCE + "\ud800"},
        {"sub": None},
        {"sub": 7},
        {"sub": ""},
    ],
    ids=str,
)
def test_claims_that_are_not_good(more: dict[str, Any]) -> None:
    if more.get("nonce", "").__class__ is str and not str(more.get("nonce", "")).isascii():
        token = _sign_raw(CLAIMS | more)
    else:
        token = signed({name: value for name, value in (CLAIMS | more).items() if value is not None})
    with pytest.raises(RejectedError):
        verify(token)


def _sign_raw(claims: dict[str, Any]) -> str:
    """With JSON that joserfc would not write: a lone surrogate, escaped."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    head = f"{part({'alg': 'RS256', 'kid': 'first'})}.{part(claims)}"
    return f"{head}.{part(KEY.private_key.sign(head.encode(), PKCS1v15(), SHA256()))}"


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
def test_no_signature_is_no_signature(alg: str) -> None:
    head, body = part({"alg": alg, "kid": "first"}), part(CLAIMS)
    for signature in ("", part(b"x" * 256), signed(CLAIMS).split(".")[2]):
        with pytest.raises(RejectedError):
            verify(f"{head}.{body}.{signature}")


def test_a_public_key_is_no_shared_secret() -> None:
    """Key confusion: HS256 with the provider's public key, in any of its spellings, as the secret."""
    public = KEY.public_key
    spellings = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).strip(),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        json.dumps(KEY.as_dict(private=False)).encode(),
        CLIENT.encode(),
        b"",
    ]
    for alg, algorithm in (("HS256", hashlib.sha256), ("HS512", hashlib.sha512)):
        for secret in spellings:
            head = f"{part({'alg': alg, 'kid': 'first'})}.{part(CLAIMS)}"
            with pytest.raises(RejectedError):
                verify(f"{head}.{part(hmac.new(secret, head.encode(), algorithm).digest())}")


def test_a_provider_cannot_ask_for_weak_algorithms() -> None:
    assert id_token.algorithms(["none", "HS256", "RS256", 7]) == {"RS256"}
    assert id_token.algorithms(["none", "HS256"]) == frozenset()
    assert id_token.algorithms(None) == {"RS256"}
    with pytest.raises(RejectedError):
        verify(signed(CLAIMS), algorithms=frozenset())


def test_a_shared_secret_among_the_keys_is_none_of_them() -> None:
    secret = OctKey.generate_key(256, {"kid": "shared"})
    keys = id_token.key_set({"keys": [secret.as_dict(private=True), KEY.as_dict(private=False)]})
    assert [key.kid for key in keys] == ["first"]
    with pytest.raises(RejectedError):
        verify(signed(CLAIMS, secret, "HS256"), keys)


def test_a_key_that_the_token_brings_along_is_not_looked_at() -> None:
    mine = OTHER.as_dict(private=False)
    for header in ({"jwk": mine}, {"jwk": mine, "kid": "first"}, {"jku": "http://evil.example/keys", "kid": "first"}):
        with pytest.raises(UnknownKeyError):
            verify(signed(CLAIMS, OTHER, **header))


def test_signatures_of_others() -> None:
    with pytest.raises(UnknownKeyError):
        verify(signed(CLAIMS, OTHER))
    with pytest.raises(UnknownKeyError):
        verify(signed(CLAIMS, OTHER, kid="first"))
    with pytest.raises(UnknownKeyError):
        verify(signed(CLAIMS), published(OTHER))
    head, body, signature = signed(CLAIMS).split(".")
    with pytest.raises(UnknownKeyError):
        verify(f"{head}.{part(CLAIMS | {'sub': 'admin'})}.{signature}")
    with pytest.raises(RejectedError):
        verify(f"{head}.{body}.{part(b'short')}")
    with pytest.raises(RejectedError):
        # The name of one key, the algorithm of another.
        verify(signed(CLAIMS, CURVE, "ES256", kid="first"))


def test_the_only_key_needs_no_name_and_one_of_several_does() -> None:
    nameless = RSAKey.import_key({**KEY.as_dict(private=True), "kid": None} | {"kid": ""})
    token = jwt.encode({"alg": "RS256"}, CLAIMS, nameless)
    assert verify(token, published(KEY))["sub"] == "00u1"
    with pytest.raises(RejectedError):
        verify(token, published(KEY, OTHER))


@pytest.mark.parametrize(
    "token",
    [
        None,
        7,
        "",
        "x",
        "a.b",
        "a.b.c",
        "a.b.c.d.e",
        "é.é.é",
        "x" * (id_token.LONGEST + 1),
        f"{part([])}.{part(CLAIMS)}.{part(b'x')}",
        f"{part({})}.{part(CLAIMS)}.{part(b'x')}",
        f"{part({'alg': ['RS256']})}.{part(CLAIMS)}.{part(b'x')}",
        f"{part({'alg': 'RS256', 'kid': {}})}.{part(CLAIMS)}.{part(b'x')}",
        f"{part({'alg': 'RS256', 'kid': 'first', 'crit': ['x'], 'x': 1})}.{part(CLAIMS)}.{part(b'x')}",
        f"{part({'alg': 'RS256', 'kid': 'first', 'b64': False})}.{part(CLAIMS)}.{part(b'x')}",
        f"{part({'alg': 'RSA-OAEP', 'enc': 'A128GCM'})}.{part(b'x')}.{part(b'x')}.{part(b'x')}.{part(b'x')}",
        "[" * 30_000 + ".e30.e30",
    ],
    ids=lambda token: str(token)[:30],
)
def test_what_is_no_token_at_all(token: object) -> None:
    with pytest.raises(RejectedError):
        verify(token)


def test_claims_that_are_no_object() -> None:
    for claims in ([], "x", 7, None):
        head = f"{part({'alg': 'RS256', 'kid': 'first'})}.{part(claims)}"
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        with pytest.raises(RejectedError):
            verify(f"{head}.{part(KEY.private_key.sign(head.encode(), PKCS1v15(), SHA256()))}")


@pytest.mark.parametrize("document", [None, [], {}, {"keys": None}, {"keys": {}}, "x"])
def test_documents_that_are_no_key_set(document: object) -> None:
    with pytest.raises(RejectedError):
        id_token.key_set(document)


def test_keys_that_cannot_be_read_are_left_out() -> None:
    weak = RSAKey.generate_key(1024, {"kid": "weak"}).as_dict(private=False)
    good = KEY.as_dict(private=False)
    entries = [
        None,
        7,
        {},
        {"kty": "RSA"},
        {"kty": "RSA", "n": "!", "e": "AQAB"},
        {"kty": "RSA", "n": 7, "e": 7},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-0", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "X25519", "x": "AA"},
        {"kty": "new", "x": "AA"},
        {"kty": "oct", "k": "AAAA"},
        weak,
        {**good, "use": "enc", "kid": "enc"},
        good,
    ]
    assert [key.kid for key in id_token.key_set({"keys": entries})] == ["first"]
    assert not id_token.key_set({"keys": [None] * 60 + [good]})
    assert not id_token.key_set({"keys": []})
