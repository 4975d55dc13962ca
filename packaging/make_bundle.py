"""Builds the archive for sites without a network: `dist/gocdnext-VERSION-linux-MACHINE.tar.gz`, and its checksum beside it.

Run by `build.py bundle`. The executable for one machine, plugins, documentation, manual, completions, units, inventory and
checksums. `gocdnext bundle verify` reads it. The same executable gives the same bytes. It must not write elsewhere.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import tarfile
from pathlib import Path

from make_zipapp import DIST, file_digest, files_below
from payload import DATE, ROOT, SYSTEM, Identity, completions, documentation, identity, manual
from sbom import inventory

SUMS = "SHA256SUMS"
Files = dict[str, tuple[bytes, int]]
"""Content and mode of each file by its name in the archive."""


def files(executable: Path, who: Identity) -> Files:
    """Everything but the checksums."""
    found: Files = {
        "gocdnext": (executable.read_bytes(), 0o755),
        "sbom.cdx.json": (inventory(executable).encode(), 0o644),
    }
    for name in ("LICENSE", "README.md", "CHANGELOG.md"):
        found[name] = ((ROOT / name).read_bytes(), 0o644)
    for path in documentation():
        found[f"docs/{path.name}"] = (path.read_bytes(), 0o644)
    for folder, source in (("plugins", ROOT / "plugins"), ("system", SYSTEM)):
        for path in files_below(source):
            mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            found[f"{folder}/{path.relative_to(source)}"] = (path.read_bytes(), mode)
    for name, page in manual(who.version):
        found[f"man/{name}"] = (page, 0o644)
    for shell, script in completions():
        found[f"completions/gocdnext.{shell}"] = (script.encode(), 0o644)
    return found


def write(archive: Path, folder: str, content: Files) -> None:
    """A tar.gz with the checksums first, so that it can be checked while it is read. Names, order, dates are fixed."""
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, (data, _) in sorted(content.items()))
    with (
        archive.open("wb") as file,
        gzip.GzipFile("", "wb", 9, file, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, (data, mode) in [(SUMS, (sums.encode(), 0o644)), *sorted(content.items())]:
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode, entry.mtime = len(data), mode, DATE
            entry.uname = entry.gname = "root"
            tar.addfile(entry, io.BytesIO(data))


def build(executable: Path, output: Path) -> Path:
    """Writes the archive and its `.sha256`. Returns its path."""
    who = identity(executable)
    folder = f"gocdnext-{who.version}-linux-{who.machine}"
    archive = output / f"{folder}.tar.gz"
    write(archive, folder, files(executable, who))
    archive.with_name(archive.name + ".sha256").write_text(f"{file_digest(archive)}  {archive.name}\n")
    return archive


def main() -> None:
    parser = argparse.ArgumentParser(prog="build.py bundle", description=__doc__)
    parser.add_argument("--executable", type=Path, default=DIST / "gocdnext", help="default: dist/gocdnext")
    parser.add_argument("--output", type=Path, default=DIST, metavar="DIR", help="default: dist")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    archive = build(options.executable, options.output)
    print(f"{archive.name}: {archive.stat().st_size / 1_000_000:.1f} MB, sha256 {file_digest(archive)}")


if __name__ == "__main__":
    main()
