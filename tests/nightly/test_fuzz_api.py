"""Some thousand requests that schemathesis makes of the API's document: nothing but answers that are described, never a 500.

Run by `python3 build.py nightly`. GOCDNEXT_TEST_SEED repeats a run; the seed is in the message of a failure.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from gocdnext.auth import roles
from tests.api.fuzz import fuzzed
from tests.api.world import served

pytestmark = pytest.mark.nightly
EXAMPLES = 60
"""Requests to each operation."""


async def test_whatever_is_sent_is_answered_as_described(database_url: str, tmp_path: Path) -> None:
    seed = os.environ.get("GOCDNEXT_TEST_SEED") or secrets.token_hex(8)
    async with served(database_url, tmp_path / "state", auth=True) as world:
        assert await fuzzed(world, EXAMPLES, seed) == len(roles.MINIMUM)
