"""Packages and the air-gap archive, made from the executable: what is in them, and that they come out the same again."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT, clean_environment


def need(tool: str) -> None:
    """Skips without a packaging tool or a library of the build; on the build machine that is a failure."""
    here = importlib.util.find_spec(tool) if "_" in tool or tool == "cyclonedx" else shutil.which(tool)
    if here is None:
        assert os.environ.get("CI") != "true", f"{tool} is missing"
        pytest.skip(f"{tool} is not here")


def make(script: str, program: Path, output: Path, *options: str) -> Path:
    """Runs a script of `packaging/` and gives the folder of what it made."""
    for library in ("click_man", "cyclonedx"):
        need(library)
    done = subprocess.run(
        [sys.executable, f"packaging/{script}", "--executable", program, "--output", output, *options],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return output


def told(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def bundled(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make("make_bundle.py", program, tmp_path_factory.mktemp("bundle"))
    return next(folder.glob("*.tar.gz"))


def test_the_archive_is_what_the_program_in_it_takes(bundled: Path, program: Path) -> None:
    checksum = bundled.with_name(bundled.name + ".sha256").read_text().split()[0]
    command = [sys.executable, program, "bundle", "verify", bundled, "--sha256", checksum]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "in order" in done.stdout) == (0, True), done.stderr
    with tarfile.open(bundled) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
        packed = tar.extractfile(f"{bundled.name.removesuffix('.tar.gz')}/gocdnext")
        assert packed is not None
        assert packed.read() == program.read_bytes()
    assert {"SHA256SUMS", "sbom.cdx.json", "docs/installing.md", "plugins/slack/plugin.yaml", "LICENSE"} <= names
    assert {"man/gocdnext.1.gz", "completions/gocdnext.bash", "system/gocdnext.service"} <= names


def test_the_archive_comes_out_the_same_again(bundled: Path, program: Path, tmp_path: Path) -> None:
    assert digests(make("make_bundle.py", program, tmp_path)) == digests(bundled.parent)


def test_the_inventory_names_everything_that_is_packed(bundled: Path, program: Path) -> None:
    with tarfile.open(bundled) as tar:
        file = tar.extractfile(f"{bundled.name.removesuffix('.tar.gz')}/sbom.cdx.json")
        assert file is not None
        inventory = json.load(file)
    assert inventory["specVersion"] == "1.6"
    (own,) = inventory["metadata"]["component"]["hashes"]
    assert own == {"alg": "SHA-256", "content": hashlib.sha256(program.read_bytes()).hexdigest()}
    urls = {each["purl"].split("?")[0] for each in inventory["components"]}
    packed = [
        name.split("/")[1] for name in zipfile.ZipFile(program).namelist() if name.endswith(".dist-info/METADATA")
    ]
    for folder in packed:
        name, _, version = folder.removesuffix(".dist-info").rpartition("-")
        url = f"pkg:pypi/{name.lower().replace('_', '-').replace('.', '-')}@{version}"
        assert name == "gocdnext" or url in urls, url
    assert {"postgresql", "openssl"} <= {each["name"] for each in inventory["components"]}


def test_the_deb(program: Path, tmp_path: Path) -> None:
    need("dpkg-deb")
    folder = make("make_packages.py", program, tmp_path / "one", "--only", "deb")
    assert digests(make("make_packages.py", program, tmp_path / "two", "--only", "deb")) == digests(folder)
    (package,) = folder.iterdir()
    tree = tmp_path / "tree"
    told("dpkg-deb", "--raw-extract", package, tree)
    assert (tree / "usr/lib/gocdnext/gocdnext").read_bytes() == program.read_bytes()
    assert "ExecStart=/usr/bin/gocdnext serve" in (tree / "usr/lib/systemd/system/gocdnext.service").read_text()
    assert (tree / "DEBIAN/conffiles").read_text() == "/etc/gocdnext/agent.env\n/etc/gocdnext/server.env\n"
    assert (tree / "etc/gocdnext/server.env").stat().st_mode & 0o777 == 0o600
    assert f"python{sys.version_info[0]}.{sys.version_info[1]}," in told("dpkg-deb", "--field", package, "Depends")
    assert {line.split()[1] for line in told("dpkg-deb", "--contents", package).splitlines()} == {"root/root"}
    for script in ("postinst", "prerm", "postrm"):
        told("sh", "-n", tree / "DEBIAN" / script)
    assert "_GOCDNEXT_COMPLETE" in (tree / "usr/share/bash-completion/completions/gocdnext").read_text()


def test_the_rpm(program: Path, tmp_path: Path) -> None:
    need("rpmbuild")
    (package,) = make("make_packages.py", program, tmp_path, "--only", "rpm").iterdir()
    listed = set(told("rpm", "-qlp", package).splitlines())
    assert {"/usr/bin/gocdnext", "/usr/lib/gocdnext/gocdnext", "/usr/lib/sysusers.d/gocdnext.conf"} <= listed
    assert {"/usr/share/man/man1/gocdnext.1.gz", "/usr/share/licenses/gocdnext/LICENSE"} <= listed
    assert not [name for name in listed if name.startswith("/var")], "what is kept must not belong to the package"
    configured = told("rpm", "-qp", "--configfiles", package).split()
    assert configured == ["/etc/gocdnext/agent.env", "/etc/gocdnext/server.env"]
    assert "/usr/bin/git" in told("rpm", "-qp", "--requires", package)
    assert "systemctl try-restart" in told("rpm", "-qp", "--scripts", package)


def test_the_container_file_makes_nobody_root() -> None:
    lines = (ROOT / "packaging" / "Containerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["10001:10001"]
    assert {"VOLUME /var/lib/gocdnext", "STOPSIGNAL SIGTERM"} <= set(lines)
    assert [line for line in lines if line.startswith("HEALTHCHECK ")]
