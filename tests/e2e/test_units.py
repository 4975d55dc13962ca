"""The systemd units: known keywords only, and the rules that the server's stop depends on."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT

UNITS = ("gocdnext.service", "gocdnext-agent.service")


@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_unit(tmp_path: Path, name: str) -> None:
    if shutil.which("systemd-analyze") is None:
        assert os.environ.get("CI") != "true", "systemd-analyze is missing: install systemd"
        pytest.skip("systemd-analyze is not here")
    text = (ROOT / "packaging" / name).read_text().replace("/opt/gocdnext/gocdnext", "/bin/true")
    for unit in UNITS:
        (tmp_path / unit).write_text(text if unit == name else "[Service]\nExecStart=/bin/true\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / name], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_only_the_server_gets_the_signal() -> None:
    """SIGTERM to PostgreSQL would be a stop that waits for its clients (embedded-postgres A8)."""
    for name in UNITS:
        assert "KillMode=mixed\n" in (ROOT / "packaging" / name).read_text()
