"""`sql/schema.sql` says what the migrations make."""

from __future__ import annotations

from gocdnext.db import queries
from tests.postgres_fixture import PostgresServer
from tests.write_schema import dump_schema


def test_the_readable_schema_is_that_of_the_migrations(postgres_server: PostgresServer, database_url: str) -> None:
    written = (queries.sql_dir() / "schema.sql").read_text(encoding="utf-8")
    assert written == dump_schema(postgres_server.binaries, database_url), "run: python -m tests.write_schema"


def test_two_dumps_are_the_same(postgres_server: PostgresServer, database_url: str) -> None:
    assert dump_schema(postgres_server.binaries, database_url) == dump_schema(postgres_server.binaries, database_url)
