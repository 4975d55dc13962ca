"""Addresses that others reach the server by, and those that it calls: whether they answer, and for how long their
certificates are good.

Everything asked here is in the settings; with GOCDNEXT_OFFLINE nobody but our own addresses is asked.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from cryptography import x509

from gocdnext.blobs.room import own_address
from gocdnext.client import ApiError, CannotReachError, Client
from gocdnext.config import Settings, is_loopback
from gocdnext.doctor.findings import Finding, fail, ok, skipped, warn
from gocdnext.doctor.ground import Ground

ANSWER_WITHIN = 4.0
"""Seconds."""
SOON, NOW = timedelta(days=21), timedelta(days=3)
"""What a certificate should have left; automatic renewal (ACME) happens with 30 days left."""
_EVERY_ADDRESS = ("0.0.0.0", "::")


def agents_base(ground: Ground) -> Finding:
    """Whether the address in the links that agents fetch and deliver artifacts by leads to a server of ours."""
    name, settings = "agents' address", ground.settings
    base = settings.artifacts_base or own_address(settings.http_addr)
    advice = "Say in GOCDNEXT_ARTIFACTS_PUBLIC_BASE (or GOCDNEXT_PUBLIC_BASE) how agents reach this server's HTTP port."
    if not settings.artifacts_base and settings.http_addr[0] in _EVERY_ADDRESS:
        return warn(name, f"{base}, which leads agents on other machines to themselves", advice)
    grpc_open = not is_loopback(settings.grpc_addr[0])
    if grpc_open and is_loopback(urlsplit(base).hostname or ""):
        return warn(name, f"{base}, but agents on other machines may connect", advice)
    if ground.server_pid is None and not settings.artifacts_base:
        return skipped(name, f"{base}: no server runs here")
    return _answers(name, base, advice)


def public_base(ground: Ground) -> Finding:
    """The address that browsers and providers are told."""
    name, base = "public address", ground.settings.public_base
    if not base:
        return skipped(
            name, "none (GOCDNEXT_PUBLIC_BASE): links in mails and checks, and sign-in by a provider, need it"
        )
    return _answers(name, base, "Correct GOCDNEXT_PUBLIC_BASE, or the proxy before the server (docs/reverse-proxy.md).")


def _answers(name: str, base: str, advice: str) -> Finding:
    """Whether a gocdnext answers there, seen from here."""
    shown = without_password(base)
    try:
        with Client(base, timeout=ANSWER_WITHIN, connect_attempts=1) as client:
            version = client.version().get("version", "?")
    except CannotReachError as error:
        return fail(name, f"{shown} cannot be reached from here: {_said(error, base)}", advice)
    except ApiError as error:
        return fail(name, f"{shown} answers, but not as gocdnext: {_said(error, base)}", advice)
    return ok(name, f"{shown} leads to gocdnext {version}")


def _said(error: Exception, base: str) -> str:
    """The client names the address as it was given."""
    return str(error).replace(base, without_password(base))


def endpoints(settings: Settings) -> Iterator[tuple[str, str]]:
    """What has a certificate of its own: (whose, url)."""
    yield "public address", settings.public_base
    yield "agents' address", settings.artifacts_base
    if not settings.outbound.offline:
        yield "webhook address", settings.webhook_public_url
        yield "Vault", settings.vault.get("addr", "") if settings.vault_enabled else ""
        yield "GitHub", settings.github_app.api_base
        for provider in settings.providers:
            yield provider.display, provider.issuer or provider.github_api_base


def certificates(ground: Ground) -> Iterator[Finding]:
    """The dates of all certificates, and whether they are believed here."""
    asked: set[tuple[str, int]] = set()
    for whose, url in endpoints(ground.settings):
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            continue
        address = (parts.hostname, parts.port or 443)
        if address not in asked:
            asked.add(address)
            yield certificate(whose, *address)
    if not asked:
        yield skipped("certificates", "no address of the settings is https")


def certificate(whose: str, host: str, port: int) -> Finding:
    """One certificate: until when, and why it is not believed if it is not."""
    name, where = "certificates", f"{whose} ({host}:{port})"
    look = ssl.create_default_context()
    look.check_hostname, look.verify_mode = False, ssl.CERT_NONE  # to read the dates of one that is not believed, too
    try:
        ends = x509.load_der_x509_certificate(_shown(host, port, look)).not_valid_after_utc
    except (OSError, ValueError) as error:
        return warn(name, f"{where} cannot be looked at: {error}", "Is it up, and is that its address?")
    left = ends - datetime.now(UTC)
    said = f"{where} until {ends:%Y-%m-%d}, {left.days} days"
    renew = "Renew it, and see why nothing did so by itself."
    if left < NOW:
        return fail(name, f"{said} left" if left > timedelta(0) else f"{where} has expired on {ends:%Y-%m-%d}", renew)
    try:
        _shown(host, port, ssl.create_default_context())
    except ssl.SSLCertVerificationError as error:
        advice = "Serve the whole chain and the right name; put an authority of your own into this machine's store."
        return fail(name, f"{said}, but it is not believed here: {error.verify_message}", advice)
    except OSError as error:
        return warn(name, f"{where} cannot be looked at: {error}", "Is it up, and is that its address?")
    return warn(name, f"{said} left", renew) if left < SOON else ok(name, f"{said} left")


def _shown(host: str, port: int, context: ssl.SSLContext) -> bytes:
    """The certificate in DER that is shown in a handshake. Raises OSError, of which SSLError is one."""
    with (
        socket.create_connection((host, port), ANSWER_WITHIN) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""


def without_password(url: str) -> str:
    """The url as it may be shown: without a user, a password, a query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
