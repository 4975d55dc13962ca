"""Fixtures and options that every kind of test shares. What belongs to one room sits beside its tests."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

# Started in the background by a shell, we are told to ignore SIGINT, and every process that a test interrupts would too.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.vectors_options", "tests.postgres_fixture"]


def pytest_addoption(parser: pytest.Parser) -> None:
    own = Path(__file__).parent / "vectors" / "scenarios"
    parser.addoption("--scenarios-pure", action="store_true", help="play scenarios on the pure core alone")
    parser.addoption("--scenarios", default=str(own), metavar="DIR", help="folder of execution scenarios")
