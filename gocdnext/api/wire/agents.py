"""Agents (contract-runs 8.2). No logic here."""

from __future__ import annotations

from gocdnext.api.wire.base import Id, Time, Wire


class Agent(Wire):
    id: Id
    name: str
    tags: list[str]
    capacity: int
    status: str
    health_state: str
    registered_at: Time
    running_jobs: int
    version: str = ""
    os: str = ""
    arch: str = ""
    last_seen_at: Time | None = None


class Agents(Wire):
    agents: list[Agent]


class AgentJob(Wire):
    job_run_id: Id
    job_name: str
    job_status: str
    run_id: Id
    run_counter: int
    pipeline_name: str
    project_id: Id
    project_slug: str
    project_name: str
    started_at: Time | None = None
    finished_at: Time | None = None
    exit_code: int | None = None


class AgentDetail(Wire):
    agent: Agent
    jobs: list[AgentJob]


class NewAgentBody(Wire):
    """A new agent."""

    name: str = ""


class AgentToken(Wire):
    """A token, in the only answer that ever has it."""

    id: Id
    token: str
