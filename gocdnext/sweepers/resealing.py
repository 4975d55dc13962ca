"""Seals secrets anew that are sealed with an older key, so that the older key can be taken away (contract-admin 5.1)."""

from __future__ import annotations

from gocdnext.auth.providers import stored
from gocdnext.db.pool import Database
from gocdnext.providers.apps import Apps
from gocdnext.secrets import hooks, profiles, scm_credentials
from gocdnext.secrets.sealing import Keyring
from gocdnext.secrets.store import Secrets
from gocdnext.sweepers.periodic import every

EVERY = 3600.0
"""Seconds between two passes: another server may still have sealed with the older key after the first."""
FIRST = 5.0


async def run(secrets: Secrets, keyring: Keyring, db: Database, apps: Apps) -> None:
    """Seals anew until cancelled."""

    async def sweep() -> int:
        return (
            await secrets.reseal()
            + await hooks.reseal(db, keyring)
            + await scm_credentials.reseal(db, keyring)
            + await profiles.reseal(db, keyring)
            + await stored.reseal(db, keyring)
            + await apps.reseal()
        )

    await every(EVERY, "resealing", sweep, first=FIRST)
