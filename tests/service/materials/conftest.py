"""The served application, for what arrives at it."""

from __future__ import annotations

from tests.api.conftest import world as world
