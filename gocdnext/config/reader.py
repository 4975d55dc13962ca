"""Reading one variable: what its text means, or a sentence that names it and says what would do."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from string import hexdigits
from urllib.parse import urlsplit

from gocdnext.config.settings import Address, Network
from gocdnext.config.variables import VARIABLES
from gocdnext.durations import go_duration
from gocdnext.errors import DomainError
from gocdnext.outbound.hosts import Hosts

_KEY = re.compile(r"[0-9a-fA-F]{64}")


class ConfigError(DomainError):
    """A variable has a value that cannot be meant; the message names it and says what would do."""


class Reader:
    """Reads variables of the table. Every method raises ConfigError for a value that cannot be meant."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._defaults = {variable.name: variable.default for variable in VARIABLES}

    def text(self, name: str) -> str:
        return self._environ.get(name, "").strip() or self._defaults.get(name, "")

    def number(self, name: str, low: int, high: int) -> int:
        value = self.text(name)
        if not value.isascii() or not value.isdigit() or not low <= int(value[:10]) <= high:
            raise ConfigError(f"{name}={value!r}: expected a whole number from {low} to {high}")
        return int(value)

    def size(self, name: str) -> int:
        value = self.text(name)
        if not value.isascii() or not value.isdigit() or len(value) > 18:
            raise ConfigError(f"{name}={value!r}: expected a number of bytes, or 0")
        return int(value)

    def choice(self, name: str, words: tuple[str, ...]) -> str:
        value = self.text(name).lower()
        if value not in words:
            raise ConfigError(f"{name}={value!r}: expected {', '.join(words[:-1])} or {words[-1]}")
        return value

    def base(self, name: str) -> str:
        return self.text(name).rstrip("/")

    def key(self, name: str) -> bytes | None:
        value = self.text(name)
        if not value:
            return None
        # The value is a secret: the message does not repeat it.
        if len(value) < 32 or len(value) % 2 or not set(value) <= set(hexdigits):
            raise ConfigError(f"{name}: expected at least 32 hexadecimal digits, for example of `openssl rand -hex 32`")
        return bytes.fromhex(value)

    def switch(self, name: str, *, unset: bool) -> bool:
        value = self.text(name).lower()
        if not value:
            return unset
        if value not in ("true", "false"):
            raise ConfigError(f"{name}={value!r}: expected true or false")
        return value == "true"

    def keys(self, name: str) -> tuple[bytes, ...]:
        """Keys in hex, with commas between them. The message never repeats the value."""
        parts = [part.strip() for part in self.text(name).split(",") if part.strip()]
        if not all(_KEY.fullmatch(part) for part in parts):
            raise ConfigError(f"{name}: each key is 64 hex digits (32 bytes), with commas between several")
        return tuple(map(bytes.fromhex, parts))

    def networks(self, name: str) -> tuple[Network, ...]:
        """Addresses and networks with commas between them."""
        parts = [part.strip() for part in self.text(name).split(",") if part.strip()]
        try:
            return tuple(ipaddress.ip_network(part) for part in parts)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}; expected for example 10.0.0.7 or 10.0.0.0/24") from None

    def window(self, name: str, low: int, high: int) -> int | None:
        value = self.text(name).lower()
        if value in ("never", "off", "0"):
            return None
        seconds = go_duration(value)
        if seconds is None or seconds < 0:
            raise ConfigError(f"{name}={value!r}: expected a duration such as 168h, or never")
        return min(max(int(seconds), low), high)

    def listed(self, name: str) -> tuple[str, ...]:
        return tuple(found for part in self.text(name).split(",") if (found := part.strip()))

    def hosts(self, name: str) -> Hosts:
        """`NO_PROXY` is also known in small letters, and entries of it that we cannot read are somebody else's."""
        foreign = name == "NO_PROXY"
        text = self.text(name) or (self.text(name.lower()) if foreign else "")
        if foreign:
            text = ",".join(entry for entry in text.replace(",", " ").split() if _readable(entry))
        try:
            return Hosts.parse(text)
        except ValueError as error:
            raise ConfigError(
                f"{name}: {error} is neither a host, a domain like *.corp.example nor a network"
            ) from None

    def proxy(self, name: str) -> str:
        """The url of a proxy, also in small letters; it may hold a password, so the message does not repeat it."""
        value = self.text(name) or self.text(name.lower())
        if not value:
            return ""
        value = value if "://" in value else f"http://{value}"
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good:
            raise ConfigError(f"{name}: expected the url of an HTTP proxy, for example http://proxy.example:3128")
        return value

    def span(self, name: str, low: int, high: int) -> int:
        """Seconds, kept within bounds; there is no "never"."""
        seconds = self.window(name, low, high)
        if seconds is None:
            raise ConfigError(f"{name}={self.text(name)!r}: expected a duration such as 1h")
        return seconds

    def address(self, name: str) -> Address:
        value = self.text(name)
        host, colon, port = value.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port[:6]) > 65535:
            raise ConfigError(f"{name}={value!r}: expected host:port, for example 127.0.0.1:8153 or :8153")
        return host.strip("[]") or "0.0.0.0", int(port)


def _readable(entry: str) -> bool:
    try:
        Hosts.parse(entry)
    except ValueError:
        return False
    return True
