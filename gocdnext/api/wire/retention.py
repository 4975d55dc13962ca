"""What sweepers have done and will do, what is pinned, whether logs are archived (contract-admin 6.1, 7.4). No logic here."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gocdnext.api.wire.base import Time, Wire


class SweeperReport(Wire, kw_only=True):
    """One sweeper since the process began."""

    name: str
    last_at: Time | None = None
    last_error: str = ""
    """Why its last pass failed."""
    last_stats: dict[str, int]
    totals: dict[str, int]
    passes: int
    failures: int


class Retention(Wire, kw_only=True):
    """What is kept for how long, and what the sweepers of this process have done since it began.

    `tick` and `cache_ttl` are nanoseconds; 0 is no limit.
    """

    enabled: bool
    tick: int
    batch_size: int
    grace_minutes: int
    keep_last: int
    keep_newest: int
    project_quota_bytes: int
    global_quota_bytes: int
    cache_ttl: int
    cache_project_quota_bytes: int
    cache_global_quota_bytes: int
    log_retention: int
    """Nanoseconds; 0 = for ever."""
    log_archive: str
    last_sweep_at: Time | None = None
    """Absent before the first pass over artifacts and caches."""
    last_stats: dict[str, int]
    totals: dict[str, int]
    sweepers: list[SweeperReport]


class PlanGroup(Wire, kw_only=True, omit_defaults=False):
    """Things of one kind that go, or stay, for one reason."""

    kind: Literal["artifacts", "uploads", "caches", "blobs", "log_lines", "deliveries"]
    reason: str
    """For programs."""
    why: str
    """For people, with the variable that decides."""
    count: int
    bytes: int
    """0 where nobody knows."""
    oldest: Time | None


class RetentionPlan(Wire, kw_only=True, omit_defaults=False):
    """What the next passes of the sweepers remove, computed by doing it and taking it back."""

    computed_at: Time
    complete: bool
    """Whether everything was looked at; otherwise there is more."""
    count: int
    bytes: int
    goes: list[PlanGroup]
    stays: list[PlanGroup]
    """What a rule would take, and why it stays all the same."""


class Pins(Wire):
    """Paths of artifacts as the list shows them; none is all of the run's."""

    paths: Annotated[list[Annotated[str, Meta(max_length=4096)]], Meta(max_length=1000)] = []


class PinsChanged(Wire, kw_only=True, omit_defaults=False):
    """How many artifacts."""

    changed: int


class LogArchiveBody(Wire):
    """Absent or null: as the server does."""

    enabled: bool | None = None


class LogArchive(Wire, kw_only=True, omit_defaults=False):
    """Whether logs of a project are archived."""

    enabled: bool | None
    global_policy: Literal["auto", "on", "off"]
    has_artifact_backend: bool
