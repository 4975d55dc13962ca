"""Seals secrets anew that are sealed with an older key, so that the older key can be taken away (contract-admin 5.1)."""

from __future__ import annotations

from gocdnext.secrets.store import Secrets
from gocdnext.sweepers.periodic import every

EVERY = 3600.0
"""Seconds between two passes: another server may still have sealed with the older key after the first."""
FIRST = 5.0


async def run(secrets: Secrets) -> None:
    """Seals anew until cancelled."""
    await every(EVERY, "resealing", secrets.reseal, first=FIRST)
