"""`Authorization: Bearer <token>` (contract-runs 0.1). Tokens are read from this header and nowhere else."""

from __future__ import annotations

import hmac

from gocdnext.auth.identity import OPERATOR, Subject

_PREFIX = "Bearer "
"""Case-sensitive, as clients of the reference have it."""
MAX_TOKEN = 512
"""Characters; a longer token is unknown without a look."""


def token_of(header: str | None) -> str | None:
    """The token of an Authorization header; None when there is none or the scheme is another."""
    if header is None or not header.startswith(_PREFIX):
        return None
    token = header[len(_PREFIX) :].strip()
    return token if 0 < len(token) <= MAX_TOKEN else None


def subject_of(header: str | None, operator_token: str | None) -> Subject | None:
    """The caller of an Authorization header, or None: an unknown token is as good as no token.

    The comparison takes the same time however much of the token is right.
    """
    token = token_of(header)
    if token is None or not operator_token:
        return None
    return OPERATOR if hmac.compare_digest(token.encode(), operator_token.encode()) else None
