"""An apply in the database: one transaction makes the stored project what was asked (contract-runs 2.4, step 8).

Asyncio code on one raw connection. Ids are kept: pipelines by name, materials by fingerprint. Decides nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from gocdnext.db import queries
from gocdnext.db.pool import Connection
from gocdnext.errors import UnprocessableError
from gocdnext.pipeline import model
from gocdnext.pipeline.identity import material_id
from gocdnext.pipeline.implicit import with_implicit_material
from gocdnext.pipeline.model import Pipeline
from gocdnext.pipeline.profiles import merged
from gocdnext.secrets import hooks, profiles
from gocdnext.secrets.sealing import Keyring

_SQL = queries.load("apply")
_CONFIGS = queries.load("configs")
MAX_TOLD = 20
"""Jobs that do not fit their profile which one answer lists."""


@dataclass(frozen=True, slots=True)
class PipelineFile:
    """A pipeline that was read, and the text it was read from."""

    pipeline: Pipeline
    file: str
    source: str


@dataclass(frozen=True, slots=True)
class Source:
    """The repository to bind: `url` in the normal form, `clone_url` as it was given."""

    provider: str
    url: str
    clone_url: str
    default_branch: str
    auth_ref: str
    webhook_secret: str = field(default="", repr=False)
    """Empty: as it is stored, or a new one."""


class OvertakenError(Exception):
    """The project's configuration was changed while its repository was read: what was read may be older."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The commit of the project's repository that the pipelines were read from."""

    revision: str
    count: int | None = None
    """The source's `sync_count` before it was read; None: what was changed meanwhile does not matter."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the project is to be after the apply."""

    slug: str
    name: str
    description: str
    config_repo: str
    config_path: str
    pipelines: tuple[PipelineFile, ...]
    source: Source | None
    reading: Reading | None = None
    """None: the pipelines came from somebody."""


@dataclass(frozen=True, slots=True)
class StoredPipeline:
    """What happened to one pipeline."""

    id: UUID
    name: str
    created: bool
    materials_added: int
    materials_removed: int


@dataclass(frozen=True, slots=True)
class StoredSource:
    """The repository that was bound by this apply."""

    id: UUID
    provider: str
    clone_url: str
    default_branch: str
    created: bool
    generated_secret: str = field(default="", repr=False)
    """The webhook secret that was made for it, if one was: this is the only time it is told."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What happened to the project."""

    project_id: UUID
    created: bool
    pipelines: tuple[StoredPipeline, ...]
    removed: tuple[str, ...]
    source: StoredSource | None


async def store(
    conn: Connection, wanted: Wanted, now: datetime, new_id: Callable[[], UUID], keyring: Keyring | None
) -> Stored:
    """Brings the project to `wanted` inside the caller's transaction, whatever it was before. Without a keyring no webhook
    secret is kept. Raises OvertakenError, UnprocessableError for jobs that do not fit their runner profile."""
    project = await conn.fetchrow(
        _SQL.upsert_project,
        new_id(),
        wanted.slug,
        wanted.name,
        wanted.description or None,
        wanted.config_path,
        now,
    )
    assert project is not None
    project_id: UUID = project["id"]
    source = await _bind(conn, project_id, wanted.source, now, new_id)
    if source is not None:
        await _stamp(conn, project_id, source["id"], wanted.reading, now)
    # The rest of the transaction is alone with this project: the upsert holds its row.
    existing = {row["name"]: row for row in await conn.fetch(_SQL.stored_pipelines, project_id)}
    changes = _Changes(now, new_id)
    problems: list[str] = []
    known = await profiles.for_apply(conn) if wanted.pipelines else {}
    for entry in wanted.pipelines:
        effective = entry.pipeline
        if source is not None:
            effective = with_implicit_material(effective, source["clone_url"], source["default_branch"])
        effective, misfits = merged(effective, known)
        problems += misfits
        changes.take(entry, effective, existing.get(effective.name))
    if problems:
        raise UnprocessableError("\n".join(problems[:MAX_TOLD]))
    names = {entry.pipeline.name for entry in wanted.pipelines}
    removed = [row for name, row in existing.items() if name not in names]
    if removed:
        await conn.execute(_SQL.delete_pipelines, [row["id"] for row in removed])
    await changes.write(conn, project_id, wanted.config_repo)
    return Stored(
        project_id=project_id,
        created=project["created"],
        pipelines=tuple(changes.stored),
        removed=tuple(row["name"] for row in removed),
        source=await _stored_source(conn, source, wanted.source, keyring),
    )


async def _bind(
    conn: Connection, project_id: UUID, source: Source | None, now: datetime, new_id: Callable[[], UUID]
) -> asyncpg.Record | None:
    """Binds the repository that was sent; without one, the repository that is bound already."""
    if source is None:
        return await conn.fetchrow(_SQL.scm_source_of_project, project_id)
    return await conn.fetchrow(
        _SQL.upsert_scm_source,
        new_id(),
        project_id,
        source.provider,
        source.url,
        source.clone_url,
        source.default_branch,
        source.auth_ref,
        now,
    )


async def _stamp(conn: Connection, project_id: UUID, source_id: UUID, reading: Reading | None, now: datetime) -> None:
    """Notes where the configuration comes from that is in force from now on."""
    if reading is None:
        await conn.execute(_CONFIGS.changed_by_hand, project_id)
    elif await conn.fetchval(_CONFIGS.in_force, source_id, reading.revision, now, reading.count) is None:
        raise OvertakenError


async def _stored_source(
    conn: Connection, row: asyncpg.Record | None, sent: Source | None, keyring: Keyring | None
) -> StoredSource | None:
    """The source that was bound, with its webhook secret: the one that was sent, the one it had, or a new one (2.4)."""
    if sent is None or row is None:
        return None
    generated = ""
    if keyring is not None:
        secret = sent.webhook_secret or hooks.generated()
        kept = await hooks.keep(conn, keyring, row["id"], secret, replace=bool(sent.webhook_secret))
        generated = secret if kept and not sent.webhook_secret else ""
    return StoredSource(row["id"], row["provider"], row["clone_url"], row["default_branch"], row["created"], generated)


class _Changes:
    """Collects rows, so that all pipelines together are a handful of statements."""

    def __init__(self, now: datetime, new_id: Callable[[], UUID]) -> None:
        self._now = now
        self._new_id = new_id
        self.stored: list[StoredPipeline] = []
        self._new: list[tuple[UUID, str, UUID, str, str]] = []
        self._kept: list[tuple[UUID, str, UUID | None, str]] = []
        self._definitions: list[tuple[UUID, UUID, int, str]] = []
        self._materials: list[tuple[UUID, UUID, str, str, Any]] = []
        self._gone: list[UUID] = []

    def take(self, entry: PipelineFile, effective: Pipeline, row: asyncpg.Record | None) -> None:
        """One wanted pipeline and what is stored under its name."""
        pipeline_id = self._new_id() if row is None else row["id"]
        changed = row is None or _decoded(row["definition"]) != effective
        definition_id = self._new_id() if changed else None
        if definition_id is not None:
            version = 1 if row is None else row["definition_version"] + 1
            self._definitions.append((definition_id, pipeline_id, version, model.encode(effective).decode()))
        if row is None:
            assert definition_id is not None
            self._new.append((pipeline_id, effective.name, definition_id, entry.source, entry.file))
        else:
            self._kept.append((pipeline_id, entry.source, definition_id, entry.file))
        added, removed = self._take_materials(pipeline_id, effective, {} if row is None else row["materials"] or {})
        self.stored.append(StoredPipeline(pipeline_id, effective.name, row is None, added, removed))

    def _take_materials(self, pipeline_id: UUID, effective: Pipeline, stored: dict[str, Any]) -> tuple[int, int]:
        wanted = {material.fingerprint: msgspec.to_builtins(material) for material in effective.materials}
        gone = [UUID(entry["id"]) for fingerprint, entry in stored.items() if fingerprint not in wanted]
        self._gone.extend(gone)
        added = 0
        for fingerprint, config in wanted.items():
            known = stored.get(fingerprint)
            added += known is None
            if known is None or known["config"] != config:
                identity = material_id(pipeline_id, fingerprint)
                self._materials.append((identity, pipeline_id, config["type"], fingerprint, config))
        return added, len(gone)

    async def write(self, conn: Connection, project_id: UUID, config_repo: str) -> None:
        """Writes everything that was collected; a statement with nothing to write is left out."""
        if self._new:
            await conn.execute(_SQL.insert_pipelines, project_id, config_repo, self._now, *_columns(self._new))
        if self._definitions:
            await conn.execute(_SQL.insert_definitions, self._now, *_columns(self._definitions))
        if self._kept:
            await conn.execute(_SQL.update_pipelines, config_repo, self._now, *_columns(self._kept))
        if self._gone or self._materials:
            columns = _columns(self._materials) if self._materials else [[], [], [], [], []]
            await conn.execute(_SQL.change_materials, self._now, self._gone, *columns)


def _columns(rows: list[Any]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _decoded(text: str) -> Pipeline | None:
    """The stored definition; None when it has a shape that is not read any more, so that it is written anew."""
    try:
        return model.decode(text)
    except msgspec.MsgspecError:
        return None
