"""The systemd units: known keywords only, and the rules that the server's stop depends on."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT

UNITS = {"gocdnext.service": 15, "gocdnext-agent.service": 30}
"""The most that `systemd-analyze security` may say, times ten (issue 10)."""
FOLDER = ROOT / "packaging" / "system"


def systemd_analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        assert os.environ.get("CI") != "true", "systemd-analyze is missing: install systemd"
        pytest.skip("systemd-analyze is not here")
    return found


@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_unit(tmp_path: Path, name: str) -> None:
    analyze = systemd_analyze()
    text = (FOLDER / name).read_text().replace("/opt/gocdnext/gocdnext", "/bin/true")
    for unit in UNITS:
        (tmp_path / unit).write_text(text if unit == name else "[Service]\nExecStart=/bin/true\n")
    done = subprocess.run([analyze, "verify", tmp_path / name], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("name", "most"), UNITS.items())
def test_the_unit_is_locked_up(name: str, most: int) -> None:
    done = subprocess.run(
        [systemd_analyze(), "security", "--offline=yes", "--no-pager", f"--threshold={most}", FOLDER / name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_agent_can_still_build_its_sandbox() -> None:
    """Under either of these bubblewrap gives up (tried one by one in a booted machine)."""
    settings = (FOLDER / "gocdnext-agent.service").read_text().splitlines()
    refused = ("RestrictNamespaces=", "ProcSubset=")
    assert not [line for line in settings if line.startswith(refused)]


def test_only_the_server_gets_the_signal() -> None:
    """SIGTERM to PostgreSQL would be a stop that waits for its clients (embedded-postgres A8)."""
    for name in UNITS:
        assert "KillMode=mixed\n" in (FOLDER / name).read_text()
