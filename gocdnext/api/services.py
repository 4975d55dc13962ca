"""What the HTTP application is given to work with. Built by the server; frozen for the life of the process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import trio

from gocdnext.api.kept import Kept
from gocdnext.logs.archived import Archives
from gocdnext.plugins.catalogue import Catalogue
from gocdnext.projects.figures import Figures
from gocdnext.sweeps import Board

if TYPE_CHECKING:
    from gocdnext.auth.room import Room
    from gocdnext.blobs.room import Blobs
    from gocdnext.config import Settings
    from gocdnext.db.pool import Database
    from gocdnext.forges.app_webhook import AppWebhook
    from gocdnext.forges.room import Forges
    from gocdnext.logs.hub import LogHub
    from gocdnext.materials.access import Access
    from gocdnext.materials.webhooks.intake import Webhooks
    from gocdnext.metrics import Metrics
    from gocdnext.outbound.client import Outbound
    from gocdnext.projects.sync import Configs
    from gocdnext.runs.service import RunService
    from gocdnext.secrets.profiles import DefaultProfile
    from gocdnext.secrets.sealing import Keyring
    from gocdnext.secrets.signing import SigningKeys
    from gocdnext.secrets.store import Secrets
    from gocdnext.secrets.stores.configured import Stores


def utc_now() -> datetime:
    """The wall clock of a running server."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Services:
    """The rooms behind the routes. `shutdown` is set once, when the server begins to stop: every stream ends on it."""

    db: Database
    runs: RunService
    secrets: Secrets
    hub: LogHub
    settings: Settings
    metrics: Metrics
    blobs: Blobs
    identity: Room
    webhooks: Webhooks
    keyring: Keyring
    access: Access
    default_profile: DefaultProfile
    signing_keys: SigningKeys
    stores: Stores
    shutdown: trio.Event
    outbound: Outbound
    configs: Configs
    forges: Forges
    app_webhook: AppWebhook
    catalogue: Catalogue = field(default_factory=dict)
    """The plugins that `with:` is checked against."""
    last_pass: Callable[[], float | None] = lambda: None
    """`trio.current_time()` at the end of the scheduler's newest pass; None before the first."""
    figures: Figures = field(default_factory=Figures)
    board: Board = field(default_factory=Board)
    clock: Callable[[], datetime] = utc_now
    new_id: Callable[[], UUID] = uuid4
    kept: Kept = field(init=False)
    """Answers that are rendered once for as long as nothing has changed."""
    archives: Archives = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kept", Kept(self.db))
        room = self.settings.log_archive_cache
        object.__setattr__(self, "archives", Archives(self.db, self.blobs.store, room=room))
