"""`agents list`, `show`, `disable`, `enable`, `token`: the fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gocdnext.cli.common import Failure, Target, print_json, target_options
from gocdnext.cli.table import print_line
from gocdnext.cli.terminal import duration, moment, safe

if TYPE_CHECKING:
    from gocdnext.client import Client
    from gocdnext.client.messages import Agent

agent_argument = click.argument("agent", metavar="AGENT")


@click.group()
def agents() -> None:
    """Look at agents, disable and enable them, make tokens. AGENT is a name or an id."""


@agents.command("list")
@target_options
def list_(target: Target) -> None:
    """List the agents by name."""
    with target.client("asking for agents") as client:
        found = client.agents()
    if target.as_json:
        print_json(found)
        return
    for agent in found["agents"]:
        print_line(agent["name"], *_state(agent), ",".join(agent["tags"]) or "-", agent["id"])


@agents.command()
@target_options
@agent_argument
def show(target: Target, agent: str) -> None:
    """Show an agent and its newest jobs."""
    with target.client("asking for the agent") as client:
        found = client.agent(_agent_id(client, agent))
    if target.as_json:
        print_json(found)
        return
    one = found["agent"]
    print_line(one["name"], *_state(one), ",".join(one["tags"]) or "-", one["id"])
    for job in found["jobs"]:
        where = f"{job['project_slug']}/{job['pipeline_name']}#{job['run_counter']}"
        took = duration(job.get("started_at"), job.get("finished_at"))
        print_line("  " + where, job["job_name"], job["job_status"], took)


@agents.command()
@target_options
@agent_argument
def disable(target: Target, agent: str) -> None:
    """Give an agent no more work; what it runs goes on."""
    _set(target, agent, disabled=True)


@agents.command()
@target_options
@agent_argument
def enable(target: Target, agent: str) -> None:
    """Give an agent work again."""
    _set(target, agent, disabled=False)


@agents.command()
@target_options
@agent_argument
def token(target: Target, agent: str) -> None:
    """Make a token for an agent and print it, once. An agent that does not exist yet is made.

    An agent that had a token needs the new one when it registers next.
    """
    with target.client("making a token") as client:
        known = _find(client, agent)
        made = client.create_agent(agent) if known is None else client.new_agent_token(known)
    if target.as_json:
        print_json(made)
    else:
        click.echo(made["token"])


def _set(target: Target, name: str, *, disabled: bool) -> None:
    with target.client("telling the server") as client:
        agent_id = _agent_id(client, name)
        client.set_agent(agent_id, disabled=disabled)
    word = "disabled" if disabled else "enabled"
    if target.as_json:
        print_json({"id": agent_id, "status": word})
    else:
        print_line(f"{word} {name}")


def _find(client: Client, name: str) -> str | None:
    known = client.agents()["agents"]
    return next((str(agent["id"]) for agent in known if name in (agent["name"], agent["id"])), None)


def _agent_id(client: Client, name: str) -> str:
    if (found := _find(client, name)) is None:
        raise Failure(f"there is no agent {safe(name, colours=False)}. See: gocdnext agents list")
    return found


def _state(agent: Agent) -> tuple[str, ...]:
    state = "disabled" if agent["status"] == "disabled" else agent["health_state"]
    return state, f"{agent['running_jobs']}/{agent['capacity']}", moment(agent.get("last_seen_at"))
