"""`Authorization: Bearer <token>` (contract-runs 0.1). Tokens are read from this header and nowhere else."""

from __future__ import annotations

import hmac

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


def is_operator(token: str, operator_token: str | None) -> bool:
    """Whether this is the operator token of the state directory.

    The comparison takes the same time however much of the token is right.
    """
    if not operator_token:
        return False
    return hmac.compare_digest(token.encode("utf-8", "surrogatepass"), operator_token.encode())
