"""The new run that repeats a finished one (contract-runs 3.10). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from gocdnext.errors import ConflictError, UnprocessableError
from gocdnext.runs.assignment import primary_revision
from gocdnext.runs.creation import NewRun, check_triggered_by
from gocdnext.runs.state import OPEN, Revision, Run

GONE = "cannot replay this run: source revision is no longer available"
_OWN_KEYS = frozenset({"provider", "delivery", "material_id", "modification_id"})


def replay(run: Run, triggered_by: str) -> NewRun:
    """All revisions and the cause of `run` once more. Raises InvalidError, ConflictError, UnprocessableError."""
    check_triggered_by(triggered_by)
    if run.status in OPEN:
        raise ConflictError("run is still active (queued/running) — cannot rerun")
    if run.cause_detail.get("config_source") == "pr_head":
        raise UnprocessableError("a PR-head run cannot be fully rerun: push to the pull request, or rerun its jobs")
    if not run.revisions:
        raise UnprocessableError(GONE)
    kept = {key: value for key, value in run.cause_detail.items() if key not in _OWN_KEYS}
    number = run.cause_detail.get("pr_number")
    lane = f"pr:{number}" if run.cause == "pull_request" and isinstance(number, int) and number > 0 else ""
    return NewRun(
        pipeline_id=run.pipeline_id,
        cause=run.cause or "manual",
        triggered_by=triggered_by or f"rerun:{run.id}",
        revisions=run.revisions,
        cause_detail={**kept, "provider": "api", "delivery": f"rerun-{run.id}", "rerun_of": str(run.id)},
        ref=lane or primary_revision(run.revisions).branch,
    )


def source_of(revisions: Mapping[str, Revision]) -> tuple[UUID, Revision] | None:
    """The material by whose revision a run is known; None for one that only follows another run, or a revision of none."""
    found = next(((key, revisions[key]) for key in sorted(revisions) if revisions[key].branch), None)
    return None if found is None else (UUID(found[0]), found[1])


def known_as(new: NewRun, material: UUID, modification: int | None) -> NewRun:
    """The run with the record of its revision; without one its material is gone. Raises UnprocessableError."""
    if modification is None:
        raise UnprocessableError(GONE)
    own = {"material_id": str(material), "modification_id": modification}
    return replace(new, cause_detail={**new.cause_detail, **own})
