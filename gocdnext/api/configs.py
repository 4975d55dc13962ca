"""`/api/v1/projects/{slug}/sync`, `pr-head-config`: configuration from repositories (contract-runs 2.5)."""

from __future__ import annotations

from quart import Blueprint, Response

from gocdnext.api import params, render, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.errors import InvalidError
from gocdnext.materials import polling
from gocdnext.projects import trust

blueprint = Blueprint("configs", __name__)


@route(
    blueprint,
    "POST",
    "/api/v1/projects/<slug>/sync",
    Audited("project.sync", "project", "{slug}"),
    Description(gives=wire.Synced, fails=frozenset({409, 422, 502})),
)
async def sync(slug: str) -> Response:
    """Reads the project's configuration from its repository and applies it, then looks at all its git materials: a head that
    nobody knew starts a run (2.5)."""
    here = services()
    project_id, result = await here.configs.sync_if_bound(slug)
    looked = await polling.look_now(here.db, here.runs, slug, clock=here.clock, ask=here.configs.remotes.heads)
    removed = () if result is None else result.stored.removed
    note(
        slug=slug,
        pipelines=0 if result is None else len(result.stored.pipelines),
        pipelines_removed=len(removed),
        runs=len(looked.runs),
    )
    return answer(render.synced(slug, project_id, result, looked))


@route(
    blueprint,
    "GET",
    "/api/v1/projects/<slug>/pr-head-config",
    described=Description(gives=wire.PrHeadConfig),
)
async def show_trust(slug: str) -> Response:
    """Whether pull requests from branches of the project's repository run with the configuration that they bring."""
    return answer(wire.PrHeadConfig(enabled=await trust.trusted(services().db, slug)))


@route(
    blueprint,
    "PUT",
    "/api/v1/projects/<slug>/pr-head-config",
    Audited("project_trust_same_repo_pr_config.set", "project", "{slug}"),
    Description(takes=wire.PrHeadConfigBody, gives=wire.PrHeadConfig),
)
async def set_trust(slug: str) -> Response:
    """Sets that. Whoever can push a branch can then change what runs with the project's secrets, so only admins may."""
    here = services()
    wanted = params.json_object(await params.body(), wire.PrHeadConfigBody)
    if wanted.enabled is None:
        raise InvalidError("field 'enabled' (bool) is required")
    await trust.set_trusted(here.db, slug, wanted.enabled, here.clock())
    note(slug=slug, enabled=wanted.enabled)
    return answer(wire.PrHeadConfig(enabled=wanted.enabled))
