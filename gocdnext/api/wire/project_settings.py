"""Settings of projects: notifications, labels, caches (contract-admin 6). No logic here."""

from __future__ import annotations

import msgspec

from gocdnext.api.wire.base import Id, Time, Wire
from gocdnext.api.wire.projects import Label


class Notification(Wire):
    on: str
    uses: str
    with_: dict[str, str] = msgspec.field(default_factory=dict, name="with")
    secrets: list[str] = []


class Notifications(Wire):
    """6.3."""

    notifications: list[Notification]


class NotificationsBody(Wire):
    notifications: list[NotificationBody] | None = None


class NotificationBody(Wire):
    on: str = ""
    uses: str = ""
    with_: dict[str, str] | None = msgspec.field(default=None, name="with")
    secrets: list[str] | None = None


class Labels(Wire):
    """6.6."""

    labels: list[Label]


class LabelBody(Wire):
    key: str = ""
    value: str = ""


class LabelsBody(Wire):
    labels: list[LabelBody] | None = None


class Cache(Wire):
    """6.4."""

    id: Id
    key: str
    size_bytes: int
    status: str
    created_at: Time
    updated_at: Time
    last_accessed_at: Time
    content_sha256: str = ""


class Caches(Wire):
    caches: list[Cache]
    total_bytes: int
