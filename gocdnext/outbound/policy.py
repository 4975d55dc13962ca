"""What the operator lets the server call, and through which proxy. Read once, by `gocdnext.config`."""

from __future__ import annotations

from dataclasses import dataclass, field

from gocdnext.outbound.hosts import Hosts


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of every outgoing call."""

    offline: bool = False
    """Refuse every call."""
    allow: Hosts = field(default_factory=Hosts)
    """What may be called although it is inside: `GOCDNEXT_OUTBOUND_ALLOW`."""
    http_proxy: str = field(default="", repr=False)
    """For http targets; a proxy's url may carry a user name and password."""
    https_proxy: str = field(default="", repr=False)
    no_proxy: Hosts = field(default_factory=Hosts)
    """Called without a proxy."""

    def proxy_for(self, scheme: str, host: str) -> str:
        """The url of the proxy for a target, or an empty text."""
        if self.no_proxy.has_name(host):
            return ""
        return self.https_proxy if scheme == "https" else self.http_proxy
