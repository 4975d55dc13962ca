"""What is done again and again: the sweepers, each with its own clock, all on one board."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import trio

from gocdnext.api.services import utc_now
from gocdnext.config import Settings
from gocdnext.db.pool import Database
from gocdnext.server.wiring import Rooms
from gocdnext.sweepers import (
    archiver,
    blobs,
    clocks,
    configurations,
    deliveries,
    gates,
    partitions,
    polls,
    reaper,
    resealing,
    signins,
    statuses,
)


def start(settings: Settings, rooms: Rooms, db: Database, nursery: trio.Nursery) -> None:
    board, store = rooms.api.board, rooms.api.blobs.store
    cache_life = timedelta(days=settings.cache_days) if settings.cache_days else None
    retention = timedelta(seconds=settings.log_retention) if settings.log_retention else None
    ahead = settings.log_months_ahead
    nursery.start_soon(reaper.run, rooms.runs, board)
    nursery.start_soon(gates.run, rooms.runs, settings.approval_timeout, board)
    nursery.start_soon(lambda: partitions.run(db, ahead, utc_now, retention=retention, board=board))
    nursery.start_soon(archiver.run, db, store, settings.log_archive, utc_now, uuid4, board)
    nursery.start_soon(lambda: blobs.run(db, store, cache_life, utc_now, quotas=settings.quotas, board=board))
    nursery.start_soon(resealing.run, rooms.api.keyring, db, board)
    nursery.start_soon(clocks.run, db, rooms.runs, utc_now, board)
    nursery.start_soon(polls.run, db, rooms.runs, utc_now, rooms.api.configs.remotes.heads, board)
    nursery.start_soon(deliveries.run, db, utc_now, board)
    nursery.start_soon(signins.run, db, utc_now, board)
    nursery.start_soon(configurations.run, rooms.api.configs, board)
    if not settings.outbound.offline:
        nursery.start_soon(statuses.run, rooms.api.forges.reporter, db, utc_now, board)
