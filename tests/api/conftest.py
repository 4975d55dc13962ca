"""The served application, open and with authentication."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.api.world import World, served
from tests.postgres_fixture import PostgresServer


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """Authentication off."""
    async with served(database_url, tmp_path / "state") as world:
        yield world


@pytest.fixture
async def guarded(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """Authentication on; the operator token is `world.TOKEN`."""
    async with served(database_url, tmp_path / "state", auth=True) as world:
        yield world


@pytest.fixture(scope="module")
def one_database(postgres_server: PostgresServer) -> Iterator[str]:
    """A database for all tests of a module."""
    url = postgres_server.migrated_database()
    yield url
    postgres_server.drop(url)


@pytest.fixture
def emptied_database(one_database: str, postgres_server: PostgresServer) -> Iterator[str]:
    """It, without anybody and anything that a sign-in leaves: to empty it is quicker than to make one for each test."""
    yield one_database
    name = one_database.removeprefix("postgresql://ci@/").partition("?")[0]
    for table in ("users", "auth_providers", "auth_states", "audit_events"):
        postgres_server.execute(f"DELETE FROM {table}", name)
