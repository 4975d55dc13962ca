"""`/api/v1/agents`: the fleet as the database knows it (contract-runs 8.2)."""

from __future__ import annotations

from quart import Blueprint, Response

from gocdnext.api import params, render, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer
from gocdnext.api.routing import route
from gocdnext.projects import read

blueprint = Blueprint("agents", __name__)

DEFAULT_JOBS = 50
MAX_JOBS = 200


@route(blueprint, "GET", "/api/v1/agents")
async def list_agents() -> Response:
    """All agents by name."""
    here = services()
    limit, offset = params.page()
    now = here.clock()
    return answer(wire.Agents(agents=[render.agent(row, now) for row in await read.agents(here.db, limit, offset)]))


@route(blueprint, "GET", "/api/v1/agents/<agent_id>")
async def show_agent(agent_id: str) -> Response:
    """One agent and its newest jobs."""
    here = services()
    jobs = params.whole("jobs", DEFAULT_JOBS, low=1, high=MAX_JOBS)
    row, history = await read.agent(here.db, params.uuid(agent_id), jobs)
    return answer(
        wire.AgentDetail(agent=render.agent(row, here.clock()), jobs=[render.agent_job(job) for job in history])
    )
