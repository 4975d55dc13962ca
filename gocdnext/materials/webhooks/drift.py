"""What a push does to the configuration of the projects whose repository it goes to (contract-admin 9.1).

The projects room does it; here is what it is asked and what it answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gocdnext.materials.arrivals import Arrival
from gocdnext.materials.webhooks.events import BranchPush, Request
from gocdnext.materials.webhooks.trace import Trace

RULE = "config sync"
"""The name of this rule in traces."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What became of reading the configuration: the commit that was read, or why what was in force still is."""

    applied: bool
    error: str
    revision: str

    def told(self) -> dict[str, object]:
        """As the provider is told."""
        return {"applied": self.applied, "error": self.error, "revision": self.revision}


class Configurations(Protocol):
    """What webhooks ask of the projects room."""

    async def pushed(self, push: BranchPush, trace: Trace) -> Drift | None:
        """Reads the configuration that a push may have changed; None when there was nothing to read. Never fails."""

    async def changed_files(self, request: Request, trace: Trace) -> frozenset[str] | None:
        """The files that a pull request of GitHub changes; None when they are not known. Never fails."""

    async def proposed(self, request: Request, arrivals: Sequence[Arrival], trace: Trace) -> Proposed:
        """The runs of a request from a branch of the same repository: from the configuration that it brings, where the
        project asks for that (8.7)."""


def together(drifts: Sequence[Drift]) -> Drift | None:
    """What several projects on one repository had, as one."""
    if not drifts:
        return None
    errors = dict.fromkeys(drift.error for drift in drifts if drift.error)
    return Drift(all(drift.applied for drift in drifts), "; ".join(errors), drifts[-1].revision)


@dataclass(frozen=True, slots=True)
class Proposed:
    """What a pull request's own configuration means for the runs that it asks for (8.7)."""

    arrivals: tuple[Arrival, ...]
    """Those of the stored definitions first, then those of the request's own."""
    status: int = 0
    """Of a refusal: the others run all the same."""
    error: str = ""
