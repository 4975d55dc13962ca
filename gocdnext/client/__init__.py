"""The typed HTTP client of the API: what the command line talks through, and nothing else.

Answers are the API's own JSON objects (`messages` has their types, for type checkers only), so `--json` can show them
unchanged. Only safe requests are repeated, only when no connection could be made. The token goes to the server it was
given for: redirects are not followed. This module prints nothing and reads no settings.
"""

from gocdnext.client.calls import Client
from gocdnext.client.connection import RECONNECT_FOR, may_come_back
from gocdnext.client.errors import ApiError, CannotReachError, ClientError
from gocdnext.client.streams import Event, byte_lines, parse_events

__all__ = [
    "RECONNECT_FOR",
    "ApiError",
    "CannotReachError",
    "Client",
    "ClientError",
    "Event",
    "byte_lines",
    "may_come_back",
    "parse_events",
]
