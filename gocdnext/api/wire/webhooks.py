"""Deliveries of webhooks as people read them (contract-admin 7.7). No logic here."""

from __future__ import annotations

from typing import Any

from gocdnext.api.wire.base import Error, Id, Time, Wire


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


class StartedRun(Wire):
    """A run that a delivery has started."""

    pipeline_id: Id
    material_id: Id
    run_id: Id
    run_counter: int


class Drift(Wire):
    """What a push did to the configuration of projects."""

    applied: bool = False
    error: str = ""
    revision: str = ""


class Received(Wire):
    """What a provider is told of its delivery (contract-admin 8.3): the runs, or why there are none."""

    runs: list[Id] | None = None
    run_details: list[StartedRun] | None = None
    materials: int = 0
    """How many materials of pipelines it concerned."""
    filtered_by_paths: int = 0
    filtered_by_event: int = 0
    skipped_by: str = ""
    """The marker in the commit message that asks for no runs."""
    tag: str = ""
    pr_number: int = 0
    drift: Drift | None = None
    warning: str = ""
    """Why a push that was taken starts nothing."""


class Blocked(Error):
    """What GitHub is told of a request whose own configuration is not to be had."""

    runs: list[Id] = []
    """The runs that were started all the same, of projects that do not ask for it."""
    pr_number: int = 0


class DeliveryForm(Wire):
    """A delivery of a provider that sends forms."""

    payload: str
    """The JSON."""
