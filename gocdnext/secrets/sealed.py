"""Every column that holds something sealed, and how it is sealed anew: what a rotation of the key has to reach.

A test holds this table against the schema: a column that says which key something was sealed with is here, or the rotation
would leave it behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import MappingProxyType

from gocdnext.auth.providers import stored as signin_providers
from gocdnext.db.pool import Database
from gocdnext.forges import apps
from gocdnext.secrets import hooks, profiles, scm_credentials, signing, store
from gocdnext.secrets.resealing import Resealed
from gocdnext.secrets.sealing import Keyring
from gocdnext.secrets.stores import configured

Reseal = Callable[[Database, Keyring], Awaitable[Resealed]]
COLUMNS = MappingProxyType(
    {
        "secrets.key_id": store.reseal,
        "scm_sources.webhook_key_id": hooks.reseal,
        "oidc_keys.key_id": signing.reseal,
        "secret_backends.key_id": configured.reseal,
        "scm_credentials.key_id": scm_credentials.reseal,
        "runner_profile_secrets.key_id": profiles.reseal,
        "auth_providers.key_id": signin_providers.reseal,
        "vcs_integrations.private_key_key_id": apps.reseal_keys,
        "vcs_integrations.webhook_secret_key_id": apps.reseal_secrets,
    }
)
"""`table.column` of the key's id -> what seals everything anew there."""


async def reseal(db: Database, keyring: Keyring, told: Callable[[str, Resealed], None] | None = None) -> Resealed:
    """Seals everything anew that is sealed with an older key; `told` hears of each column. It may be broken off and begun
    again at any point. Raises DatabaseUnavailableError."""
    total = Resealed()
    for column, one in COLUMNS.items():
        done = await one(db, keyring)
        if told is not None:
            told(column.partition(".")[0], done)
        total += done
    return total
