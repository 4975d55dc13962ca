"""`bundle verify`: whether an air-gap archive arrived as it was made. It looks at the archive and writes nothing.

An archive is a tar.gz with one folder; its first file is `SHA256SUMS`, which names every other one. That finds what breaks
on the way. Against somebody who makes an archive of his own only a checksum that came another way helps: `--sha256`.
"""

from __future__ import annotations

import gzip
import hashlib
import platform
import re
import tarfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple

import click

from gocdnext.cli.common import Cannot, Failure

SUMS = "SHA256SUMS"
MOST_FILES = 10_000
MOST_BYTES = 1024**3
"""Bytes of all files; an archive has about 20 MB."""
MOST_SUMS = 4 * 1024**2
BLOCK = 1024 * 1024
FOLDER = re.compile(r"gocdnext-(?P<version>[0-9A-Za-z.+]+)-linux-(?P<machine>[a-z0-9_]+)")
LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
PART = re.compile(r"[A-Za-z0-9_+@=,.-]+")
"""What a part of a path may look like; `..` is refused besides."""


class Broken(Exception):
    """The archive is not as it was made; the text says what is wrong."""


class Bundle(NamedTuple):
    """What was found to be in order."""

    version: str
    machine: str
    files: int
    size: int


@click.group()
def bundle() -> None:
    """Archives for sites without a network: the executable, plugins, documentation, checksums."""


@bundle.command()
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("--sha256", metavar="HEX", help="The checksum of the archive, as you got it by another way.")
def verify(archive: Path, sha256: str | None) -> None:
    """Check that ARCHIVE is whole: every file, its checksum and its name. Nothing is unpacked."""
    try:
        if sha256 is not None:
            compare(archive, sha256.strip().lower())
        found = check(archive)
    except OSError as error:
        raise Cannot(f"cannot read {archive}: {error.strerror or error}") from None
    except Broken as error:
        raise Failure(f"{archive}: {error}. Do not install from it; copy it again, or get another.") from None
    click.echo(
        f"{archive}: gocdnext {found.version} for {found.machine}, {found.files} files, {found.size} bytes: in order"
    )
    if sha256 is None:
        click.echo("Its files fit its own checksums. Who made it, only --sha256 can tell.")
    if found.machine != platform.machine():
        click.echo(f"note: it does not run on this machine, which is {platform.machine()}", err=True)


def compare(archive: Path, expected: str) -> None:
    """Raises Broken when the file has another SHA-256."""
    if not re.fullmatch(r"[0-9a-f]{64}", expected):
        raise click.UsageError("--sha256 takes 64 hexadecimal digits")
    with archive.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        raise Broken(f"its SHA-256 is {actual}, not {expected}")


def check(archive: Path) -> Bundle:
    """Reads the archive once, from front to back. Raises Broken, OSError."""
    with archive.open("rb") as file:
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                # Bytes behind the end of the tar are not looked at by any tool that unpacks it, but by gzip's checksum.
                with tarfile.open(fileobj=stream, mode="r|") as tar:
                    found = check_files(tar)
                while stream.read(BLOCK):
                    pass
        except (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError) as error:
            raise Broken(f"it is damaged, cut off, or no tar.gz ({error})") from None
    return found


def check_files(tar: tarfile.TarFile) -> Bundle:
    """Every file against the list that comes first. Raises Broken."""
    first = tar.next()
    folder, slash, name = first.name.partition("/") if first is not None else ("", "", "")
    kind = FOLDER.fullmatch(folder)
    if first is None or kind is None or name != SUMS or not first.isreg() or first.size > MOST_SUMS:
        raise Broken("it is no archive of gocdnext")
    expected = read_sums(content_of(tar, first).read())
    seen: set[str] = set()
    size = 0
    while (member := tar.next()) is not None:
        name = member.name.removeprefix(folder + slash)
        refuse_kind(member, name, folder + slash)
        size += member.size
        if name in seen or name not in expected or size > MOST_BYTES:
            raise Broken(f"{name!r} stands in it twice, is not in {SUMS}, or is far too large")
        if digest(content_of(tar, member)) != expected[name]:
            raise Broken(f"{name} is not what was packed: its checksum is another")
        seen.add(name)
    if missing := sorted(expected.keys() - seen):
        raise Broken(f"{len(missing)} files are missing, {missing[0]} for one")
    return Bundle(kind["version"], kind["machine"], len(seen), size)


def refuse_kind(member: tarfile.TarInfo, name: str, prefix: str) -> None:
    """Raises Broken for what is no plain file at a plain place: links, devices, paths that lead elsewhere."""
    parts = name.split("/")
    plain = all(PART.fullmatch(part) and part not in (".", "..") for part in parts)
    if not member.name.startswith(prefix) or not plain:
        raise Broken(f"{member.name!r} would lie outside of its folder")
    if not member.isreg():
        raise Broken(f"{name} is a link, a device or a folder; an archive has plain files only")


def read_sums(content: bytes) -> dict[str, str]:
    """Name and SHA-256 of each file, in the format of sha256sum. Raises Broken."""
    found: dict[str, str] = {}
    for line in content.decode("utf-8", "replace").splitlines():
        parsed = LINE.fullmatch(line)
        if parsed is None or parsed[2] in found or len(found) >= MOST_FILES:
            raise Broken(f"its {SUMS} cannot be read")
        found[parsed[2]] = parsed[1]
    if not found:
        raise Broken(f"its {SUMS} is empty")
    return found


def content_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    if content is None:
        raise Broken(f"{member.name} has no content")
    return content


def digest(content: IO[bytes]) -> str:
    total = hashlib.sha256()
    while block := content.read(BLOCK):
        total.update(block)
    return total.hexdigest()
