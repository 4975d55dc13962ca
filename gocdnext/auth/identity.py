"""Who a request acts for. A value; how it was found out is the business of `bearer` and `callers`."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from gocdnext.auth.roles import Role
from gocdnext.errors import DomainError

SERVICE_ACCOUNT = "service_account"
"""The provider of callers that are no people (contract-admin 1.4)."""


class NotAuthenticatedError(DomainError):
    """The request names nobody we know (401)."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The caller: a person, a service account, or the operator who can read the server's state directory."""

    name: str
    role: Role
    provider: str
    id: UUID | None = None
    email: str = ""
    groups: frozenset[str] = frozenset()
    """Names of the groups that gates may ask for; only people are in groups."""

    def may(self, minimum: Role) -> bool:
        """Whether this caller is let through a route with that minimum role."""
        return self.role >= minimum

    @property
    def user_id(self) -> UUID | None:
        """The id of the row in `users`; None for callers that are no people, whom that table cannot name."""
        return None if self.provider == SERVICE_ACCOUNT else self.id


OPERATOR = Subject(name="operator", role=Role.ADMIN, provider="operator_token")
"""Whoever holds the token that the server wrote into its state directory on its first start."""
