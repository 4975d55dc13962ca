"""`/api/v1/projects/{slug}/vsm`: the value stream map (contract-runs 2.3)."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

from quart import Blueprint, Response

from gocdnext.api import explained, render, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer, utc
from gocdnext.api.routing import Description, route
from gocdnext.materials.git import without_credentials
from gocdnext.projects.value_stream import ValueStream, value_stream
from gocdnext.runs.waiting import NOTHING, Reasons

blueprint = Blueprint("value_stream", __name__)


@route(blueprint, "GET", "/api/v1/projects/<slug>/vsm", described=Description(gives=wire.ValueStream))
async def show_value_stream(slug: str) -> Response:
    """What starts what in a project, and how long it waits."""
    here = services()
    now = here.clock()
    found = await value_stream(here.db, here.figures, slug, now)
    reasons, _ = await explained.reasons_of(((row["run_id"], row["open_jobs"]) for row in found.pipelines), "vsm")
    message = wire.ValueStream(
        project_id=str(found.project["id"]),
        project_slug=found.project["slug"],
        project_name=found.project["name"],
        nodes=[_node(found, row, reasons.get(row["run_id"], NOTHING)) for row in found.pipelines],
        edges=list(_edges(found)),
        generated_at=utc(now),
    )
    return answer(message)


def _node(found: ValueStream, row: render.Row, reasons: Reasons) -> wire.VsmNode:
    source = found.sources[row["id"]]
    return wire.VsmNode(
        pipeline_id=str(row["id"]),
        name=row["name"],
        definition_version=row["definition_version"],
        has_services=source["has_services"],
        git_materials=[_repository(entry) for entry in source["repositories"] or ()],
        latest_run=render.latest_run(row, reasons),
        metrics=render.pipeline_metrics(row, found.figures[row["id"]]),
    )


def _repository(entry: dict[str, Any]) -> wire.GitMaterial:
    """Every viewer sees it, so never with the credentials that a file may have."""
    return wire.GitMaterial(url=without_credentials(entry["url"]), branch=entry["branch"] or "")


def _edges(found: ValueStream) -> Iterator[wire.VsmEdge]:
    """One for each upstream material, in the order of the pipelines they start."""
    ids = {row["name"]: row["id"] for row in found.pipelines}
    for row in sorted(found.pipelines, key=itemgetter("id")):
        for config in row["upstreams"] or ():
            upstream = ids.get(config["pipeline"])
            wait = None if upstream is None else found.waits.get((upstream, row["id"]))
            yield wire.VsmEdge(
                from_pipeline=config["pipeline"],
                to_pipeline=row["name"],
                stage=config.get("stage", ""),
                status=config.get("status", ""),
                wait_time_p50_seconds=None if wait is None else wait.p50_seconds,
                wait_samples=0 if wait is None else wait.samples,
            )
