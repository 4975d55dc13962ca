"""How a handler reaches the services its application was made with."""

from __future__ import annotations

from typing import cast

from quart import current_app

from gocdnext.api.services import Services

EXTENSION = "gocdnext.services"


def services() -> Services:
    """The services of the application that handles the current request."""
    return cast("Services", current_app.extensions[EXTENSION])
