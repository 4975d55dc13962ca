"""Samples to translate, and a shell that runs what comes out."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gocdnext.importers import Imported, import_github, import_gitlab
from gocdnext.pipeline.model import Job

SAMPLES = Path(__file__).parent / "samples"


@pytest.fixture(scope="session")
def sample() -> Callable[[str], Imported]:
    """A file of `samples`, translated by the importer that its name begins with."""

    def translate(name: str) -> Imported:
        text = (SAMPLES / f"{name}.yml").read_bytes()
        return (import_gitlab if name.startswith("gitlab") else import_github)(text, f"{name}.yml")

    return translate


Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(params=["sh", "bash"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    """Runs a job's script as an agent does, with these variables."""

    def run(job: Job, **variables: str) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **job.variables, **variables}
        return subprocess.run(
            [request.param, "-c", "--", job.script],
            cwd=tmp_path,
            env=environ,
            text=True,
            capture_output=True,
            timeout=30,
        )

    return run
