"""What schemathesis makes of the document: a few requests to every operation, the same each time. More of them, and other
ones each time, are tried by `python3 build.py nightly`."""

from __future__ import annotations

import pytest

from gocdnext.auth import roles
from tests.api.fuzz import fuzzed
from tests.api.world import World


@pytest.mark.slow
async def test_whatever_is_sent_is_answered_as_described(guarded: World) -> None:
    assert await fuzzed(guarded, examples=4, seed=1) == len(roles.MINIMUM)
