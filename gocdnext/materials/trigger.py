"""Starting a run by hand (spec-pipelines 9.9, contract-runs 5.2): which revision it takes, then `RunService.create`.

The newest commit is asked of the repository first. What is asked never holds a database connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Protocol
from uuid import UUID

import asyncpg
import structlog

from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.errors import NotFoundError, UnprocessableError
from gocdnext.materials import git
from gocdnext.materials.remotes import AskHeads, ask_heads
from gocdnext.pipeline.identity import material_id
from gocdnext.runs.creation import CreatedRun, NewRun, check_triggered_by
from gocdnext.runs.state import Revision

_SQL = queries.load("materials")
_LOG = structlog.get_logger(__name__)
NO_MORE: Mapping[str, object] = MappingProxyType({})


class Runs(Protocol):
    """What this module asks of the runs room."""

    async def create(self, new: NewRun) -> CreatedRun:
        """Makes a run. Raises NotFoundError, UnprocessableError."""


@dataclass(frozen=True, slots=True)
class _Modification:
    id: int
    material_id: UUID
    revision: str
    branch: str


async def trigger(
    db: Database,
    runs: Runs,
    pipeline_id: UUID,
    triggered_by: str,
    *,
    clock: Callable[[], datetime],
    more: Mapping[str, object] = NO_MORE,
    ask: AskHeads = ask_heads,
) -> CreatedRun:
    """Starts a run of a pipeline by hand; an empty `triggered_by` means `manual`, `more` is added to its `cause_detail`.

    Raises NotFoundError (no such pipeline), UnprocessableError (nothing is known of its repository and it cannot be
    asked, or the pipeline has no stages), InvalidError (a name that cannot be stored).
    """
    check_triggered_by(triggered_by)
    rows = await db.fetch(_SQL.materials_of_pipeline, pipeline_id)
    if not rows:
        raise NotFoundError("pipeline not found")
    materials = [row for row in rows if row["id"] is not None]
    by = triggered_by or "manual"
    head, reason = await _refresh(db, materials, clock, ask)
    from_upstream = await _from_upstream(db, pipeline_id, materials, by)
    if from_upstream is not None:
        return await runs.create(_with(from_upstream, more))
    chosen = head or _newest(materials)
    if chosen is None and reason:
        raise UnprocessableError(reason)
    return await runs.create(_with(_manual(pipeline_id, chosen, by), more))


def _with(new: NewRun, more: Mapping[str, object]) -> NewRun:
    return replace(new, cause_detail={**new.cause_detail, **more})


async def _refresh(
    db: Database, materials: list[asyncpg.Record], clock: Callable[[], datetime], ask: AskHeads
) -> tuple[_Modification | None, str]:
    """The head of the first git material, recorded as a modification; or None and why there is none."""
    first = next((row for row in materials if row["type"] == "git"), None)
    if first is None:
        return None, ""
    url, branch = first["config"]["url"], first["config"].get("branch") or "main"
    try:
        revision = git.the_one(await ask(url, (branch,), first["project_id"]), branch)
    except git.GitError as error:
        shown = git.without_credentials(url)
        _LOG.info("head of a material is not known", material=str(first["id"]), url=shown, reason=str(error))
        return None, (
            f"pipeline has no modifications yet, and branch {branch!r} of {shown} cannot be read: {error}; "
            "push to a matched material, or make the repository reachable from the server"
        )
    message = "seeded from the branch head by a manual start"
    found = await db.fetchval(_SQL.record_modification, first["id"], revision, branch, message, clock())
    if found is None:
        # Another start recorded it between the two halves of the statement; now it is there.
        found = await db.fetchval(_SQL.record_modification, first["id"], revision, branch, message, clock())
    return _Modification(found, first["id"], revision, branch), ""


def _newest(materials: list[asyncpg.Record]) -> _Modification | None:
    """The newest known modification of any material."""
    known = [row for row in materials if row["modification_id"] is not None]
    if not known:
        return None
    row = max(known, key=lambda row: (row["detected_at"], row["modification_id"]))
    return _Modification(row["modification_id"], row["id"], row["revision"], row["branch"])


def _manual(pipeline_id: UUID, chosen: _Modification | None, by: str) -> NewRun:
    detail: dict[str, object] = {"provider": "api", "delivery": f"manual-{pipeline_id}"}
    if chosen is None:
        return NewRun(pipeline_id=pipeline_id, cause="manual", triggered_by=by, cause_detail=detail)
    detail |= {"material_id": str(chosen.material_id), "modification_id": chosen.id}
    return NewRun(
        pipeline_id=pipeline_id,
        cause="manual",
        triggered_by=by,
        revisions={str(chosen.material_id): Revision(chosen.revision, chosen.branch)},
        cause_detail=detail,
        ref=chosen.branch,
    )


async def _from_upstream(db: Database, pipeline_id: UUID, materials: list[asyncpg.Record], by: str) -> NewRun | None:
    """The run that follows the newest green run upstream, if there is one and exactly one upstream material."""
    upstream = [row for row in materials if row["type"] == "upstream"]
    if len(upstream) != 1:
        return None
    config: dict[str, Any] = upstream[0]["config"]
    green = await db.fetchrow(
        _SQL.newest_green_upstream, upstream[0]["project_id"], config["pipeline"], config["stage"]
    )
    if green is None:
        return None
    revisions = _translated(green["revisions"], green["fingerprints"] or {}, pipeline_id, materials)
    revisions[str(upstream[0]["id"])] = Revision(str(green["id"]), "")
    return NewRun(
        pipeline_id=pipeline_id,
        cause="manual",
        triggered_by=by,
        revisions=revisions,
        cause_detail={
            "provider": "api",
            "delivery": f"manual-{pipeline_id}",
            "upstream_run_id": str(green["id"]),
            "upstream_run_counter": green["counter"],
            "upstream_pipeline": config["pipeline"],
            "upstream_stage": config["stage"],
            "resolved_upstream": True,
        },
        ref=green["ref"],
    )


def _translated(
    revisions: dict[str, dict[str, str]],
    fingerprints: dict[str, str],
    pipeline_id: UUID,
    materials: list[asyncpg.Record],
) -> dict[str, Revision]:
    """The upstream's revisions; those of a material that this pipeline has too go under its own id (design 9, 7)."""
    own = {row["fingerprint"] for row in materials}
    inherited: dict[str, Revision] = {}
    for key, entry in revisions.items():
        fingerprint = fingerprints.get(key)
        name = str(material_id(pipeline_id, fingerprint)) if fingerprint in own and fingerprint else key
        inherited[name] = Revision(entry["revision"], entry.get("branch", ""))
    return inherited
