"""An offline server calls nobody: a whole run from push to success, in a network namespace without a route."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT


@pytest.mark.slow
def test_a_whole_run_makes_no_outgoing_call(quick_dir: Path) -> None:
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode != 0:
        if os.environ.get("CI") == "true":
            pytest.fail("network namespaces are not permitted here")
        pytest.skip("network namespaces are not permitted here")
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-m", "tests.e2e.alone", quick_dir],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["status"] == "success"
    assert found["calls"] == 0
    assert found["counted"] >= 1, "a call on purpose is counted"
    # They were wanted, and refused with the reason.
    assert "GOCDNEXT_OFFLINE" in found["hook"]
    assert "GOCDNEXT_OFFLINE" in found["look"]
