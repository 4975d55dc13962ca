"""Sends a mail by SMTP."""

import ipaddress
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, getaddresses, make_msgid

from tenacity import Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_exponential_jitter

import kit

MOST_RECEIVERS = 100
ATTEMPTS = 3
TIMEOUT = 30.0
"""Seconds to wait for each answer of the server."""
PAUSE = wait_exponential_jitter(initial=1, max=10, jitter=1)


def work() -> None:
    host = kit.needed("host")
    port = kit.number("port", 587, 1, 65535)
    username, password = kit.secret("username"), kit.secret("password")
    tls = kit.choice("tls", ("starttls", "tls", "none"), "starttls")
    if bool(username) != bool(password):
        raise kit.InputError("`username` and `password` belong together; one of them is empty")
    if password and tls == "none" and not local(host):
        raise kit.InputError("`tls` is none: a password is not sent in clear; write starttls or tls")
    mail = message()
    receivers = addresses("to") + addresses("cc", required=False)
    if len(receivers) > MOST_RECEIVERS:
        raise kit.InputError(f"{len(receivers)} receivers; {MOST_RECEIVERS} are the limit: use a mailing list")

    def send() -> None:
        with connect(host, port, tls) as server:
            if username:
                server.login(username, password)
            refused = server.send_message(mail, from_addr=addresses("from")[0], to_addrs=receivers)
            for receiver, (code, reason) in refused.items():
                kit.say(f"warning: {receiver} was refused: {code} {words(reason)}")

    try:
        Retrying(retry=retry_if_exception(for_now), stop=stop_after_attempt(ATTEMPTS), wait=PAUSE, reraise=True)(send)
    except smtplib.SMTPException as error:
        raise kit.FailedError(f"{host}:{port}: {explained(error)}") from None
    except OSError as error:
        raise kit.FailedError(f"{host}:{port}: {error.strerror or error}") from None
    kit.say(f"the mail went to {len(receivers)} receiver(s)")


def message() -> EmailMessage:
    """The mail. Raises InputError for line breaks where none can be, and for what is no address."""
    mail = EmailMessage()
    form = kit.choice("format", ("plain", "html"), "plain")
    for header, value in (
        ("From", kit.needed("from")),
        ("To", kit.needed("to")),
        ("Cc", kit.text("cc")),
        ("Subject", kit.needed("subject")),
    ):
        if value:
            try:
                mail[header] = value
            except (ValueError, IndexError):
                raise kit.InputError(
                    f"`{header.lower()}` is {kit.shown(value)}, which cannot stand in a mail"
                ) from None
    mail["Date"] = formatdate(localtime=True)
    mail["Message-ID"] = make_msgid(domain=addresses("from")[0].rpartition("@")[2])
    mail.set_content(kit.needed_block("body"), subtype=form)
    return mail


def addresses(name: str, required: bool = True) -> list[str]:
    """The bare addresses of an input."""
    value = kit.needed(name) if required else kit.text(name)
    found = [address for _, address in getaddresses([value]) if address]
    if (required and not found) or not all("@" in address for address in found):
        raise kit.InputError(f"`{name}` is {kit.shown(value)}; write addresses such as team@example.org")
    return found


def connect(host: str, port: int, tls: str) -> smtplib.SMTP:
    """A connection that is encrypted as wanted."""
    context = ssl.create_default_context()
    if tls == "tls":
        return smtplib.SMTP_SSL(host, port, timeout=TIMEOUT, context=context)
    server = smtplib.SMTP(host, port, timeout=TIMEOUT)
    if tls == "starttls":
        try:
            server.starttls(context=context)
        except BaseException:
            server.close()
            raise
    return server


def for_now(error: BaseException) -> bool:
    """Whether a later attempt can go better, and nothing was sent: nobody there, or a code that begins with 4."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(400 <= code < 500 for code, _ in error.recipients.values())
    if isinstance(error, smtplib.SMTPResponseException):
        return 400 <= error.smtp_code < 500
    return isinstance(error, ConnectionRefusedError | TimeoutError)


def explained(error: smtplib.SMTPException) -> str:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        told = ", ".join(f"{who}: {code} {words(why)}" for who, (code, why) in list(error.recipients.items())[:5])
        return f"no receiver was accepted ({told})"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"the sign-in was refused ({error.smtp_code}); check `username` and `password`"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return f"{error}; check `tls` and `port`"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {words(error.smtp_error)}"
    return str(error)


def words(reason: bytes | str) -> str:
    text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
    return " ".join(text.split())[: kit.SHOWN]


def local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    kit.main(work)
