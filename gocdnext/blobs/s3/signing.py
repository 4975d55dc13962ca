"""AWS Signature Version 4, as S3 wants it: in headers, and in a URL that others use. No I/O.

Of the two uses only the second leaves this process: whoever has a presigned URL may do that one thing until it runs out.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
LONGEST = timedelta(days=7)
"""S3 takes no presigned URL that lasts longer."""
_BLANKS = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key of the store. `session_token` goes with keys that do not last."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is for: `origin` is `https://host[:port]`, `path` is not encoded, and neither is the query."""

    method: str
    origin: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """As the Host header has it."""
        return self.origin.partition("://")[2]

    @property
    def url(self) -> str:
        """Encoded exactly as it is signed."""
        query = canonical_query(self.query)
        return f"{self.origin}{canonical_path(self.path)}" + (f"?{query}" if query else "")


class Signer:
    """Signs for one region. `service` is always s3 here; AWS's published examples use others."""

    def __init__(self, credentials: Credentials, region: str, service: str = "s3") -> None:
        self._credentials = credentials
        self._region = region
        self._service = service

    def headers(self, target: Target, headers: Mapping[str, str], payload_sha256: str, now: datetime) -> dict[str, str]:
        """The headers of a request, those given and those that sign it and its body."""
        signed = {**headers, "host": target.host, "x-amz-content-sha256": payload_sha256, "x-amz-date": stamp(now)}
        if self._credentials.session_token:
            signed["x-amz-security-token"] = self._credentials.session_token
        authorization = self.authorization(target, signed, payload_sha256, now)
        del signed["host"]  # the client sends it
        return signed | {"Authorization": authorization}

    def authorization(self, target: Target, headers: Mapping[str, str], payload_sha256: str, now: datetime) -> str:
        """The Authorization header over all of `headers`."""
        names, _ = canonical_headers(headers)
        signature = self._sign(canonical_request(target, headers, payload_sha256), now)
        return f"{ALGORITHM} Credential={self._credential(now)}, SignedHeaders={names}, Signature={signature}"

    def presigned(self, target: Target, now: datetime, lasts: timedelta) -> str:
        """A URL that does this until it runs out, with no header but Host signed and any body."""
        query = {
            **target.query,
            "X-Amz-Algorithm": ALGORITHM,
            "X-Amz-Credential": self._credential(now),
            "X-Amz-Date": stamp(now),
            "X-Amz-Expires": str(int(min(lasts, LONGEST).total_seconds())),
            "X-Amz-SignedHeaders": "host",
        }
        if self._credentials.session_token:
            query["X-Amz-Security-Token"] = self._credentials.session_token
        signed = Target(target.method, target.origin, target.path, query)
        signature = self._sign(canonical_request(signed, {"host": target.host}, UNSIGNED), now)
        return f"{signed.url}&X-Amz-Signature={signature}"

    def _credential(self, now: datetime) -> str:
        return f"{self._credentials.access_key}/{self._scope(now)}"

    def _scope(self, now: datetime) -> str:
        return f"{stamp(now)[:8]}/{self._region}/{self._service}/aws4_request"

    def _sign(self, canonical: str, now: datetime) -> str:
        key = f"AWS4{self._credentials.secret_key}".encode()
        for part in (stamp(now)[:8], self._region, self._service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        text = "\n".join((ALGORITHM, stamp(now), self._scope(now), hashed))
        return hmac.digest(key, text.encode(), "sha256").hex()


def stamp(now: datetime) -> str:
    """A moment as signatures have it."""
    return now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def canonical_request(target: Target, headers: Mapping[str, str], payload_sha256: str) -> str:
    """What is signed of a request."""
    names, lines = canonical_headers(headers)
    path, query = canonical_path(target.path), canonical_query(target.query)
    return "\n".join((target.method, path, query, lines, names, payload_sha256))


def canonical_headers(headers: Mapping[str, str]) -> tuple[str, str]:
    """The names of headers, and their lines."""
    plain = sorted((name.lower(), _BLANKS.sub(" ", value.strip())) for name, value in headers.items())
    return ";".join(name for name, _ in plain), "".join(f"{name}:{value}\n" for name, value in plain)


def canonical_path(path: str) -> str:
    """Encoded once: unlike other services, S3 takes paths as they are."""
    return quote(path or "/", safe="/-_.~")


def canonical_query(query: Mapping[str, str]) -> str:
    """Sorted in its encoded form."""
    return "&".join(f"{name}={value}" for name, value in sorted((_encoded(k), _encoded(v)) for k, v in query.items()))


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~")
