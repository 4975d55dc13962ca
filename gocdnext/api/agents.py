"""`/api/v1/agents`: the fleet as the database knows it (contract-runs 8.2), and its administration."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Blueprint, Response

from gocdnext.api import params, query, render, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer, nothing
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.auth import agents
from gocdnext.projects import read

blueprint = Blueprint("agents", __name__)


class AgentQuery(msgspec.Struct):
    jobs: Annotated[int, Meta(ge=1, le=200, description="How many of its newest jobs.")] = 50


@route(blueprint, "GET", "/api/v1/agents", described=Description(asks=query.Paged, gives=wire.Agents))
async def list_agents() -> Response:
    """All agents by name."""
    here = services()
    page = query.asked(query.Paged)
    now, rows = here.clock(), await read.agents(here.db, page.limit, page.offset)
    return answer(wire.Agents(agents=[render.agent(row, now) for row in rows]))


@route(blueprint, "GET", "/api/v1/agents/<agent_id>", described=Description(asks=AgentQuery, gives=wire.AgentDetail))
async def show_agent(agent_id: str) -> Response:
    """One agent and its newest jobs."""
    here = services()
    jobs = query.asked(AgentQuery).jobs
    row, history = await read.agent(here.db, params.uuid(agent_id), jobs)
    return answer(
        wire.AgentDetail(agent=render.agent(row, here.clock()), jobs=[render.agent_job(job) for job in history])
    )


@route(
    blueprint,
    "POST",
    "/api/v1/agents",
    Audited("agent.create", "agent"),
    described=Description(
        takes=wire.NewAgentBody, optional=True, gives=wire.AgentToken, status=201, stored=False, fails=frozenset({409})
    ),
)
async def create_agent() -> Response:
    """A new agent with a token of its own; 409 when there is one of this name."""
    here = services()
    body = await params.optional_body(wire.NewAgentBody)
    note(name=body.name)
    made = await agents.create(here.db, here.new_id(), body.name, here.clock())
    note(target=str(made.agent_id))
    return _token(made, 201)


@route(
    blueprint,
    "POST",
    "/api/v1/agents/<agent_id>/token",
    Audited("agent.token", "agent", "{agent_id}"),
    described=Description(gives=wire.AgentToken, stored=False),
)
async def new_token(agent_id: str) -> Response:
    """Another token for an agent; a session that it has goes on."""
    return _token(await agents.change_token(services().db, params.uuid(agent_id)), 200)


@route(
    blueprint,
    "POST",
    "/api/v1/agents/<agent_id>/disable",
    Audited("agent.disable", "agent", "{agent_id}"),
    described=Description(status=204),
)
async def disable_agent(agent_id: str) -> Response:
    """No more work for the agent, at once and on every server; what it runs goes on."""
    return await _set_disabled(agent_id, disabled=True)


@route(
    blueprint,
    "POST",
    "/api/v1/agents/<agent_id>/enable",
    Audited("agent.enable", "agent", "{agent_id}"),
    described=Description(status=204),
)
async def enable_agent(agent_id: str) -> Response:
    """Work for the agent again."""
    return await _set_disabled(agent_id, disabled=False)


async def _set_disabled(agent_id: str, *, disabled: bool) -> Response:
    here = services()
    await agents.set_disabled(here.db, params.uuid(agent_id), disabled, here.clock())
    return nothing()


def _token(made: agents.NewToken, status: int) -> Response:
    response = answer(wire.AgentToken(id=str(made.agent_id), token=made.token), status)
    response.headers["Cache-Control"] = "no-store"
    return response
