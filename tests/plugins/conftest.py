"""Plugins as an agent without containers runs them: the same command, the same variables, a directory of a job."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from gocdnext.agent import environment, plugins
from gocdnext.proto.agent_pb2 import PluginSpec
from tests.plugins.web import Web, web_server

PATIENCE = 120
"""Seconds after which a plugin that does not end has failed its test."""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass
class Workspace:
    """The directory of a job, and its variables."""

    path: Path
    env: dict[str, str] = field(default_factory=dict)

    def run(self, name: str, inputs: Mapping[str, str], **env: str) -> Outcome:
        """Runs the plugin to its end. Keyword arguments are variables of the job."""
        command, variables = self.command(name, inputs, env)
        done = subprocess.run(
            command,
            cwd=self.path,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def command(self, name: str, inputs: Mapping[str, str], env: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
        task = PluginSpec(image=f"gocdnext/{name}:v1", settings=inputs)
        found = plugins.command(task, {**self.env, **env}, "shell")
        return list(found.argv), {**environment.for_jobs(), **found.env}

    def good(self, name: str, inputs: Mapping[str, str], **env: str) -> Outcome:
        """As `run`, for a plugin that must succeed."""
        outcome = self.run(name, inputs, **env)
        assert outcome.code == 0, outcome.text
        return outcome

    def recording(self, tool: str, tmp_path: Path) -> Path:
        """Puts a program in front of a tool that writes its arguments and goes on as the tool; returns the record."""
        record, folder = tmp_path / f"{tool}.arguments", tmp_path / "recording"
        folder.mkdir(exist_ok=True)
        path = os.environ["PATH"]
        shim = folder / tool
        shim.write_text(f'#!/bin/sh\nprintf "%s\\n" "$0" "$@" >>"{record}"\nPATH="{path}" exec {tool} "$@"\n')
        shim.chmod(0o755)
        self.env["PATH"] = f"{folder}:{self.env.get('PATH', path)}"
        return record


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty directory, and a home that is empty too: nothing of whoever runs the tests."""
    for name in ("job", "home"):
        (tmp_path / name).mkdir()
    return Workspace(tmp_path / "job", {"HOME": str(tmp_path / "home"), "CI": "true", "CI_PIPELINE_NAME": "ci"})


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as web:
        yield web
