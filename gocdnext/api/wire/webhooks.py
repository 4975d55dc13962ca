"""Deliveries of webhooks as people read them (contract-admin 7.7). No logic here."""

from __future__ import annotations

from typing import Any

from gocdnext.api.wire.base import Id, Time, Wire


class Delivery(Wire):
    id: int
    provider: str
    event: str
    status: str
    http_status: int
    received_at: Time
    material_id: Id | None = None
    error: str | None = None
    delivery: str | None = None
    """The provider's own id of it."""
    runs: list[Id] = []
    redelivery_of: int | None = None


class Deliveries(Wire):
    deliveries: list[Delivery]
    total: int
    limit: int
    offset: int


class Note(Wire):
    """What one rule said."""

    rule: str
    passed: bool
    said: str
    pipeline: str = ""


class DeliveryDetail(Delivery, kw_only=True):
    verified: bool
    headers: dict[str, str]
    payload: Any
    trace: list[Note]
