"""Secrets: names and times, never values (contract-admin 5). No logic here."""

from __future__ import annotations

from gocdnext.api.wire.base import Time, Wire


class SecretRef(Wire):
    path: str | None = None
    key: str | None = None


class Secret(Wire):
    name: str
    source: str
    created_at: Time
    updated_at: Time
    ref: SecretRef | None = None


class Secrets(Wire):
    secrets: list[Secret]
    total: int
    limit: int
    offset: int
    configured_sources: list[str]
    inherited: list[Secret] = []


class SecretBody(Wire):
    name: str = ""
    value: str | None = None
    source: str | None = None
    ref: SecretRef | None = None


class SecretSet(Wire):
    name: str
    created: bool
