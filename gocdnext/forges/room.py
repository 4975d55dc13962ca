"""The room of forges: what is made once and given to the API and the sweepers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from gocdnext.config import Settings
from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.errors import UnavailableError
from gocdnext.forges import apps
from gocdnext.forges.accounts import Accounts, Stored
from gocdnext.forges.apps import Apps
from gocdnext.forges.github_app import Installations
from gocdnext.forges.registration import Registration, Targets
from gocdnext.forges.reporter import Counting, Reporter
from gocdnext.outbound.client import Outbound
from gocdnext.secrets import scm_credentials
from gocdnext.secrets.sealing import Keyring, UnsealError

_SQL = queries.load("registration")


@dataclass(frozen=True, slots=True)
class Forges:
    """Who calls GitHub, GitLab and Bitbucket."""

    accounts: Accounts
    apps: Apps
    registration: Registration
    reporter: Reporter


def open_forges(
    settings: Settings,
    db: Database,
    keyring: Keyring,
    outbound: Outbound,
    counting: Counting,
    clock: Callable[[], datetime],
) -> Forges:
    """The room. Raises InvalidError when the GitHub App of the environment cannot be used."""
    given = settings.github_app
    environment = apps.of_environment(
        given.app_id, given.private_key, given.private_key_file, given.api_base, given.webhook_secret
    )

    async def stored(provider: str, host: str) -> Stored | None:
        row = await db.fetchrow(_SQL.credential, provider, host)
        if row is None:
            return None
        try:
            return Stored(scm_credentials.opened(keyring, row), row["api_base"])
        except UnsealError as error:
            raise UnavailableError(f"the credential for {host} cannot be opened: {error}") from None

    found = Apps(db, keyring, environment, clock)
    accounts = Accounts(outbound, found, Installations(outbound, clock), stored)
    targets = Targets(settings.public_base, settings.webhook_public_url)
    return Forges(
        accounts=accounts,
        apps=found,
        registration=Registration(db, keyring, accounts, targets),
        reporter=Reporter(db, accounts, public_base=settings.public_base, clock=clock, counting=counting),
    )
