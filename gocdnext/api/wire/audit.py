"""The audit trail as administrators read it (contract-admin 7.3). No logic here."""

from __future__ import annotations

from gocdnext.api.wire.base import Id, Time, Wire
from gocdnext.audit import Detail


class AuditEvent(Wire):
    """One act, and what came of it."""

    id: Id
    action: str
    target_type: str
    metadata: dict[str, Detail]
    at: Time
    outcome: str
    actor_id: Id | None = None
    actor_email: str = ""
    actor_name: str = ""
    target_id: str = ""
    status: int | None = None
    address: str = ""
    request_id: str = ""


class AuditEvents(Wire):
    events: list[AuditEvent]
    total: int
    limit: int
    offset: int
