"""`/api/v1/pipelines`: the source text, starting a run by hand (contract-runs 5)."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Response, request

from gocdnext.api import params, wire
from gocdnext.api.context import services
from gocdnext.api.respond import JSON, answer, prefers, text
from gocdnext.api.routing import Answer, Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.materials.trigger import trigger
from gocdnext.pipeline import json_schema
from gocdnext.projects import read

blueprint = Blueprint("pipelines", __name__)

TEXT_TYPES = ("text/yaml", "application/yaml", "text/plain")


@route(
    blueprint,
    "GET",
    "/api/v1/pipelines/<pipeline_id>/yaml",
    described=Description(
        gives=wire.PipelineYaml,
        stored=False,
        also=tuple(Answer(gives=Any, media=f"{kind}; charset=utf-8") for kind in TEXT_TYPES),
    ),
)
async def pipeline_yaml(pipeline_id: str) -> Response:
    """The text the pipeline was applied with, byte for byte (5.1)."""
    source = await read.pipeline_source(services().db, params.uuid(pipeline_id))
    wanted = prefers(request, TEXT_TYPES, JSON)
    if wanted is None:
        response = answer(wire.PipelineYaml(yaml=source, reconstructed=False))
    else:
        response = text(source, content_type=f"{wanted}; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"
    response.headers.add("Vary", "Accept")
    return response


@route(
    blueprint,
    "POST",
    "/api/v1/pipelines/<pipeline_id>/trigger",
    Audited("run.trigger", "pipeline", "{pipeline_id}"),
    described=Description(
        takes=wire.TriggerBody, optional=True, gives=wire.Triggered, status=202, fails=frozenset({422, 502})
    ),
)
async def trigger_pipeline(pipeline_id: str) -> Response:
    """Starts a run by hand (5.2)."""
    here = services()
    pipeline = params.uuid(pipeline_id, "invalid pipeline id")
    body = await params.optional_body(wire.TriggerBody)
    made = await trigger(
        here.db, here.runs, pipeline, body.triggered_by or "", clock=here.clock, ask=here.configs.remotes.heads
    )
    note(run_id=str(made.run_id), counter=made.counter)
    message = wire.Triggered(
        id=str(made.run_id),
        run_id=str(made.run_id),
        counter=made.counter,
        pipeline_id=str(made.pipeline_id),
    )
    return answer(message, 202)


@route(
    blueprint,
    "GET",
    "/api/v1/schema/pipeline.json",
    described=Description(gives=dict[str, Any], media="application/schema+json"),
)
async def pipeline_schema() -> Response:
    """The JSON schema of pipeline files, for editors."""
    return Response(json_schema.encoded(), content_type="application/schema+json")
