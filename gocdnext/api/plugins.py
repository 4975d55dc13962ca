"""`/api/v1/plugins`: the catalogue as it was read at start (contract-runs 7.1)."""

from __future__ import annotations

from quart import Blueprint, Response

from gocdnext.api import query, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer
from gocdnext.api.routing import Description, route
from gocdnext.pipeline.plugins import Manifest

blueprint = Blueprint("plugins", __name__)


@route(blueprint, "GET", "/api/v1/plugins", described=Description(asks=query.Paged, gives=wire.Plugins))
async def list_plugins() -> Response:
    """All plugins by name."""
    page = query.asked(query.Paged)
    return answer(
        wire.Plugins(plugins=[_plugin(manifest) for manifest in list(services().catalogue.values())[page.part]])
    )


def _plugin(manifest: Manifest) -> wire.Plugin:
    return wire.Plugin(
        name=manifest.name,
        description=manifest.description,
        category=manifest.category,
        inputs=[
            wire.PluginInput(
                name=entry.name, required=entry.required, default=entry.default, description=entry.description
            )
            for entry in manifest.inputs
        ],
        examples=[
            wire.PluginExample(name=entry.name, description=entry.description, yaml=entry.yaml)
            for entry in manifest.examples
        ],
    )
