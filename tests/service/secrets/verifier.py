"""A verifier of identity tokens that shares nothing with their maker: openssl checks the signature."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import asyncpg
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Header, payload and signature of a token, unverified."""
    header, payload, signature = map(decoded, token.split("."))
    return json.loads(header), json.loads(payload), signature


def claims_of(token: str) -> dict[str, Any]:
    return parts(token)[1]


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def public_pem(key: asyncpg.Record | dict[str, str]) -> bytes:
    """The key that a row, or an entry of the key set, stands for."""
    n, e = (key[f"public_{part}"] if f"public_{part}" in dict(key) else key[part] for part in "ne")
    numbers = rsa.RSAPublicNumbers(*(int.from_bytes(decoded(part)) for part in (e, n)))
    return numbers.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def verified(token: str, key: asyncpg.Record | dict[str, str], folder: Path) -> bool:
    """Whether openssl takes the signature for one of this key."""
    signed, _, signature = token.rpartition(".")
    (folder / "key.pem").write_bytes(public_pem(key))
    (folder / "signature").write_bytes(decoded(signature))
    command = ["openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "signature"]
    return subprocess.run(command, cwd=folder, input=signed.encode(), capture_output=True).returncode == 0
