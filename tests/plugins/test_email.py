"""email: to a real SMTP server on loopback, in clear, with STARTTLS and with TLS from the first byte."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.plugins.conftest import Workspace

USER, PASSWORD = "ci@example.org", "s3cr3t-of-the-mail"
MAIL = {
    "host": "127.0.0.1",
    "from": "CI <ci@example.org>",
    "to": "Team <team@example.org>, boss@example.org",
    "subject": "Grün: it works",
    "body": "First line\n.\nÜber alles\n",
}


class Box:
    """What the server has received, and which answers it gives to receivers first."""

    def __init__(self) -> None:
        self.mails: list[tuple[Envelope, EmailMessage]] = []
        self.encrypted: list[bool] = []
        self.replies: list[str] = []
        self.asked: list[str] = []

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.asked.append(address)
        if self.replies:
            return self.replies.pop(0)
        if address.startswith("nobody"):
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append((envelope, mail))
        self.encrypted.append(session.ssl is not None)
        return "250 OK"


def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    wanted = LoginPassword(USER.encode(), PASSWORD.encode())
    return AuthResult(success=data == wanted, handled=False)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 with its key in one file; it is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("certificate") / "mail.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


class OnAnyPort(Controller):
    """The system chooses the port, before the controller looks whether somebody answers there."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextlib.contextmanager
def mail_server(certificate: Path | None, *, tls: bool = False, login: bool = False) -> Iterator[tuple[Box, str]]:
    """A server and its port: with a certificate it offers STARTTLS, with `tls` it begins so."""
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    box = Box()
    options: dict[str, Any] = {"authenticator": authenticate, "auth_required": login}
    if context is not None and not tls:
        options |= {"tls_context": context, "require_starttls": True}
    options["ssl_context"] = context if tls else None
    # A plain loop: where trio-asyncio was at work, asyncio's own way to a new one makes one of its.
    loop = asyncio.SelectorEventLoop()
    controller = OnAnyPort(box, hostname="127.0.0.1", port=0, loop=loop, **options)
    controller.start()
    try:
        yield box, str(controller.port)
    finally:
        controller.stop()


def test_a_mail_with_starttls_and_a_password(workspace: Workspace, certificate: Path) -> None:
    with mail_server(certificate, login=True) as (box, port):
        inputs = {**MAIL, "port": port, "username": USER, "password": PASSWORD, "cc": "audit@example.org"}
        outcome = workspace.good("email", inputs, SSL_CERT_FILE=str(certificate))
    assert outcome.out == "email: the mail went to 3 receiver(s)\n"
    ((envelope, mail),) = box.mails
    assert box.encrypted == [True]
    assert envelope.mail_from == "ci@example.org"
    assert envelope.rcpt_tos == ["team@example.org", "boss@example.org", "audit@example.org"]
    assert mail["Subject"] == "Grün: it works"
    assert mail["To"] == "Team <team@example.org>, boss@example.org"
    assert mail["Cc"] == "audit@example.org"
    assert mail["Date"]
    assert mail["Message-ID"].endswith("@example.org>")
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content().replace("\r\n", "\n") == "First line\n.\nÜber alles\n"


def test_tls_from_the_first_byte_and_html(workspace: Workspace, certificate: Path) -> None:
    with mail_server(certificate, tls=True) as (box, port):
        inputs = {**MAIL, "port": port, "tls": "tls", "format": "html", "body": "<b>good</b>"}
        workspace.good("email", inputs, SSL_CERT_FILE=str(certificate))
    ((_, mail),) = box.mails
    assert (mail.get_content_type(), mail.get_content().strip()) == ("text/html", "<b>good</b>")


def test_in_clear(workspace: Workspace) -> None:
    with mail_server(None) as (box, port):
        workspace.good("email", {**MAIL, "port": port, "tls": "none"})
    assert box.encrypted == [False]


def test_a_certificate_that_nobody_vouches_for(workspace: Workspace, certificate: Path) -> None:
    with mail_server(certificate) as (box, port):
        outcome = workspace.run("email", {**MAIL, "port": port})
    assert outcome.code == 1
    assert "certificate" in outcome.err.lower()
    assert box.mails == []


def test_a_server_without_starttls(workspace: Workspace) -> None:
    with mail_server(None) as (box, port):
        outcome = workspace.run("email", {**MAIL, "port": port})
    assert outcome.code == 1
    assert "check `tls` and `port`" in outcome.err
    assert box.mails == []


def test_a_wrong_password(workspace: Workspace, certificate: Path) -> None:
    with mail_server(certificate, login=True) as (box, port):
        inputs = {**MAIL, "port": port, "username": USER, "password": "wr0ng-password"}
        outcome = workspace.run("email", inputs, SSL_CERT_FILE=str(certificate))
    assert outcome.code == 1
    assert "the sign-in was refused (535)" in outcome.err
    assert "wr0ng" not in outcome.text
    assert box.mails == []


def test_receivers_that_are_refused(workspace: Workspace) -> None:
    with mail_server(None) as (box, port):
        inputs = {**MAIL, "port": port, "tls": "none"}
        outcome = workspace.good("email", {**inputs, "to": "nobody@example.org, team@example.org"})
        assert "warning: nobody@example.org was refused: 550" in outcome.out
        outcome = workspace.run("email", {**inputs, "to": "nobody@example.org"})
    assert outcome.code == 1
    assert "no receiver was accepted (nobody@example.org: 550" in outcome.err
    assert len(box.mails) == 1
    assert len(box.asked) == 3


def test_a_server_that_is_busy_is_asked_again(workspace: Workspace) -> None:
    with mail_server(None) as (box, port):
        box.replies = ["451 try later"]
        workspace.good("email", {**MAIL, "port": port, "tls": "none", "to": "team@example.org"})
    assert box.asked == ["team@example.org"] * 2
    assert len(box.mails) == 1


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"to": ""}, "the input `to` is missing"),
        ({"body": " \n"}, "the input `body` is missing"),
        ({"subject": ""}, "the input `subject` is missing"),
        ({"subject": "a\nBcc: evil@example.org"}, "`subject` is"),
        ({"to": "a@example.org\nBcc: evil@example.org"}, "`to` is"),
        ({"from": "nobody"}, "`from` is 'nobody'"),
        ({"to": "team"}, "`to` is 'team'; write addresses"),
        ({"port": "0"}, "a whole number from 1 to 65535"),
        ({"port": "smtp"}, "a whole number from 1 to 65535"),
        ({"tls": "ssl"}, "write starttls or tls or none"),
        ({"format": "rtf"}, "write plain or html"),
        ({"username": "x"}, "`username` and `password` belong together"),
        ({"host": "mail.example.org", "tls": "none", "username": "x", "password": "y"}, "is not sent in clear"),
        ({"to": ", ".join(f"a{number}@example.org" for number in range(101))}, "100 are the limit"),
    ],
)
def test_wrong_inputs(workspace: Workspace, inputs: dict[str, str], words: str) -> None:
    outcome = workspace.run("email", {**MAIL, "port": "1", **inputs})
    assert outcome.code == 2, outcome.err
    assert words in outcome.err
