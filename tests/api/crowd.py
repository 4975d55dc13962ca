"""Callers of every kind against a guarded server: people, service accounts, and credentials that are good no more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx

from gocdnext.auth import accounts, api_tokens, service_accounts
from gocdnext.auth.api_tokens import Owner
from tests.api.world import TOKEN, World

PASSWORD = "correct horse battery"
HASHED = b"$argon2id$v=19$m=8,t=1,p=1$bm9ib2R5bm9ib2R5$bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5bm8"
"""A hash of no password, where nobody signs in: making a real one takes a tenth of a second."""
ADMIN = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Someone:
    """A caller: the id of the account and the token."""

    id: UUID
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return bearer(self.token)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def person(world: World, role: str, email: str = "", *, ends: timedelta | None = None) -> Someone:
    """An account with a token, made below the API."""
    row = await world.db.fetchrow(
        accounts.sql.create_local,
        uuid4(),
        email or f"{role}-{uuid4().hex[:8]}@acme.example",
        "",
        role,
        HASHED,
        world.now,
    )
    assert row is not None
    return Someone(row["id"], await _token(world, Owner(user_id=row["id"]), ends))


async def machine(world: World, role: str, name: str = "") -> Someone:
    """A service account with a token."""
    row = await service_accounts.create(world.identity, name or f"bot-{uuid4().hex[:8]}", "", role, None)
    return Someone(row["id"], await _token(world, Owner(service_account_id=row["id"]), None))


async def _token(world: World, owner: Owner, ends: timedelta | None) -> str:
    _, text = await api_tokens.create(world.identity, owner, "test", None if ends is None else world.now + ends)
    return text


async def local(world: World, email: str = "rita@acme.example", role: str = "maintainer") -> dict[str, Any]:
    """A local account that can sign in with PASSWORD."""
    answer = await world.http.post(
        "/api/v1/admin/users",
        json={"email": email, "name": "Rita Moss", "role": role, "password": PASSWORD},
        headers=ADMIN,
    )
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def sign_in(world: World, email: str = "rita@acme.example", password: str = PASSWORD) -> httpx.Response:
    """Signs in; the cookie stays with nobody, so that each test says which one it sends."""
    async with httpx.AsyncClient(base_url=world.base, timeout=60) as browser:
        return await browser.post("/auth/login/local", json={"email": email, "password": password})


def cookie_of(answer: httpx.Response) -> dict[str, str]:
    """The Cookie header for the session that an answer has opened."""
    # Not httpx's own jar: it goes by today's clock, and the server under test does not.
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
