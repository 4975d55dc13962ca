"""`install-service`: what it would do, and what it refuses. Booting the units is told of in docs/installing.md."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gocdnext.cli import service

Call = Callable[..., Any]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="files of root are needed")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of a machine without the service, and a program that belongs to root alone. The Python of a developer is
    often in a home, where no service sees it."""
    monkeypatch.setattr(service, "UNITS", tmp_path / "units")
    monkeypatch.setattr(service, "SETTINGS", tmp_path / "settings")
    monkeypatch.setattr(service, "UNSEEN", ("/home/",))
    monkeypatch.setattr(service, "user_exists", lambda name: False)  # this machine may have served before
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid != 0:
            pytest.skip(f"{folder} does not belong to root")
    program = tmp_path / "gocdnext"
    with zipfile.ZipFile(program, "w") as archive:
        archive.writestr("__main__.py", "")
    return program


@needs_root
def test_a_dry_run_prints_everything_and_does_nothing(call: Call, machine: Path) -> None:
    found = call("install-service", "--dry-run", "--program", str(machine))
    assert found.code == 0, found.err
    assert "run     useradd --system" in found.out
    assert f"ExecStart={os.path.realpath(sys.executable)} {machine} serve\n" in found.out
    assert "run     systemctl enable --now gocdnext.service" in found.out
    assert not service.UNITS.exists()
    assert not service.SETTINGS.exists()


@needs_root
def test_the_agent_is_not_started_without_its_token(call: Call, machine: Path) -> None:
    found = call("install-service", "--agent", "--dry-run", "--program", str(machine))
    assert "run     systemctl enable gocdnext-agent.service" in found.out
    assert "systemctl start gocdnext-agent" in found.out


@needs_root
def test_what_it_writes(machine: Path) -> None:
    for step in service.installation(service.SERVER, str(machine)):
        if isinstance(step, service.File):
            service.take(step)
    settings = service.SETTINGS / "server.env"
    assert settings.stat().st_mode & 0o777 == 0o600
    settings.write_text("GOCDNEXT_HTTP_ADDR=:80\n")
    service.refuse_edited(service.SERVER, force=False)
    assert not [step for step in service.installation(service.SERVER, str(machine)) if isinstance(step, service.File)]
    if analyze := shutil.which("systemd-analyze"):
        command = [analyze, "security", "--offline=yes", "--no-pager", "--threshold=15", service.SERVER.unit]
        assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


@needs_root
def test_an_unedited_unit_of_an_older_file_is_replaced_an_edited_one_is_not(call: Call, machine: Path) -> None:
    unit = service.SERVER.unit
    older = service.unit_text(service.SERVER, "/opt/old/gocdnext")
    service.write(unit, older, 0o644)
    assert f"write   {unit}" in call("install-service", "--dry-run", "--program", str(machine)).out
    unit.write_text(older.replace("RestartSec=2", "RestartSec=3"))
    for options in ((), ("--uninstall",)):
        found = call("install-service", "--dry-run", "--program", str(machine), *options)
        assert (found.code, "systemctl edit gocdnext" in found.err) == (1, True), found.err
    assert call("install-service", "--dry-run", "--force", "--program", str(machine)).code == 0


@needs_root
def test_uninstall_keeps_the_data(call: Call, machine: Path) -> None:
    assert "nothing to remove" in call("install-service", "--uninstall", "--dry-run").err
    service.write(service.SERVER.unit, service.unit_text(service.SERVER, str(machine)), 0o644)
    found = call("install-service", "--uninstall", "--dry-run")
    assert [line.split()[0] for line in found.out.splitlines()] == ["run", "remove", "run", "/var/lib/gocdnext,"]


@needs_root
def test_programs_that_a_service_must_not_run(call: Call, machine: Path) -> None:
    def refused(path: Path) -> str:
        found = call("install-service", "--dry-run", "--program", str(path))
        assert found.code == 1
        return str(found.err)

    assert "is not the one-file program" in refused(Path("/bin/sh"))
    assert "a service does not see" in refused(Path("/home/ines/gocdnext"))
    assert "mean something else in a unit" in refused(machine.with_name("my program"))
    machine.chmod(0o777)
    assert "others than root can change" in refused(machine)


def test_only_where_systemd_is(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(service, "BOOTED", tmp_path / "none")
    found = call("install-service")
    assert (found.code, "systemd does not run this machine" in found.err) == (3, True)


def test_only_as_root(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(service, "BOOTED", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = call("install-service")
    assert (found.code, "sudo" in found.err) == (3, True)
