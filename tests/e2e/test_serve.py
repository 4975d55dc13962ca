"""`serve` from the zipapp: started, stopped, started again, started twice; and the commands' exit codes against it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT, Server, clean_environment

PIPELINE = """\
name: ci
stages: [build]
materials:
  - git: {{url: "file://{repository}", branch: main}}
jobs:
  one: {{stage: build, script: ["echo first line", "{command}"]}}
"""


def make_repository(folder: Path, command: str) -> Path:
    """A committed repository whose only job ends with `command`."""
    (folder / ".gocdnext").mkdir(parents=True)
    (folder / ".gocdnext" / "ci.yaml").write_text(PIPELINE.format(repository=folder, command=command))
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], [*identity, "commit", "-q", "-m", "start"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder


def test_a_stopped_server_starts_again_where_it_was(server: Server, public_dir: Path) -> None:
    repository = make_repository(public_dir / "repository", "echo done")
    server.start("--local-agent")
    server.call("apply", repository, "--slug", "demo")
    followed = server.call("trigger", "demo/ci", "--follow")
    assert "[one] first line\n" in followed.stdout
    assert "[one] done\n" in followed.stdout
    assert server.stop() == 0
    server.start()
    shown = json.loads(server.call("run", "show", "--json", "demo/ci#1").stdout)
    assert shown["status"] == "success"
    assert "[one] first line\n" in server.call("logs", "demo/ci").stdout
    assert server.stop() == 0


def test_exit_codes(server: Server, public_dir: Path) -> None:
    repository = make_repository(public_dir / "repository", "exit 7")
    server.start("--local-agent")
    server.call("apply", repository, "--slug", "demo")
    codes = {
        ("trigger", "demo/ci", "--follow"): 1,
        ("logs", "-f", "demo/ci"): 1,
        ("logs", "demo/ci"): 0,
        ("run", "show", "demo/ci#1"): 0,
        ("cancel", "demo/ci#1"): 1,
        ("trigger", "demo/nosuch"): 1,
        ("trigger", "demo"): 2,
        ("runs", "--server", "http://127.0.0.1:9"): 3,
        ("validate", str(repository)): 0,
        ("doctor", "--state", str(server.state)): 0,
        ("version",): 0,
    }
    assert {command: server.call(*command, check=False).returncode for command in codes} == codes


def test_a_second_server_on_the_same_state_is_refused(server: Server) -> None:
    server.start()
    other = server.call("serve", "--state", server.state, check=False)
    assert other.returncode == 1
    assert "Traceback" not in other.stderr + other.stdout
    assert str(server.state) in other.stderr + other.stdout
    assert server.ready()
    assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_and_its_children(server: Server, number: signal.Signals) -> None:
    server.start("--local-agent")
    assert server.process is not None
    session = server.process.pid
    server.process.send_signal(number)
    assert server.process.wait(20) == 0
    assert processes_below(server.folder) == []
    assert session not in {int(entry) for entry in os.listdir("/proc") if entry.isdecimal()}


def processes_below(folder: Path) -> list[str]:
    """Command lines of live processes that mention a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in command:
                found.append(command)
    return found


@pytest.mark.slow
def test_the_demonstration() -> None:
    done = subprocess.run(
        [sys.executable, "packaging/demo.py", "--once"],
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for line in ("[compile] == hello", "[unit PLANET=mars] 1 test passed on mars", "demo/ci#1  success"):
        assert line in done.stdout
    folder = next(line for line in done.stdout.splitlines() if "starting the server in" in line).split()[-1]
    assert not Path(folder).exists()
    assert processes_below(Path(folder)) == []
