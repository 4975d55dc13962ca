"""What other servers on the same database say (LISTEN), and who is told. Knows no rules: it hands on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from uuid import UUID

import structlog

from gocdnext.db.errors import StateDirectoryError
from gocdnext.materials import access
from gocdnext.runs.scheduler import Scheduler
from gocdnext.secrets import profiles
from gocdnext.secrets.sealing import Keyring
from gocdnext.server.wiring import Rooms

_log = structlog.get_logger("server")


def heard(scheduler: Scheduler, rooms: Rooms) -> dict[str, Callable[[str], None]]:
    """What other servers on the same database say, and who listens. What cannot be read is nobody's word: it is left."""

    registry = rooms.registry

    def run_queued(payload: str) -> None:
        with contextlib.suppress(ValueError):
            scheduler.heard(UUID(payload))

    def stop_job(payload: str) -> None:
        with contextlib.suppress(ValueError):
            agent_id, run_id, job_id = map(UUID, payload.split(" "))
            registry.cancel(agent_id, run_id, job_id, "user canceled")

    def services_over(payload: str) -> None:
        with contextlib.suppress(ValueError):
            run_id, generation = payload.split(" ")
            registry.clean_up(UUID(run_id), int(generation))

    def agent_changed(payload: str) -> None:
        with contextlib.suppress(ValueError):
            agent_id, word = payload.split(" ")
            registry.told(UUID(agent_id), word == "disabled")

    return {
        "run_queued": run_queued,
        "stop_job": stop_job,
        "services_over": services_over,
        "agent_changed": agent_changed,
        "auth_providers_changed": lambda _: rooms.providers.changed(),
        access.CHANNEL: rooms.api.access.kept.poke,
        profiles.CHANNEL: rooms.api.default_profile.kept.poke,
        "secret_key_rotated": lambda _: _take_keys(rooms.api.keyring),
        "secret_backends_changed": lambda _: rooms.api.stores.forget(),
        "oidc_keys_rotated": lambda _: rooms.api.signing_keys.forget(),
    }


def look_again(scheduler: Scheduler, rooms: Rooms) -> None:
    """Word of other servers may have been missed."""
    scheduler.wake_all()
    rooms.api.signing_keys.forget()
    rooms.api.stores.forget()
    _take_keys(rooms.api.keyring)


def _take_keys(keyring: Keyring) -> None:
    """The key of secrets may have been rotated."""
    try:
        keyring.look_again()
    except (StateDirectoryError, ValueError) as error:
        _log.error("the keys of secrets cannot be read", error=str(error))
