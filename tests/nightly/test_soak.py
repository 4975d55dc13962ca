"""A day of work in half an hour, and nothing grows. Run by `python3 build.py nightly`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.nightly


def test_a_day_of_work_leaves_nothing_behind() -> None:
    command = [sys.executable, "-m", "tests.bench.soak", "--minutes", "30"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=2400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
