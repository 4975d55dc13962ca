"""What an installation consists of besides the executable: units, man pages, completions, documentation, inventory.

The packages and the air-gap archive take their files from here. Everything is described by what is in the executable
itself, and every file has the same date, mode and bytes whoever builds it. It must not write outside the folder it is given.
"""

from __future__ import annotations

import ast
import gzip
import inspect
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from email.parser import HeaderParser
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import click  # noqa: E402
from make_zipapp import EPOCH, files_below  # noqa: E402

SYSTEM = ROOT / "packaging" / "system"
DATE = int(EPOCH)
"""Date of every file, Unix seconds."""
PRIVATE = {"server.env", "agent.env"}
"""Files in which an administrator will write passwords: for root only."""


class Identity(NamedTuple):
    """What an executable says about itself."""

    version: str
    python: str
    """`3.11`: the only Python that its compiled parts fit."""
    machine: str
    """As `uname -m` says, `x86_64`."""


def identity(executable: Path) -> Identity:
    """Reads it from the file. Raises SystemExit when it is not one of ours."""
    try:
        with zipfile.ZipFile(executable) as archive:
            (metadata,) = (name for name in archive.namelist() if name.endswith("METADATA") and "/gocdnext-" in name)
            version = HeaderParser().parsestr(archive.read(metadata).decode())["Version"]
            start = archive.read("__main__.py").decode()
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise SystemExit(f"{executable} is not a gocdnext executable ({error}). Build one: build.py zipapp") from None
    line = next(line for line in start.splitlines() if line.startswith("BUILT_FOR = "))
    numbers, machine = ast.literal_eval(line.removeprefix("BUILT_FOR = "))
    return Identity(version, ".".join(map(str, numbers)), machine)


def fixed_environment() -> dict[str, str]:
    """The environment for tools that write dates, names or sentences into what they make."""
    return {**os.environ, "SOURCE_DATE_EPOCH": EPOCH, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def run_tool(*command: str | Path, package: str) -> None:
    """Runs a packaging tool; SystemExit with its output, or with the name of the package to install."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            env=fixed_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is not here. Install the package {package}.") from None
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}\n{command[0]} failed ({done.returncode})")


def put(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Writes a file and its folders, with the one date, whatever the umask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    os.utime(path, (DATE, DATE))


def settle(folder: Path) -> None:
    """0755 and the one date for every directory below; last, because writing into one changes it."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
            os.utime(path, (DATE, DATE))


def unit(name: str, program: str) -> str:
    """A unit that starts `program` instead of the place for copies made by hand."""
    text = (SYSTEM / name).read_text()
    return text.replace("ExecStart=/opt/gocdnext/gocdnext ", f"ExecStart={program} ")


def completions() -> Iterator[tuple[str, str]]:
    """Shell and script."""
    from click.shell_completion import get_completion_class

    from gocdnext.cli.about import SHELLS
    from gocdnext.cli.program import program

    for shell in SHELLS:
        found = get_completion_class(shell)
        assert found is not None
        yield shell, found(program, {}, "gocdnext", "_GOCDNEXT_COMPLETE").source()


def manual(version: str) -> Iterator[tuple[str, bytes]]:
    """File name and content of the man page of every command, the first one that of the program. Made by click-man."""
    from gocdnext.cli.program import program

    yield from _pages(program, click.Context(program, info_name="gocdnext", **program.context_settings), version)


def _pages(command: click.Command, context: click.Context, version: str) -> Iterator[tuple[str, bytes]]:
    from click_man.man import ManPage

    inner = _visible(command, context)
    page = ManPage(context.command_path)
    page.version = version
    page.date = "2026-01-01"
    page.short_help = as_text(command.get_short_help_str(100))
    # click's own mark for "do not wrap this paragraph" says nothing to a reader.
    page.description = as_text(inspect.cleandoc(command.help or "").replace("\b\n", "").split("\f")[0])
    page.synopsis = " ".join(command.collect_usage_pieces(context))
    page.options = [
        (record[0], as_text(record[1]))
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context))
    ]
    page.commands = [(name, as_text(each.get_short_help_str(100))) for name, each in inner]
    yield f"{context.command_path.replace(' ', '-')}.1.gz", gzip.compress(str(page).encode(), 9, mtime=0)
    for name, each in inner:
        yield from _pages(each, click.Context(each, info_name=name, parent=context), version)


def as_text(words: str) -> str:
    """Words that troff takes as words: click-man passes on what would be an escape, or a request at a line's begin."""
    lines = (line.replace("\\", "\\e") for line in words.split("\n"))
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in lines)


def _visible(command: click.Command, context: click.Context) -> list[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return []
    found = ((name, command.get_command(context, name)) for name in command.list_commands(context))
    return [(name, each) for name, each in found if each is not None and not each.hidden]


def documentation() -> Iterable[Path]:
    """The pages, and what belongs to them."""
    return sorted((ROOT / "docs").glob("*.md"))


def copy_tree(source: Path, target: Path) -> None:
    """Files below a folder, without byte code, with the modes and date of everything here."""
    for path in files_below(source):
        mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
        put(target / path.relative_to(source), path.read_bytes(), mode)


def system_tree(executable: Path, folder: Path, inventory: str, zsh_functions: str) -> None:
    """The files of a package as they will lie on the machine, below `folder`. `zsh_functions` is where the distribution
    wants completions of packages, below /usr/share/zsh."""
    who = identity(executable)
    usr = folder / "usr"
    put(usr / "lib/gocdnext/gocdnext", executable.read_bytes(), 0o755)
    wrapper = (SYSTEM / "gocdnext.sh").read_text().replace("@PYTHON@", f"/usr/bin/python{who.python}")
    put(usr / "bin/gocdnext", wrapper, 0o755)
    for name in ("gocdnext.service", "gocdnext-agent.service"):
        put(usr / "lib/systemd/system" / name, unit(name, "/usr/bin/gocdnext"))
    put(usr / "lib/sysusers.d/gocdnext.conf", (SYSTEM / "gocdnext.sysusers").read_bytes())
    put(usr / "lib/tmpfiles.d/gocdnext.conf", (SYSTEM / "gocdnext.tmpfiles").read_bytes())
    for name in sorted(PRIVATE):
        put(folder / "etc/gocdnext" / name, (SYSTEM / name).read_bytes(), 0o600)
    share = usr / "share"
    for name, page in manual(who.version):
        put(share / "man/man1" / name, page)
    places = {
        "bash": "bash-completion/completions/gocdnext",
        "zsh": f"zsh/{zsh_functions}/_gocdnext",
        "fish": "fish/vendor_completions.d/gocdnext.fish",
    }
    for shell, script in completions():
        put(share / places[shell], script)
    changes = gzip.compress((ROOT / "CHANGELOG.md").read_bytes(), 9, mtime=0)
    put(share / "doc/gocdnext/changelog.gz", changes)
    put(share / "doc/gocdnext/sbom.cdx.json", inventory)
    for path in documentation():
        put(share / "doc/gocdnext" / path.name, path.read_bytes())
    settle(folder)


def remade(folder: Path) -> Path:
    """An empty folder of that name, whatever was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
