"""The message types of accounts, sessions and tokens (contract-admin 2 to 4, 7.1, 7.2), and the bodies they ask for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from gocdnext.api.wire.base import Id, Time, Wire


class User(Wire):
    """2.1."""

    id: Id
    email: str
    name: str
    provider: str
    external_id: str
    role: str
    created_at: Time
    updated_at: Time
    avatar_url: str = ""
    disabled_at: Time | None = None
    last_login_at: Time | None = None


class UserAnswer(Wire):
    user: User


class Users(Wire):
    users: list[User]


class Provider(Wire):
    name: str
    display: str


class Providers(Wire):
    """2.2."""

    enabled: bool
    providers: list[Provider]
    local_enabled: bool
    setup_required: bool = False
    """Ours: nobody can sign in yet, and `POST /auth/setup` waits for the code."""


class Preferences(Wire):
    """3.1."""

    preferences: dict[str, Any]
    updated_at: Time | None = None


class Token(Wire):
    """3.3."""

    id: Id
    name: str
    prefix: str
    created_at: Time
    expires_at: Time | None = None
    last_used_at: Time | None = None
    revoked_at: Time | None = None


class Tokens(Wire):
    tokens: list[Token]


class NewToken(Wire):
    token: Token
    plaintext: str


class ServiceAccount(Wire):
    """4."""

    id: Id
    name: str
    description: str
    role: str
    created_at: Time
    updated_at: Time
    created_by: Id | None = None
    disabled_at: Time | None = None


class ServiceAccounts(Wire):
    service_accounts: list[ServiceAccount]


class Group(Wire):
    """7.2."""

    id: Id
    name: str
    description: str
    member_count: int
    created_at: Time
    updated_at: Time
    created_by: Id | None = None


class Groups(Wire):
    groups: list[Group]


class Member(Wire):
    user_id: Id
    email: str
    name: str
    role: str
    added_at: Time


class Members(Wire):
    members: list[Member]


# What is sent to us. Unknown keys are ignored; null is as good as absent.


class Body(msgspec.Struct, kw_only=True):
    """Base of every body."""


class LoginBody(Body):
    email: str | None = None
    username: str | None = None
    """What the reference's OpenAPI file calls the e-mail."""
    password: str | None = None


class SetupBody(Body):
    code: str | None = None
    email: str | None = None
    name: str | None = None
    password: str | None = None


class PasswordBody(Body):
    current_password: str | None = None
    new_password: str | None = None


class PreferencesBody(Body):
    preferences: dict[str, Any] | None = None


class TokenBody(Body):
    name: str | None = None
    expires_at: datetime | None = None


class UserBody(Body):
    email: str | None = None
    name: str | None = None
    role: str | None = None
    password: str | None = None


class RoleBody(Body):
    role: str | None = None


class DisableBody(Body):
    disabled: bool


class ServiceAccountBody(Body):
    name: str | None = None
    description: str | None = None
    role: str | None = None


class GroupBody(Body):
    name: str | None = None
    description: str | None = None


class MemberBody(Body):
    user_id: str | None = None
