"""Schedules of projects (contract-admin 6.5). No logic here."""

from __future__ import annotations

from gocdnext.api.wire.base import Id, Time, Wire


class CronBody(Wire):
    """What a schedule is to be. Without `pipeline_ids` it starts every pipeline of the project."""

    name: str = ""
    expression: str = ""
    pipeline_ids: list[str] | None = None
    enabled: bool | None = None
    """Absent: on for a new schedule, as it was for another."""


class Cron(Wire, kw_only=True):
    """A schedule as it is kept."""

    id: Id
    project_id: Id
    name: str
    expression: str
    pipeline_ids: list[Id]
    enabled: bool
    last_fired_at: Time | None = None
    next_at: Time | None = None
    """When it fires next; absent when it has no time any more."""
    created_by: Id | None = None
    created_at: Time
    updated_at: Time


class Crons(Wire):
    """The schedules of a project, newest first."""

    crons: list[Cron]
