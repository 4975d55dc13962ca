"""Each check of `doctor` on the real thing it is about: a directory, a socket, a certificate, a program."""

from __future__ import annotations

import os
import resource
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gocdnext.db.statedir import open_state
from gocdnext.doctor import disk, machine, ports, rounds, state, tools, web
from gocdnext.doctor.findings import Check, Finding, Status, examine, ok
from gocdnext.doctor.ground import Ground, stand

Make = Callable[..., Ground]


@pytest.fixture
def ground(tmp_path: Path) -> Make:
    """The ground of `tmp_path/state`, with these variables."""

    def make(**environ: str) -> Ground:
        return stand(tmp_path / "state", environ)

    return make


# How checks are made


async def test_checks_keep_their_order_and_cannot_stop_each_other() -> None:
    async def hangs() -> Finding:
        await trio.sleep_forever()
        raise AssertionError

    def breaks() -> Finding:
        raise RuntimeError("no such thing")

    def breaks_later() -> Iterator[Finding]:
        yield ok("c", "fine")
        raise OSError(5, "Input/output error")

    checks = [
        Check("a", hangs, 0.01),
        Check("b", breaks),
        Check("c", breaks_later),
        Check("d", lambda: ok("d", "fine")),
    ]
    hung, broken, later, fine = await examine(checks)
    assert [each.findings[0].status for each in (hung, broken, later, fine)] == ["warn", "warn", "warn", "ok"]
    assert "0.01 s" in hung.findings[0].found
    assert "no such thing" in broken.findings[0].found
    assert "Input/output error" in later.findings[0].found


async def test_a_check_that_blocks_in_a_thread_is_left_behind() -> None:
    gate = threading.Event()
    try:
        (stuck,) = await examine([Check("disk", lambda: (gate.wait(30), ok("disk", "fine"))[1], 0.05)])
    finally:
        gate.set()
    assert stuck.findings[0].status is Status.WARN


# The state directory


def test_a_state_directory_that_is_not_there_yet(ground: Make) -> None:
    assert state.directory(ground()).found.endswith("(will be made)")
    assert state.data(ground()).status is Status.SKIPPED


def test_a_file_instead_of_a_state_directory(ground: Make, tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    found = state.directory(ground())
    assert (found.status, found.found) == ("fail", f"{tmp_path / 'state'} is not a folder")


def test_others_may_write_to_it(ground: Make, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    found = state.directory(ground())
    assert found.status is Status.FAIL
    assert found.advice == f"Close it: chmod go-w {tmp_path / 'state'}"


def test_whose_it_is_and_who_runs_on_it(ground: Make, tmp_path: Path) -> None:
    assert ground().server_pid is None
    with open_state(tmp_path / "state"):
        standing = ground()
        assert standing.server_pid == os.getpid()
        assert standing.own
        assert f"in use by process {os.getpid()}" in state.directory(standing).found
    assert "no server runs on it" in state.directory(ground()).found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_database_that_a_restore_gave_to_the_wrong_user(ground: Make, tmp_path: Path) -> None:
    data = tmp_path / "state" / "pg" / "18"
    data.mkdir(parents=True, mode=0o700)
    (data / "PG_VERSION").write_text("18\n")
    os.chown(tmp_path / "state", 54321, 54321)
    found = state.data(ground())
    assert found.status is Status.FAIL
    assert "PostgreSQL runs as 54321" in found.found
    assert found.advice == f"chown -R 54321 {tmp_path / 'state' / 'pg'}"
    os.chown(data, 54321, 54321)
    assert state.data(ground()).status is Status.OK
    data.chmod(0o755)
    assert state.data(ground()).advice == "chmod 0700 " + str(data)


def test_keys(ground: Make, tmp_path: Path) -> None:
    with open_state(tmp_path / "state") as made:
        made.ensure_key("secrets")
        made.ensure_key("operator-token")
        assert [each.status for each in state.keys(ground())] == ["ok"]
        (tmp_path / "state" / "secrets.key").chmod(0o440)
        (tmp_path / "state" / "operator-token.key").chmod(0o600)
        (tmp_path / "state" / "operator-token.key").write_bytes(b"short")
        (tmp_path / "state" / "link.key").symlink_to("secrets.key")
        said = [each.found for each in state.keys(ground())]
    assert len(said) == 3
    assert "is not a file" in said[0]
    assert "damaged: 5 bytes instead of 32" in said[1]
    assert "others may read" in said[2]


def test_the_environment_of_the_running_server_counts(tmp_path: Path) -> None:
    """Its settings are in its unit, not in the shell of whoever looks."""
    program = (
        "import sys; from pathlib import Path; from gocdnext.db.statedir import open_state\n"
        f"with open_state(Path({str(tmp_path / 'state')!r})): print('locked', flush=True); sys.stdin.read()"
    )
    environ = {**os.environ, "GOCDNEXT_HTTP_ADDR": "127.0.0.1:19999"}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"locked\n"
        standing = stand(tmp_path / "state", {})
        server.communicate(b"")
    assert standing.server_pid == server.pid
    assert standing.settings.http_addr == ("127.0.0.1", 19999)


# Machine and disk


def test_the_clock_is_asked_of_the_kernel() -> None:
    assert machine.clock().status in ("ok", "warn", "skipped")


def test_open_files(ground: Make, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
        here = machine.open_files(ground())
        with open_state(tmp_path / "state"):
            of_server = machine.open_files(ground())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (here.status, here.found) == ("fail", "512 here")
    assert "LimitNOFILE" in here.advice
    assert of_server.status is Status.FAIL
    assert "for the server, which has" in of_server.found


def test_a_setting_with_a_slip_of_the_pen() -> None:
    environ = {"GOCDNEXT_HTTP_ADR": ":8153", "GOCDNEXT_WEBHOOK_TOKEN": "hunter2", "GOCDNEXT_LOG_LEVEL": "debug"}
    slip, obsolete = machine.variables(environ)
    assert slip.found == "GOCDNEXT_HTTP_ADR is no setting and does nothing"
    assert "Is GOCDNEXT_HTTP_ADDR meant?" in slip.advice
    assert obsolete.found == "GOCDNEXT_WEBHOOK_TOKEN is obsolete and ignored"
    assert [each.status for each in machine.variables({})] == ["ok"]


def test_room_on_the_disk(ground: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    room, inodes = disk.space(ground())
    assert {room.name, inodes.name} == {"disk space", "inodes"}
    monkeypatch.setattr(disk, "SPACE_NEEDED", 2**62)
    monkeypatch.setattr(disk, "INODES_WANTED", 10.0)
    room, inodes = disk.space(ground())
    assert room.status is Status.FAIL
    assert inodes.status in ("fail", "ok")  # ok: a file system without such a limit


def test_fsync_is_measured_and_leaves_nothing(ground: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").mkdir()
    monkeypatch.setattr(disk, "SYNCS", 3)
    assert "slowest of 3 " in disk.fsync(ground()).found
    assert list((tmp_path / "state").iterdir()) == []
    monkeypatch.setattr(disk, "UNUSABLE_SYNC", 0.0)
    slow = disk.fsync(ground())
    assert slow.status is Status.FAIL
    assert "local SSD" in slow.advice


# Ports


def test_ports(ground: Make) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        http, agents = ports.ports(ground(GOCDNEXT_HTTP_ADDR=f"127.0.0.1:{port}", GOCDNEXT_GRPC_ADDR="127.0.0.1:0"))
        assert agents.status is Status.SKIPPED
        assert http.status is Status.FAIL
        assert f"held by process {os.getpid()} (" in http.found
    http, _ = ports.ports(ground(GOCDNEXT_HTTP_ADDR=f"127.0.0.1:{port}", GOCDNEXT_GRPC_ADDR="127.0.0.1:0"))
    assert http.status is Status.OK


def test_an_address_that_is_not_here(ground: Make) -> None:
    http, _ = ports.ports(ground(GOCDNEXT_HTTP_ADDR="192.0.2.1:8153"))
    assert http.status is Status.FAIL
    assert "does not have that address" in http.advice


def test_ports_of_the_server(ground: Make, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        settings = ground(GOCDNEXT_HTTP_ADDR=f"127.0.0.1:{taken.getsockname()[1]}").settings
        http, _ = ports.ports(Ground(settings, {}, os.getpid(), own=True))
        assert http.status is Status.OK
        assert f"held by the server (process {os.getpid()})" in http.found
    http, _ = ports.ports(Ground(settings, {}, os.getpid(), own=True))
    assert http.status is Status.FAIL
    assert "nobody listens" in http.found
    assert [each.status for each in ports.ports(Ground(settings, {}, os.getpid(), own=False))] == ["skipped"]


# Tools


def test_git_that_is_too_old_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tools.git().status is Status.OK
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tools.git().status is Status.FAIL
    (tmp_path / "git").write_text("#!/bin/sh\necho git version 1.8.3.1\n")
    (tmp_path / "git").chmod(0o755)
    assert tools.git().found == "git version 1.8.3.1"
    assert tools.git().status is Status.FAIL


async def test_container_engines(ground: Make, tmp_path: Path) -> None:
    gone = await tools.containers(ground(GOCDNEXT_DOCKER_SOCKET=str(tmp_path / "none.sock")))
    assert gone.status is Status.FAIL
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
        silent = await tools.containers(ground(GOCDNEXT_DOCKER_SOCKET=str(tmp_path / "dead.sock")))
    assert silent.status is Status.WARN
    assert "nobody answers" in silent.found


async def test_a_sandbox_without_bubblewrap(ground: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (await tools.sandbox(ground())).status is Status.SKIPPED
    wanted = await tools.sandbox(ground(GOCDNEXT_AGENT_ENGINE="sandbox"))
    assert wanted.status is Status.WARN
    assert "bubblewrap" in wanted.advice


# Addresses and certificates


def _certificate(folder: Path, days: float) -> Path:
    """A self-signed certificate for localhost, good for so many more days, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{days}.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


@contextmanager
def _https(certificate: Path) -> Iterator[int]:
    """A server that shakes hands and hangs up; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain = listener.accept()[0]
            except OSError:
                return
            try:
                context.wrap_socket(plain, server_side=True).close()
            except OSError:
                plain.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


@pytest.mark.parametrize(
    ("days", "believed", "status", "said"),
    [
        (200.5, True, "ok", "200 days left"),
        (10.5, True, "warn", "10 days left"),
        (1.5, True, "fail", "1 days left"),
        (-2, True, "fail", "has expired on"),
        (200.5, False, "fail", "not believed here: self-signed certificate"),
    ],
)
def test_certificates(
    ground: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: float, believed: bool, status: str, said: str
) -> None:
    path = _certificate(tmp_path, days)
    if believed:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with _https(path) as port:
        (found,) = web.certificates(ground(GOCDNEXT_PUBLIC_BASE=f"https://localhost:{port}"))
    assert found.status == status
    assert said in found.found
    assert found.found.startswith(f"public address (localhost:{port})")


def test_an_address_where_nobody_is(ground: Make) -> None:
    standing = ground(GOCDNEXT_PUBLIC_BASE="https://user:hunter2@127.0.0.1:9")
    (certificate,) = web.certificates(standing)
    found = web.public_base(standing)
    assert (certificate.status, found.status) == ("warn", "fail")
    assert "hunter2" not in found.found + certificate.found


def test_nobody_is_asked_for_certificates_offline(ground: Make) -> None:
    environ = {"GOCDNEXT_OFFLINE": "true", "GOCDNEXT_WEBHOOK_PUBLIC_URL": "https://hooks.invalid"}
    assert [each.status for each in web.certificates(ground(**environ))] == ["skipped"]


def test_links_that_lead_agents_to_themselves(ground: Make) -> None:
    everywhere = web.agents_base(ground(GOCDNEXT_HTTP_ADDR=":8153"))
    agents_from_afar = web.agents_base(ground(GOCDNEXT_GRPC_ADDR=":8154"))
    for found in (everywhere, agents_from_afar):
        assert found.status is Status.WARN
        assert "GOCDNEXT_ARTIFACTS_PUBLIC_BASE" in found.advice


# A whole round


async def test_a_round_where_the_server_is_stopped(tmp_path: Path) -> None:
    asked = rounds.Asked(tmp_path / "state", {}, "http://127.0.0.1:9", None, with_server=False)
    found = await rounds.look(asked)
    names = [each.name for each in found.findings]
    assert {"clock", "fsync", "HTTP port", "git", "sandbox", "database", "certificates"} <= set(names)
    assert next(each for each in found.findings if each.name == "database").status is Status.SKIPPED
    assert not (tmp_path / "state").exists()  # it looked, and changed nothing


async def test_an_external_database_that_is_away(tmp_path: Path) -> None:
    url = "postgresql://ci:hunter2@127.0.0.1:9/gocdnext"
    asked = rounds.Asked(tmp_path / "state", {"GOCDNEXT_DATABASE_URL": url}, "http://127.0.0.1:9", None, False)
    found = await rounds.look(asked)
    (away,) = [each for each in found.findings if each.name == "database"]
    assert away.status is Status.FAIL
    assert found.failed
    assert "hunter2" not in str(found.findings)


async def test_an_address_of_a_database_that_cannot_be_read(tmp_path: Path) -> None:
    environ = {"GOCDNEXT_DATABASE_URL": "mysql://ci:hunter2@127.0.0.1/x"}
    found = await rounds.look(rounds.Asked(tmp_path / "state", environ, "http://127.0.0.1:9", None, False))
    (away,) = [each for each in found.findings if each.name == "database"]
    assert away.status is Status.FAIL
    assert "hunter2" not in str(found.findings)
