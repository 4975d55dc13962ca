"""Signed addresses of blobs (contract-runs 9): the token is the credential, for one blob, one verb, until it runs out.

    <base>/artifacts/<B64(key)>.<PUT|GET>.<unix seconds>.<B64(HMAC-SHA256 over the first three)>

Whoever has a link can use it as often as they like until then: tokens are never logged. No I/O.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

PATH = "/artifacts/"
UPLOAD_LASTS = timedelta(minutes=15)
"""How long an upload may begin after its ticket."""
DOWNLOAD_LASTS = timedelta(minutes=30)
"""How long an agent may begin to fetch what it was told of."""
SHOWN_LASTS = timedelta(minutes=5)
"""How long a link that a person is shown is good for."""
MAX_TOKEN = 2048


@dataclass(frozen=True, slots=True)
class Link:
    """An address and when it runs out."""

    url: str
    expires_at: datetime


class Links:
    """Makes and checks links. All servers of a database need the same key."""

    def __init__(self, key: bytes, base: str) -> None:
        """`base` is the address that agents reach this server by, without a slash at its end."""
        self._key = key
        self.base = base

    def upload(self, key: str, now: datetime) -> Link:
        """Where to PUT a blob."""
        return self._link("PUT", key, now + UPLOAD_LASTS, self.base)

    def download(self, key: str, now: datetime) -> Link:
        """Where an agent may GET a blob."""
        return self._link("GET", key, now + DOWNLOAD_LASTS, self.base)

    def shown(self, key: str, now: datetime, filename: str, base: str) -> Link:
        """Where a person may GET a blob; `base` is the address they reach this server by."""
        link = self._link("GET", key, now + SHOWN_LASTS, base)
        return Link(f"{link.url}?filename={quote(filename, safe='')}", link.expires_at)

    def opens(self, token: str, method: str, now: datetime) -> str | None:
        """The key that a token opens with this verb now; None for every other token, whatever is wrong with it."""
        if len(token) > MAX_TOKEN or not token.isascii():
            return None
        said, _, signature = token.rpartition(".")
        parts = said.split(".")
        if len(parts) != 3 or not hmac.compare_digest(signature.encode(), self._sign(said)):
            return None
        # Signed means written here: the parts are well-formed.
        key, verb, until = parts
        if verb != method or int(now.timestamp()) > int(until):
            return None
        return base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)).decode()

    def _link(self, verb: str, key: str, until: datetime, base: str) -> Link:
        seconds = int(until.timestamp())
        said = f"{_encoded(key.encode()).decode()}.{verb}.{seconds}"
        url = f"{base}{PATH}{said}.{self._sign(said).decode()}"
        return Link(url, datetime.fromtimestamp(seconds, UTC))

    def _sign(self, said: str) -> bytes:
        return _encoded(hmac.digest(self._key, said.encode(), "sha256"))


def save_as(path: str) -> str:
    """The name a downloaded artifact is saved under (contract-runs 3.6)."""
    return (path.rstrip("/").rpartition("/")[2] or "artifact") + ".tar.gz"


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
