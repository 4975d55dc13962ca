"""What sweepers have done, and whether logs are archived (contract-admin 6.1, 7.4). No logic here."""

from __future__ import annotations

from typing import Literal

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


class LogArchiveBody(Wire):
    """Absent or null: as the server does."""

    enabled: bool | None = None


class LogArchive(Wire, kw_only=True, omit_defaults=False):
    """Whether logs of a project are archived."""

    enabled: bool | None
    global_policy: Literal["auto", "on", "off"]
    has_artifact_backend: bool
