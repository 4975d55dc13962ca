"""Where a repository is: at which provider's host, under which path, and where that host's API is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from gocdnext.pipeline.fingerprints import normal_git_url

KNOWN = ("github", "gitlab", "bitbucket")
_PUBLIC = {"github.com": "https://api.github.com", "bitbucket.org": "https://api.bitbucket.org/2.0"}
_BELOW = {"github": "/api/v3", "gitlab": "/api/v4", "bitbucket": "/2.0"}


@dataclass(frozen=True, slots=True)
class Place:
    """A repository at a provider. `host` has its port where it is not the usual one; `path` is as the provider spells it."""

    provider: str
    host: str
    path: str
    secure: bool = True

    @property
    def api(self) -> str:
        """Where the host's API is, unless somebody says otherwise."""
        scheme = "https" if self.secure else "http"
        return _PUBLIC.get(self.host) or f"{scheme}://{self.host}{_BELOW[self.provider]}"

    @property
    def below(self) -> str:
        """The repository's path below the API's address."""
        if self.provider == "gitlab":
            return f"/projects/{quote(self.path, safe='')}"
        kind = "repos" if self.provider == "github" else "repositories"
        return f"/{kind}/{quote(self.path, safe='/')}"


def place_of(provider: str, url: str) -> Place | None:
    """The place of a repository's url, in whatever form git takes it; None for what no provider can have."""
    if provider not in KNOWN:
        return None
    host, _, path = normal_git_url(url).partition("/")
    scheme = url.strip().partition("://")[0].lower() if "://" in url else "ssh"
    if scheme not in ("http", "https"):
        host = host.partition(":")[0]  # the port of ssh or git, not of the API
    parts = path.split("/")
    enough = len(parts) >= 2 if provider == "gitlab" else len(parts) == 2
    if not enough or not all(parts) or any(part in (".", "..") for part in parts) or not _is_host(host):
        return None
    return Place(provider, host, path, secure=scheme != "http")


def _is_host(text: str) -> bool:
    if not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(f"//{text}")
        return bool(parts.hostname) and parts.netloc == text and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
