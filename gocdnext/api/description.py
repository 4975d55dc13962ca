"""`/api/v1/openapi.yaml` and `.json`: the document of this API (contract-runs 10).

It is made once, when it is first asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import trio
from quart import Blueprint, Response, current_app

from gocdnext.api import openapi
from gocdnext.api.respond import JSON
from gocdnext.api.routing import Description, route

blueprint = Blueprint("document", __name__)

YAML = "application/yaml; charset=utf-8"
CACHED = "public, max-age=300"
"""As the reference has it."""
_EXTENSION = "gocdnext.document"


@dataclass(frozen=True, slots=True)
class Made:
    """The document in every form."""

    value: dict[str, Any]
    json: bytes
    yaml: bytes


@route(blueprint, "GET", "/api/v1/openapi.yaml", described=Description(gives=dict[str, Any], media=YAML))
async def openapi_yaml() -> Response:
    """This document as YAML."""
    return _cached((await made()).yaml, YAML)


@route(blueprint, "GET", "/api/v1/openapi.json", described=Description(gives=dict[str, Any]))
async def openapi_json() -> Response:
    """This document as JSON."""
    return _cached((await made()).json, JSON)


async def made() -> Made:
    """The document of the application at hand."""
    app = current_app
    if _EXTENSION not in app.extensions:
        value = openapi.document(app)
        encoded, text = await trio.to_thread.run_sync(lambda: (openapi.encoded(value), openapi.as_yaml(value)))
        app.extensions[_EXTENSION] = Made(value, encoded, text)
    return cast("Made", app.extensions[_EXTENSION])


def _cached(body: bytes, content_type: str) -> Response:
    return Response(body, 200, headers={"Cache-Control": CACHED}, content_type=content_type)
