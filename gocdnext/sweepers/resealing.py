"""Seals values anew that are sealed with an older key, so that the older key can be taken away (contract-admin 5.1)."""

from __future__ import annotations

from gocdnext.db.pool import Database
from gocdnext.secrets import sealed
from gocdnext.secrets.sealing import Keyring
from gocdnext.sweepers.periodic import every
from gocdnext.sweeps import Board

EVERY = 3600.0
"""Seconds between two passes: another server may still have sealed with the older key after the first."""
FIRST = 5.0


async def run(keyring: Keyring, db: Database, board: Board | None = None) -> None:
    """Seals anew until cancelled."""

    async def sweep() -> int:
        return (await sealed.reseal(db, keyring)).done

    await every(EVERY, "resealing", sweep, first=FIRST, board=board)
