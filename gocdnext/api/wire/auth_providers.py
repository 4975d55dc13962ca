"""The message types of sign-in providers (contract-admin 7.10). The secret is never among what is told."""

from __future__ import annotations

from gocdnext.api.wire.base import Id, Time, Wire
from gocdnext.api.wire.identity import Body


class AuthProvider(Wire):
    """A provider that is kept in the database."""

    id: Id
    name: str
    kind: str
    display_name: str
    client_id: str
    enabled: bool
    created_at: Time
    updated_at: Time
    issuer: str = ""
    github_api_base: str = ""


class AuthProviders(Wire):
    enabled: bool
    """Whether authentication is on."""
    providers: list[AuthProvider]
    env_only: list[str]
    """Names of those that only the environment sets up."""
    problems: dict[str, str] = {}
    """Ours: why providers that are switched on cannot be used."""


class AuthProviderSaved(Wire):
    provider: AuthProvider
    reload_warning: str = ""
    """Why it cannot be used yet."""


class AuthProvidersActive(Wire):
    active: list[str]
    problems: dict[str, str] = {}


class AuthProviderBody(Body):
    name: str | None = None
    kind: str | None = None
    display_name: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    """Absent or empty: the one that is there stays."""
    issuer: str | None = None
    github_api_base: str | None = None
    enabled: bool | None = None
    """Absent: true."""
    adopt_accounts: bool | None = None
    """Ours: its people keep their accounts although another issuer vouches for them from now on."""


class SignInQuery(Wire):
    next: str = ""
    """A path of this server to go to after the sign-in; `/` for anything else."""


class CallbackQuery(Wire):
    code: str = ""
    state: str = ""
    iss: str | None = None
    error: str = ""
