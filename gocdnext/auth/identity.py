"""Who a request acts for. A value; how it was found out is the business of `bearer` and its later siblings."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from gocdnext.auth.roles import Role
from gocdnext.errors import DomainError


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

    def may(self, minimum: Role) -> bool:
        """Whether this caller is let through a route with that minimum role."""
        return self.role >= minimum


OPERATOR = Subject(name="operator", role=Role.ADMIN, provider="operator_token")
"""Whoever holds the token that the server wrote into its state directory on its first start."""
