"""ssh: a real sshd on loopback that this test starts, rsync and scripts, and what goes wrong on the way."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.plugins.conftest import Workspace

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
TOOLS = [SSHD, "ssh", "ssh-keygen", "rsync"]
CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
"""


@dataclass
class Host:
    """The sshd: where it is, its key, and the key that it lets in."""

    port: int
    host_key: str
    key: str
    folder: Path

    def inputs(self, **more: str) -> dict[str, str]:
        given = {"host": "127.0.0.1", "user": getpass.getuser(), "port": str(self.port), "key": self.key}
        return {**given, "host_key": self.host_key, **more}


def make_key(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "comment of the key", "-f", str(path)]
    subprocess.run(command, check=True)


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"needs {', '.join(missing)}")
    assert not missing, f"install openssh-server and rsync: {missing}"
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host_key", "key"):
        make_key(folder / name)
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it locks itself in before anybody has signed in
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stderr=log)
    try:
        until_it_listens(server, port, folder / "log")
        public = " ".join((folder / "host_key.pub").read_text().split()[:2])
        yield Host(port, public, (folder / "key").read_text(), folder)
    finally:
        server.terminate()
        server.wait(30)


def until_it_listens(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(1000):
        assert server.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(0.02)
    raise AssertionError(log.read_text())


def test_files_then_a_script(workspace: Workspace, host: Host, tmp_path: Path) -> None:
    source = workspace.path / "app" / "dist"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "a.txt").write_text("new")
    target = tmp_path / "target"
    target.mkdir()
    (target / "old.txt").write_text("to go")
    record = workspace.recording("ssh", tmp_path)
    script = f"cat {target}/sub/a.txt\nread line || echo nothing to read\necho err >&2"
    inputs = host.inputs(upload="dist/", target=f"{target}/", script=script, **{"working-dir": "app"})
    outcome = workspace.good("ssh", inputs)
    assert sorted(path.name for path in target.rglob("*")) == ["a.txt", "sub"]
    assert "newnothing to read\n" in outcome.out
    assert "err\n" in outcome.err
    told = record.read_text()
    assert told.count("-F\n") == 2
    assert "PRIVATE KEY" not in told
    assert "cat " not in told
    secret_line = host.key.splitlines()[1]
    assert secret_line not in told + outcome.text
    assert "/proc/" in told  # where the key is, and never was on a disk


def test_a_script_stops_at_the_first_failure_and_its_code_is_ours(workspace: Workspace, host: Host) -> None:
    outcome = workspace.run("ssh", host.inputs(script="echo one\n(exit 7)\necho two"))
    assert outcome.code == 7
    assert outcome.out == "one\n"
    assert outcome.err == "ssh: error: the script ended with 7\n"
    assert workspace.run("ssh", host.inputs(script="echo $NO_SUCH_VARIABLE")).code not in (0, 255)
    outcome = workspace.run("ssh", host.inputs(script="cat <<END\nhere\nEND\nif true; then"))
    assert outcome.code == 2
    assert outcome.out == ""  # not a part of it ran


def test_one_file_with_other_options(workspace: Workspace, host: Host, tmp_path: Path) -> None:
    (workspace.path / "a:b c").write_text("x")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "kept").write_text("x")
    inputs = host.inputs(upload="a:b c", target=f"{tmp_path}/target/", rsync_opts="-t --checksum")
    workspace.good("ssh", inputs)
    assert sorted(path.name for path in (tmp_path / "target").iterdir()) == ["a:b c", "kept"]


def test_a_key_with_windows_line_ends(workspace: Workspace, host: Host) -> None:
    workspace.good("ssh", host.inputs(key=host.key.strip().replace("\n", "\r\n"), script=":"))


def test_known_hosts_as_keyscan_prints_them(workspace: Workspace, host: Host) -> None:
    known = f"# a comment\n[127.0.0.1]:{host.port} {host.host_key}\n"
    workspace.good("ssh", host.inputs(host_key="", known_hosts=known, script=":"))


def test_a_host_that_nobody_knows(workspace: Workspace, host: Host) -> None:
    outcome = workspace.run("ssh", host.inputs(host_key="", script=":"))
    assert outcome.code == 2
    assert "set `known_hosts` to what `ssh-keyscan` prints" in outcome.err
    for check in ("accept-new", "no"):
        workspace.good("ssh", host.inputs(host_key="", host_key_check=check, script=":"))


def test_a_host_with_another_key(workspace: Workspace, host: Host, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    other = (tmp_path / "other.pub").read_text()
    outcome = workspace.run("ssh", host.inputs(host_key=other, script="echo ran"))
    assert outcome.code == 255
    assert "Host key verification failed" in outcome.err
    assert "ran" not in outcome.out


def test_a_key_that_is_not_let_in(workspace: Workspace, host: Host, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    outcome = workspace.run("ssh", host.inputs(key=(tmp_path / "other").read_text(), script="echo ran"))
    assert outcome.code == 255
    assert "Permission denied" in outcome.err
    outcome = workspace.run("ssh", host.inputs(key="no key at all", script="echo ran"))
    assert outcome.code == 255
    assert "no key at all" not in outcome.text


def test_a_password_comes_by_no_argument(workspace: Workspace, host: Host, tmp_path: Path) -> None:
    """This sshd takes none; what is seen here is that ssh gets it from the helper and nobody else does."""
    record = workspace.recording("ssh", tmp_path)
    outcome = workspace.run("ssh", host.inputs(key="", password="s3cr3t-password", script="echo ran"))
    assert outcome.code == 255
    assert "Permission denied" in outcome.err
    assert "s3cr3t" not in record.read_text() + outcome.text


def test_rsync_fails(workspace: Workspace, host: Host) -> None:
    (workspace.path / "a").write_text("x")
    outcome = workspace.run("ssh", host.inputs(upload="a", target="/proc/nowhere/", script="echo ran"))
    assert outcome.code not in (0, 1, 2)
    assert "ssh: error: rsync ended with" in outcome.err
    assert "ran" not in outcome.out


def test_nobody_there(workspace: Workspace, host: Host) -> None:
    outcome = workspace.run("ssh", host.inputs(port="1", script=":"))
    assert outcome.code == 255
    assert "no session on 127.0.0.1" in outcome.err


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"host": ""}, "the input `host` is missing"),
        ({"host": "-oProxyCommand=x"}, "which is no name"),
        ({"user": "a b"}, "which is no name"),
        ({"port": "70000"}, "a whole number from 1 to 65535"),
        ({"key": ""}, "`key` and `password` are both empty"),
        ({"script": ""}, "there is nothing to do"),
        ({"upload": "a"}, "`target` is missing"),
        ({"upload": "nothing", "target": "/x"}, "`upload` is 'nothing', and that is not there"),
        ({"working-dir": "nowhere"}, "`working-dir` is 'nowhere': No such file"),
        ({"host_key_check": "maybe"}, "write yes or accept-new or no"),
    ],
)
def test_wrong_inputs(workspace: Workspace, inputs: dict[str, str], words: str) -> None:
    given = {"host": "127.0.0.1", "user": "x", "key": "x", "host_key": "ssh-ed25519 x", "script": ":"}
    outcome = workspace.run("ssh", {**given, **inputs})
    assert outcome.code == 2
    assert words in outcome.err
