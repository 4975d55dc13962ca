#!/usr/bin/env python3
"""build.py: everything that is done with this repository. Needs Python 3.11, git and a package index.

usage: python3 build.py VERB [ARGUMENTS]

  demo [--once]     build dist/gocdnext, start it, run a pipeline of a real git repository, show its log
                    (--once: stop and clean up after the run instead of serving until Ctrl-C)
  test [ARGUMENTS]  run the tests (arguments go to pytest)
  nightly [ARGS]    the tests that take minutes: fuzzing, hundreds of kills
  lint              formatting, style, types and SQL
  zipapp            build dist/gocdnext, the one-file program (--with-postgres or --without-postgres: only that one)
  packages          build the .deb and the .rpm (dpkg-deb and rpmbuild must be there)
  bundle            build the archive for sites without a network
  bench [NAME ...]  measure the figures of the project and print them beside their goals
  docs              write the generated pages of docs/ and the types of the client again from the program
  proto             generate the wire modules again from gocdnext/proto/agent.proto
  lock              resolve the dependencies again and write the lock files

Works from a clean clone, as any user. It makes its own virtual environment in .venv from the lock files, and makes it
again when they change. Set CI=true to turn a missing tool into a failure.
"""

# Standard library only. It must still be read by an older Python, so that it can say that a newer one is needed.
from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "made-from.sha256"
LOCKS = [ROOT / "requirements-dev.lock", ROOT / "requirements-embedded.lock"]
OLDEST = (3, 11)
PYTHON = VENV / "bin" / "python"
USAGE = (__doc__ or "").strip()


def say(text: str) -> None:
    """One progress line; on stderr, so that stdout is only what was asked for."""
    print(f"==> {text}", file=sys.stderr, flush=True)


def run(*command: str | Path, check: bool = True) -> int:
    """Run a command in the repository and return its exit code; with `check`, a failure ends the build with it."""
    code = subprocess.run([str(part) for part in command], cwd=ROOT, env=environment(), check=False).returncode
    if check and code != 0:
        say(f"failed with exit code {code}: {' '.join(str(part) for part in command)}")
        raise SystemExit(code)
    return code


def become(*command: str | Path) -> None:
    """Replace this process: the last step gets the signals and the exit code without anybody in between."""
    os.chdir(ROOT)
    os.execve(command[0], [str(part) for part in command], environment())


def environment() -> dict[str, str]:
    """The environment of child processes: the tools of .venv first on PATH, our package importable."""
    paths = [str(VENV / "bin"), os.environ.get("PATH", os.defpath)]
    return {**os.environ, "PATH": os.pathsep.join(paths), "VIRTUAL_ENV": str(VENV), "PYTHONPATH": str(ROOT)}


def wanted_stamp() -> str:
    """What the environment must have been made from: the Python and the bytes of the lock files."""
    total = hashlib.sha256(sys.version.encode())
    for lock in LOCKS:
        total.update(lock.read_bytes())
    return total.hexdigest()


def ensure_venv() -> None:
    """Make .venv, or repair it, unless it was finished from these very lock files."""
    stamp = wanted_stamp()
    if STAMP.is_file() and STAMP.read_text() == stamp and works():
        return
    started = time.monotonic()
    STAMP.unlink(missing_ok=True)
    if not works():
        say("making .venv")
        make_venv()
    for lock in LOCKS:
        say(f"installing the packages of {lock.name}")
        run(PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--disable-pip-version-check",
            "--root-user-action=ignore", "--requirement", lock)  # fmt: skip
    STAMP.write_text(stamp)
    say(f".venv is ready ({time.monotonic() - started:.0f} s)")


def works() -> bool:
    """Whether .venv has a Python of this version that can run pip. A half-made or moved one has not."""
    if not PYTHON.exists():
        return False
    code = "import pip, sys; raise SystemExit(sys.version_info[:2] != tuple(map(int, sys.argv[1:])))"
    version = [str(number) for number in sys.version_info[:2]]
    done = subprocess.run([str(PYTHON), "-c", code, *version], capture_output=True, check=False)
    return done.returncode == 0


def make_venv() -> None:
    code = run(sys.executable, "-m", "venv", "--clear", VENV, check=False)
    if code != 0:
        raise SystemExit(
            "python3 -m venv does not work here. On Debian and Ubuntu it is a package of its own: "
            "install python3-venv, then run this again."
        )


def demo(arguments: list[str]) -> None:
    run(PYTHON, "packaging/make_zipapp.py", "--with-postgres")
    become(PYTHON, "packaging/demo.py", *arguments)


def test(arguments: list[str]) -> None:
    """Two workers: most tests wait for a server or a database, and they share nothing."""
    own_choice = any(argument.startswith(("-n", "--pdb", "-p")) for argument in arguments)
    become(PYTHON, "-m", "pytest", *([] if own_choice else ["-n", "2"]), *arguments)


def nightly(arguments: list[str]) -> None:
    """What a daily test run has no time for; a new seed each time, named by a failure."""
    os.environ.setdefault("GOCDNEXT_TEST_KILLS", "200")
    run(PYTHON, "-m", "pytest", "-m", "nightly", *arguments)
    become(PYTHON, "-m", "pytest", "tests/e2e/test_crash.py", *arguments)


def lint(arguments: list[str]) -> None:
    """Every check runs even when an earlier one failed; the exit code says whether all passed."""
    plugins = sorted(path.relative_to(ROOT) for path in ROOT.glob("plugins/*/plugin.py"))
    checks: dict[str, list[str | Path]] = {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "mypy": [
            "mypy",
            "gocdnext",
            "build.py",
            "packaging",
            "plugins/kit.py",
            "plugins/kit_http.py",
            "plugins/run.py",
        ],
        # Each is a program of its own, and all have the same name.
        **{f"mypy {path}": ["mypy", path] for path in plugins},
        "sqlfluff": ["sqlfluff", "lint", "--disable-progress-bar", "sql/migrations", "sql/queries"],
        "no SQL in Python": [PYTHON, "packaging/check_sql.py"],
    }
    failed = []
    for name, command in checks.items():
        say(name)
        if run(*command, check=False) != 0:
            failed.append(name)
    if failed:
        raise SystemExit(f"lint: failed: {', '.join(failed)}")
    say("lint: all passed")


def zipapp(arguments: list[str]) -> None:
    become(PYTHON, "packaging/make_zipapp.py", *arguments)


def packages(arguments: list[str]) -> None:
    run(PYTHON, "packaging/make_zipapp.py", "--with-postgres")
    become(PYTHON, "packaging/make_packages.py", *arguments)


def bundle(arguments: list[str]) -> None:
    run(PYTHON, "packaging/make_zipapp.py", "--with-postgres")
    become(PYTHON, "packaging/make_bundle.py", *arguments)


def bench(arguments: list[str]) -> None:
    run(PYTHON, "packaging/make_zipapp.py")
    become(PYTHON, "packaging/run_bench.py", *arguments)


def docs(arguments: list[str]) -> None:
    pages = {
        "configuration": ["-m", "gocdnext.cli.manual", "configuration"],
        "cli": ["-m", "gocdnext.cli.manual", "cli"],
        "state-machine": ["packaging/draw_states.py"],
        "plugins": ["packaging/list_plugins.py"],
    }
    for page, command in pages.items():
        made = subprocess.run([str(PYTHON), *command], cwd=ROOT, env=environment(), capture_output=True)
        if made.returncode != 0:
            raise SystemExit(made.stderr.decode())
        (ROOT / "docs" / f"{page}.md").write_bytes(made.stdout)
        say(f"wrote docs/{page}.md")
    run(PYTHON, "-m", "tests.write_messages")
    say("wrote gocdnext/client/messages.py")


def proto(arguments: list[str]) -> None:
    run(PYTHON, "-m", "grpc_tools.protoc", "--proto_path=.", "--python_out=.", "--mypy_out=.", "--grpclib_python_out=.",
        "gocdnext/proto/agent.proto")  # fmt: skip
    say("wrote gocdnext/proto/agent_pb2.py, agent_pb2.pyi and agent_grpc.py")


def lock(arguments: list[str]) -> None:
    compile_lock = ["uv", "pip", "compile", "pyproject.toml", "--generate-hashes", "--python-version", "3.11",
                    "--universal", "--no-header", "--no-annotate", "--quiet", *arguments]  # fmt: skip
    run(*compile_lock, "-o", "requirements.lock")
    run(*compile_lock, "--group", "dev", "-c", "requirements.lock", "-o", "requirements-dev.lock")
    say("wrote requirements.lock and requirements-dev.lock; the next verb installs them")


VERBS = {
    verb.__name__: verb for verb in (demo, test, nightly, lint, zipapp, packages, bundle, bench, docs, proto, lock)
}


def main() -> None:
    if sys.version_info < OLDEST:
        raise SystemExit(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}. Try: python3.11 build.py")
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE)
        return
    verb = VERBS.get(arguments[0])
    if verb is None:
        print(f"{USAGE}\n\nbuild.py: there is no verb {arguments[0]!r}", file=sys.stderr)
        raise SystemExit(2)
    ensure_venv()
    verb(arguments[1:])


if __name__ == "__main__":
    main()
