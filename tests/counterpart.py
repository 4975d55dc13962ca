"""Somebody else on the web, for tests of what the server calls: real sockets, every request kept, any misbehaviour possible."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import h11
import orjson
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Asked:
    """A request as it arrived; headers by lower-case name."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass(frozen=True)
class Told:
    """An answer. `raw` is written as it stands instead; `hang` keeps the connection open without a further byte."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    hang: bool = False


def as_json(value: object, status: int = 200, **headers: str) -> Told:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Told(status, orjson.dumps(value), {"Content-Type": "application/json", **named})


Handler = Callable[[Asked], Told | Awaitable[Told]]


class Counterpart:
    """`answers` are given one after the other; when they are used up, `handler` decides."""

    def __init__(self) -> None:
        self.url = ""
        self.port = 0
        self.requests: list[Asked] = []
        self.answers: list[Told] = []
        self.handler: Handler = lambda asked: Told(404, b"nothing here")
        self.connections = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            async with stream:
                connection = h11.Connection(h11.SERVER)
                while (asked := await _next_request(connection, stream)) is not None:
                    self.requests.append(asked)
                    told = self.answers.pop(0) if self.answers else self.handler(asked)
                    if not isinstance(told, Told):
                        told = await told
                    if not await _answer(connection, stream, told):
                        return
                    connection.start_next_cycle()


async def _next_request(connection: h11.Connection, stream: trio.abc.Stream) -> Asked | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            return None
    assert head is not None
    parts = urlsplit(head.target.decode())
    headers = {name.decode().lower(): value.decode() for name, value in head.headers}
    query = parse_qs(parts.query, keep_blank_values=True)
    return Asked(head.method.decode(), parts.path, query, headers, bytes(body))


async def _answer(connection: h11.Connection, stream: trio.abc.Stream, told: Told) -> bool:
    """False when the connection is over."""
    if told.raw is not None or told.hang:
        if told.raw:
            await stream.send_all(told.raw)
        if told.hang:
            await stream.receive_some()
        return False
    headers = [*told.headers.items(), ("Content-Length", str(len(told.body)))]
    for event in (h11.Response(status_code=told.status, headers=headers), h11.Data(told.body), h11.EndOfMessage()):
        data = connection.send(event)
        if data:
            await stream.send_all(data)
    return connection.our_state is h11.DONE


@contextlib.asynccontextmanager
async def counterpart(handler: Handler | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Counterpart]:
    """Serves on loopback until the end of the block."""
    there = Counterpart()
    if handler is not None:
        there.handler = handler

    async def serve(stream: trio.SocketStream) -> None:
        if tls is None:
            await there.serve(stream)
            return
        with contextlib.suppress(trio.BrokenResourceError):
            secured = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
            await there.serve(secured)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(functools.partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        there.port = listeners[0].socket.getsockname()[1]
        there.url = f"http{'s' if tls else ''}://127.0.0.1:{there.port}"
        yield there
        nursery.cancel_scope.cancel()


def certificate(folder: Path, *names: str) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS with a certificate of its own for `names`, and the file that makes others trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "counterpart")])
    now = datetime.now(UTC)
    alternatives: list[x509.GeneralName] = []
    for each in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(each)))
        except ValueError:
            alternatives.append(x509.DNSName(each))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    trusted, secret = folder / "cert.pem", folder / "key.pem"
    trusted.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, secret)
    return context, trusted
