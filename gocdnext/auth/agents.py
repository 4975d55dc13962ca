"""What administrators do with agents: make one, give it a token, disable and enable it. A token is answered once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from gocdnext.auth import words
from gocdnext.auth.agent_tokens import new_token, token_hash
from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.errors import ConflictError, InvalidError, NotFoundError

MAX_NAME = 253
"""Characters, as Register has it."""
HEARD_WITHIN = timedelta(seconds=90)
"""An agent that was heard of within this is online."""

_SQL = queries.load("agents")


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token for its one showing."""

    agent_id: UUID
    token: str


async def create(db: Database, agent_id: UUID, name: str, now: datetime) -> NewToken:
    """A new agent with a token of its own. Raises InvalidError, ConflictError (the name is taken)."""
    if not name.strip() or len(name) > MAX_NAME or not words.is_one_line(name):
        raise InvalidError(f"name must have 1 to {MAX_NAME} characters, on one line")
    token = new_token()
    if await db.fetchval(_SQL.create_agent, agent_id, name, token_hash(token), now) is None:
        raise ConflictError("an agent of this name exists: give it a new token instead")
    return NewToken(agent_id, token)


async def change_token(db: Database, agent_id: UUID) -> NewToken:
    """Another token in place of the agent's; the old one is worth nothing at its next registration."""
    token = new_token()
    if await db.fetchval(_SQL.change_token, agent_id, token_hash(token)) is None:
        raise NotFoundError("agent not found")
    return NewToken(agent_id, token)


async def set_disabled(db: Database, agent_id: UUID, disabled: bool, now: datetime) -> None:
    """No work for the agent any more, or again; what it runs goes on. Every server hears of it. Raises NotFoundError."""
    if disabled:
        found = await db.fetchrow(_SQL.disable_agent, agent_id)
    else:
        found = await db.fetchrow(_SQL.enable_agent, agent_id, now - HEARD_WITHIN)
    if found is None:
        raise NotFoundError("agent not found")
