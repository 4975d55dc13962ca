"""Stores outside of the database that secrets come from (contract-admin 5.8). No logic here."""

from __future__ import annotations

from typing import Any

from gocdnext.api.wire.base import Time, Wire


class SecretBackend(Wire):
    source: str
    enabled: bool
    value: dict[str, Any]
    credential_keys: list[str]
    source_origin: str
    updated_at: Time | None = None


class SecretBackends(Wire):
    backends: list[SecretBackend]


class SecretBackendBody(Wire):
    enabled: bool = False
    value: dict[str, Any] | None = None
    credentials: dict[str, str] | None = None
    preserve_credentials: bool = False


class SecretBackendTest(Wire):
    status: str
    message: str = ""
