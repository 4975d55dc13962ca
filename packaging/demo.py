"""The demonstration behind `build.py demo`: dist/gocdnext, started on nothing, runs a pipeline of a real repository.

Everything happens in one temporary folder, on free loopback ports, and is gone at the end; the program unpacks itself
into `.build`. Only the program itself is used, as anybody would use it. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "dist" / "gocdnext"
READY_WITHIN = 60
"""Seconds from start to the first good answer of /readyz; the first one makes a database."""
STOP_WITHIN = 20
COMMAND_WITHIN = 120
LOG_TAIL = 40
SLUG, PIPELINE = "demo", "ci"

FILES = {
    ".gocdnext/ci.yaml": """\
        name: ci
        stages: [build, test]
        materials:
          - git:
              url: {repository}
              branch: main
        variables:
          GREETING: hello
        jobs:
          compile:
            stage: build
            script:
              - echo "compiling $(git log -1 --format=%s)"
              - sh greet.sh "$GREETING"
          lint:
            stage: build
            needs: [compile]
            script:
              - sh -n greet.sh && echo "greet.sh has no syntax errors"
          unit:
            stage: test
            parallel:
              matrix:
                - PLANET: [earth, mars]
            script:
              - sh greet.sh "$GREETING $PLANET"
              - test "$(sh greet.sh x)" = "== x" && echo "1 test passed on $PLANET"
        """,
    "greet.sh": """\
        # The program of this project.
        echo "== $1"
        """,
}


class DemoError(Exception):
    """A step did not do what it should; the message says which."""


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_repository(folder: Path) -> None:
    """A git repository with one commit on `main`, which knows nothing of this user's git settings."""
    for name, text in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).format(repository=f"file://{folder}"))
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
           for what, value in (("NAME", "Demo"), ("EMAIL", "demo@example.org"))},
    }  # fmt: skip
    for command in (["init", "--quiet", "--initial-branch=main"], ["add", "--all"],
                    ["commit", "--quiet", "--message=Greet the planets"]):  # fmt: skip
        subprocess.run(["git", *command], cwd=folder, env=environment, check=True, stdin=subprocess.DEVNULL)


class Demo:
    """One server in one folder. Used as a context manager, it stops the server whatever happens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_path = folder / "server.log"
        self.url = f"http://127.0.0.1:{free_port()}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("GOCDNEXT_", "PYTHON"))},
            "SHIV_ROOT": str(ROOT / ".build" / "shiv"),
            "GOCDNEXT_HTTP_ADDR": self.url.removeprefix("http://"),
            "GOCDNEXT_GRPC_ADDR": f"127.0.0.1:{free_port()}",
            "GOCDNEXT_SERVER_URL": self.url,
        }
        self.server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it is ready."""
        started = time.monotonic()
        with self.log_path.open("wb") as log:
            # A session of its own: Ctrl-C in the terminal is for us, and we stop it in order.
            self.server = subprocess.Popen(
                [sys.executable, PROGRAM, "serve", "--state", self.folder / "state", "--local-agent"],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        while not self._ready():
            if self.server.poll() is not None:
                raise DemoError(f"the server ended with exit code {self.server.returncode}")
            if time.monotonic() - started > READY_WITHIN:
                raise DemoError(f"the server was not ready within {READY_WITHIN} seconds")
            time.sleep(0.05)
        say(f"the server is ready after {time.monotonic() - started:.1f} s")

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def command(self, *arguments: str) -> None:
        """Run one command of the program; its output goes to the terminal."""
        print(f"$ gocdnext {' '.join(arguments)}", flush=True)
        try:
            code = subprocess.run(
                [sys.executable, PROGRAM, *arguments],
                env=self.environment, stdin=subprocess.DEVNULL, timeout=COMMAND_WITHIN, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            raise DemoError(f"`gocdnext {arguments[0]}` did not end within {COMMAND_WITHIN} seconds") from None
        if code != 0:
            raise DemoError(f"`gocdnext {arguments[0]}` ended with exit code {code}")

    def stop(self) -> None:
        """SIGTERM, then SIGKILL when that does not end it in time."""
        if self.server is None or self.server.poll() is not None:
            return
        self.server.terminate()
        try:
            self.server.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()
            raise DemoError(f"the server did not stop within {STOP_WITHIN} seconds") from None

    def log_tail(self) -> str:
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-LOG_TAIL:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def show_a_run(demo: Demo, repository: Path) -> None:
    """From an empty server to a green run."""
    name = f"{SLUG}/{PIPELINE}"
    demo.command("apply", str(repository), "--slug", SLUG)
    demo.command("trigger", name)
    demo.command("logs", "-f", name)
    demo.command("run", "show", name)


def serve_on(demo: Demo) -> None:
    """Keep serving until Ctrl-C, SIGTERM, or the end of the server."""
    say(f"serving at {demo.url} until Ctrl-C. Try in another terminal:")
    print(f"    {PROGRAM} trigger --follow {SLUG}/{PIPELINE} --server {demo.url}", flush=True)
    assert demo.server is not None
    try:
        code = demo.server.wait()
    except KeyboardInterrupt:
        print(flush=True)
        say("stopping")
        return
    raise DemoError(f"the server ended with exit code {code}")


def run(once: bool) -> int:
    folder = Path(tempfile.mkdtemp(prefix="gocdnext-demo-"))
    # The database of a server that runs as root belongs to a system user, which must be able to get there.
    folder.chmod(0o755)
    demo = Demo(folder)
    try:
        with demo:
            repository = folder / "repository"
            repository.mkdir()
            make_repository(repository)
            say(f"starting the server in {folder}")
            demo.start()
            show_a_run(demo, repository)
            say(f"success: {demo.url}")
            if not once:
                serve_on(demo)
        return 0
    except (DemoError, subprocess.CalledProcessError) as error:
        print(f"\nthe last lines of the server's log:\n{demo.log_tail()}\n\ndemo: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="build.py demo", description="Show a run of a real pipeline.")
    parser.add_argument("--once", action="store_true", help="stop and clean up after the run")
    options = parser.parse_args(arguments)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # Whoever stops this stops the server too.
    signal.signal(signal.SIGTERM, interrupt)
    return run(options.once)


if __name__ == "__main__":
    sys.exit(main())
