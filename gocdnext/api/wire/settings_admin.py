"""Settings of the server: credentials for hosts of repositories, runner profiles; its health (contract-admin 7)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from gocdnext.api.wire.base import Id, Time, Wire
from gocdnext.pipeline.model import Toleration
from gocdnext.pipeline.profiles import Affinity, Expression


class Credential(Wire):
    """7.9. The token itself is told nobody."""

    id: Id
    provider: str
    host: str
    created_at: Time
    updated_at: Time
    api_base: str = ""
    display_name: str = ""
    auth_ref_preview: str = ""


class Credentials(Wire):
    credentials: list[Credential]


class CredentialBody(Wire):
    provider: str | None = None
    host: str | None = None
    api_base: str | None = None
    display_name: str | None = None
    auth_ref: str | None = None


class Profile(Wire):
    """7.11. The values of secrets are told nobody."""

    id: Id
    name: str
    description: str
    engine: str
    default_image: str
    default_cpu_request: str
    default_cpu_limit: str
    default_mem_request: str
    default_mem_limit: str
    max_cpu: str
    max_mem: str
    tags: list[str]
    node_selector: dict[str, str]
    tolerations: list[dict[str, Any]]
    preferred_node_affinity: list[dict[str, Any]]
    env: dict[str, str]
    secret_keys: list[str]
    secret_refs: dict[str, str]
    created_at: Time
    updated_at: Time
    config: dict[str, Any] = {}


class Profiles(Wire):
    profiles: list[Profile]


class ProfileToleration(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None
    toleration_seconds: int | None = None

    def kept(self) -> Toleration:
        """As it is kept: `Equal` is said."""
        return Toleration(
            key=self.key or "",
            operator=self.operator or "Equal",
            value=self.value or "",
            effect=self.effect or "",
            toleration_seconds=self.toleration_seconds,
        )


class ProfileExpression(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    key: str
    operator: str
    values: list[str] | None = None


class ProfileAffinity(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    weight: int
    match_expressions: list[ProfileExpression]

    def kept(self) -> Affinity:
        """As it is kept."""
        return Affinity(
            weight=self.weight,
            match_expressions=tuple(
                Expression(key=one.key, operator=one.operator, values=tuple(one.values or ()))
                for one in self.match_expressions
            ),
        )


class ProfileBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Strict: an unknown key is a mistake."""

    name: str | None = None
    description: str | None = None
    engine: str | None = None
    default_image: str | None = None
    default_cpu_request: str | None = None
    default_cpu_limit: str | None = None
    default_mem_request: str | None = None
    default_mem_limit: str | None = None
    max_cpu: str | None = None
    max_mem: str | None = None
    tags: list[str] | None = None
    config: dict[str, Any] | None = None
    node_selector: dict[str, str] | None = None
    tolerations: list[ProfileToleration] | None = None
    preferred_node_affinity: list[ProfileAffinity] | None = None
    env: dict[str, str] | None = None
    secrets: dict[str, str] | None = None


class DiskHealth(Wire, kw_only=True, omit_defaults=False):
    """Room on a disk, and what is left out for want of it."""

    name: Literal["state", "artifacts"]
    path: str
    free_bytes: int
    total_bytes: int
    level: Literal["ok", "no_uploads", "no_jobs", "no_lines"]
    text: str
    """What that means and what to do; empty while there is enough."""


class AdminHealth(Wire):
    """7.6."""

    db_ok: bool
    db_error: str
    agents_online: int
    agents_stale: int
    agents_offline: int
    queued_runs: int
    pending_jobs: int
    success_rate_7d: float
    checked_at: Time
    scheduler_tick_lag_seconds: float | None
    scheduler_last_tick_at: Time | None
    disks: list[DiskHealth] = []
    """The disks that this server writes to."""
