"""Builds the packages of the distributions from an executable: `dist/gocdnext_VERSION_ARCH.deb` and the `.rpm`.

Run by `build.py packages`. dpkg-deb and rpmbuild do the work; the tree that they pack is laid out by payload.py. The same
executable gives the same bytes. It must not write anywhere else than `.build/` and the output folder.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from pathlib import Path

from make_zipapp import BUILD, DIST, file_digest
from payload import ROOT, Identity, identity, put, remade, run_tool, settle, system_tree
from sbom import inventory

PACKAGING = ROOT / "packaging"
DEB_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What Debian calls a machine; RPM calls it as the kernel does."""
SCRIPTS = ("postinst", "prerm", "postrm")


def build_deb(executable: Path, who: Identity, work: Path, output: Path) -> Path:
    """The Debian package. Returns its path."""
    tree = remade(work / "deb")
    system_tree(executable, tree, inventory(executable), zsh_functions="vendor-completions")
    put(tree / "usr/share/doc/gocdnext/copyright", (PACKAGING / "deb" / "copyright").read_bytes())
    files = [path for path in sorted(tree.rglob("*")) if path.is_file()]
    control = (PACKAGING / "deb" / "control").read_text()
    values = {
        "VERSION": who.version,
        "ARCHITECTURE": DEB_MACHINES[who.machine],
        "PYTHON": who.python,
        "SIZE": str(sum(path.stat().st_size for path in files) // 1024),
    }
    for name, value in values.items():
        control = control.replace(f"@{name}@", value)
    own = tree / "DEBIAN"
    put(own / "control", control)
    named = [path.relative_to(tree) for path in files]
    put(own / "conffiles", "".join(f"/{name}\n" for name in named if name.parts[0] == "etc"))
    # MD5 is what dpkg --verify reads; it guards against bad disks, not against people.
    sums = (f"{hashlib.md5((tree / name).read_bytes(), usedforsecurity=False).hexdigest()}  {name}\n" for name in named)
    put(own / "md5sums", "".join(sums))
    for name in SCRIPTS:
        put(own / name, (PACKAGING / "deb" / name).read_bytes(), 0o755)
    settle(tree)
    package = output / f"gocdnext_{who.version}_{DEB_MACHINES[who.machine]}.deb"
    run_tool("dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, package, package="dpkg")
    return package


def build_rpm(executable: Path, who: Identity, work: Path, output: Path) -> Path:
    """The RPM package. Returns its path."""
    tree = remade(work / "rpm")
    system_tree(executable, tree, inventory(executable), zsh_functions="site-functions")
    put(tree / "usr/share/licenses/gocdnext/LICENSE", (ROOT / "LICENSE").read_bytes())
    settle(tree)
    top = remade(work / "rpmbuild")
    settings = {
        "_topdir": top,
        "_buildhost": "localhost",
        "_rpmfilename": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
        "use_source_date_epoch_as_buildtime": 1,
        "clamp_mtime_to_source_date_epoch": 1,
        "source_date_epoch_from_changelog": 0,
        "program_version": who.version,
        "program_python": who.python,
        "program_tree": tree,
    }
    defines = [word for name, value in settings.items() for word in ("--define", f"{name} {value}")]
    spec = PACKAGING / "rpm" / "gocdnext.spec"
    run_tool("rpmbuild", "-bb", "--quiet", "--target", who.machine, *defines, spec, package="rpm")
    (built,) = (top / "RPMS").glob("*.rpm")
    package = output / built.name
    shutil.copyfile(built, package)
    return package


def main() -> None:
    parser = argparse.ArgumentParser(prog="build.py packages", description=__doc__)
    parser.add_argument("--executable", type=Path, default=DIST / "gocdnext", help="default: dist/gocdnext")
    parser.add_argument("--output", type=Path, default=DIST, metavar="DIR", help="default: dist")
    parser.add_argument("--only", choices=("deb", "rpm"), help="only this one")
    options = parser.parse_args()
    who = identity(options.executable)
    work = BUILD / "packages"
    options.output.mkdir(parents=True, exist_ok=True)
    for kind, build in {"deb": build_deb, "rpm": build_rpm}.items():
        if options.only in (None, kind):
            package = build(options.executable, who, work, options.output)
            print(f"{package.name}: {package.stat().st_size / 1_000_000:.1f} MB, sha256 {file_digest(package)}")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
