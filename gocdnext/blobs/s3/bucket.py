"""One bucket of an S3-compatible store: signed calls through the guarded client, and what its refusals mean.

Every refusal becomes a StoreTroubleError whose sentence says what to do. Nothing here knows what the blobs are.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec
from httpx import URL, InvalidURL

from gocdnext.blobs.s3 import answers
from gocdnext.blobs.s3.signing import EMPTY_SHA256, Credentials, Signer, Target
from gocdnext.blobs.store import StoreTroubleError
from gocdnext.outbound.client import Answer, Outbound, Streamed
from gocdnext.outbound.errors import OutboundError

MAX_ANSWER = 4 * 1024 * 1024
"""Bytes of a document: a page of a thousand keys has less than one MiB."""
SILENCE = 60.0
"""Seconds in which nothing moves: a part must have gone out, or a blob been put together, within that."""
PATIENCE = 180.0
"""Seconds for one call with all its tries."""
_HINTS: Final = {
    "InvalidAccessKeyId": "the store does not know this access key: check access_key, and that it is for this endpoint",
    "SignatureDoesNotMatch": "the secret key is not the one of this access key: check secret_key",
    "AccessDenied": "this key may not do that: it needs s3:GetObject, PutObject, DeleteObject, ListBucket, "
    "ListBucketMultipartUploads and AbortMultipartUpload on the bucket",
    "NoSuchBucket": "there is no such bucket: create it, or set ensure_bucket",
    "InvalidBucketName": "that is no name of a bucket",
    "BucketAlreadyExists": "somebody else has a bucket of this name: choose another one",
    "ExpiredToken": "the key does not last any more: set a new one",
    "SlowDown": "it asks for patience: try again later",
    "ServiceUnavailable": "it is not available now: try again later",
    "QuotaExceeded": "it has no room left: free some there",
    "XMinioStorageFull": "it has no room left: free some there",
}
_WRONG_REGION: Final = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)


class S3Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where a bucket is (contract-admin 7.5), and whether agents go there themselves."""

    bucket: str = ""
    region: str = "us-east-1"
    endpoint: str = ""
    use_path_style: bool = False
    ensure_bucket: bool = False
    direct: bool = True


class RefusedError(StoreTroubleError):
    """The store answered, and not as was hoped. `code` is S3's, empty where it named none."""

    def __init__(self, message: str, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Bucket:
    """A bucket and the key it is used with. Methods are for trio, and raise StoreTroubleError."""

    def __init__(
        self, settings: S3Settings, credentials: Credentials, outbound: Outbound, clock: Callable[[], datetime]
    ) -> None:
        self.settings = settings
        self._signer = Signer(credentials, settings.region or "us-east-1")
        self._outbound = outbound
        self._clock = clock
        self._origin, self._base = _address(settings)

    async def call(
        self,
        method: str,
        key: str = "",
        query: Mapping[str, str] | None = None,
        *,
        content: bytes = b"",
        sha256: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A request with a small answer, tried again where it can help: all of them may be repeated.

        `sha256` of the content is what the store checks it against. Raises RefusedError for any other status than 2xx.
        """
        target = self._target(method, key, query)
        digest = sha256 or (hashlib.sha256(content).hexdigest() if content else EMPTY_SHA256)
        signed = self._signer.headers(target, headers or {}, digest, self._clock())
        trouble: StoreTroubleError
        try:
            answer = await self._outbound.request(
                method,
                target.url,
                headers=signed,
                content=content or None,
                timeout=PATIENCE,
                silence=SILENCE,
                max_bytes=MAX_ANSWER,
                repeat=True,
            )
        except OutboundError as error:
            trouble = self._away(error)
        else:
            # A blob that is put together answers 200 at once, and may find out later that it cannot be.
            failed = answers.failure(answer.content) if answer.content[:200].lstrip().startswith(b"<") else None
            if answer.ok and (failed is None or not failed.code):
                return answer
            trouble = self._refused(answer, failed or answers.Failure())
        raise trouble

    @contextlib.asynccontextmanager
    async def read(self, key: str, start: int, stop: int, etag: str) -> AsyncIterator[Streamed]:
        """The bytes from `start` up to `stop` of a blob that is still the same. Raises RefusedError, and OutboundError
        when it breaks off: then the rest may be asked for."""
        target = self._target("GET", key)
        wanted = {"Range": f"bytes={start}-{stop - 1}"} | ({"If-Match": etag} if etag else {})
        headers = self._signer.headers(target, wanted, EMPTY_SHA256, self._clock())
        async with self._outbound.stream("GET", target.url, headers=headers, silence=SILENCE) as streamed:
            if streamed.status not in (200, 206) or (streamed.status == 200 and start):
                raise RefusedError(f"{self.name} answered {streamed.status} where a blob was read", streamed.status, "")
            yield streamed

    async def fetch(self, url: str) -> Answer:
        """What somebody gets who has a link. Any status is an answer."""
        trouble: StoreTroubleError
        try:
            return await self._outbound.request("GET", url)
        except OutboundError as error:
            trouble = self._away(error)
        raise trouble

    def presigned(self, method: str, key: str, lasts: timedelta, query: Mapping[str, str] | None = None) -> str:
        """A URL for others. It is a credential."""
        return self._signer.presigned(self._target(method, key, query), self._clock(), lasts)

    @property
    def name(self) -> str:
        """As errors name it."""
        return f"the bucket {self.settings.bucket} at {self._origin.partition('://')[2]}"

    def _target(self, method: str, key: str = "", query: Mapping[str, str] | None = None) -> Target:
        return Target(method, self._origin, f"{self._base}/{key}", query or {})

    def _away(self, error: OutboundError) -> StoreTroubleError:
        return StoreTroubleError(f"the artifact store cannot be reached: {error}")

    def _refused(self, answer: Answer, failed: answers.Failure) -> RefusedError:
        hint = _HINTS.get(failed.code, "")
        if failed.code == "RequestTimeTooSkewed":
            hint = f"the clocks of this server and of the store differ{self._skew(answer)}: set this server's clock"
        elif failed.code in _WRONG_REGION or answer.status in (301, 307):
            there = answer.headers.get("x-amz-bucket-region", "")
            hint = "the bucket is in another region" + (f", {there}" if there else "") + ": check region and endpoint"
        elif not hint and answer.status in (403, 404) and not failed.code:
            hint = "check the name of the bucket, and what this key may do"
        elif not hint and not failed.code:
            hint = "is that an S3-compatible store? check endpoint and use_path_style"
        words = f"{failed.code} {failed.message}".strip()
        text = (
            f"{self.name} answered {answer.status}" + (f" ({words})" if words else "") + (f"; {hint}" if hint else "")
        )
        return RefusedError(text, answer.status, failed.code)

    def _skew(self, answer: Answer) -> str:
        try:
            theirs = parsedate_to_datetime(answer.headers.get("date", ""))
            apart = abs((theirs - self._clock()).total_seconds())
        except (ValueError, TypeError):
            return ""
        return f" by {apart / 60:.0f} minutes"


def _address(settings: S3Settings) -> tuple[str, str]:
    """Origin and first part of the path. Raises StoreTroubleError for an endpoint that is no address."""
    said = settings.endpoint.rstrip("/") or f"https://s3.{settings.region or 'us-east-1'}.amazonaws.com"
    try:
        url = URL(said)
    except InvalidURL:
        url = URL("")
    if url.scheme not in ("http", "https") or not url.host or url.path not in ("", "/") or url.userinfo or url.query:
        raise StoreTroubleError(
            "endpoint is to be an address like https://s3.example.com, without a path or credentials"
        )
    netloc = url.netloc.decode("ascii")
    if settings.use_path_style or _is_address(url.host) or (url.scheme == "https" and "." in settings.bucket):
        # A certificate for *.host fits no name with another dot, and an address has no names below it.
        return f"{url.scheme}://{netloc}", f"/{settings.bucket}"
    return f"{url.scheme}://{settings.bucket}.{netloc}", ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
