"""What a server has for blobs, made from its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from gocdnext.blobs.filesystem import FilesystemStore
from gocdnext.blobs.links import Links
from gocdnext.blobs.s3.bucket import Bucket, S3Settings
from gocdnext.blobs.s3.direct import DirectLinks
from gocdnext.blobs.s3.signing import Credentials
from gocdnext.blobs.s3.store import S3Store
from gocdnext.blobs.store import BlobStore
from gocdnext.blobs.uploads import Uploads
from gocdnext.config import Address, Settings, format_address
from gocdnext.config.settings import S3
from gocdnext.db.pool import Database
from gocdnext.outbound.client import Outbound

_EVERY_ADDRESS = ("0.0.0.0", "::")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Blobs:
    """The store, the links that lead into it, and the uploads that are under way."""

    store: BlobStore
    links: Links
    uploads: Uploads


def open_blobs(
    settings: Settings, db: Database, key: bytes, outbound: Outbound, clock: Callable[[], datetime]
) -> Blobs:
    """The blobs of a server; `key` signs its links. Raises StoreError when the directory cannot be used,
    StoreTroubleError for an address that is none. Calls nobody: see `checking`."""
    if not settings.artifacts_base and settings.http_addr[0] in _EVERY_ADDRESS:
        _log.warning(
            "agents on other machines cannot fetch or deliver artifacts: say in GOCDNEXT_ARTIFACTS_PUBLIC_BASE, or in "
            "GOCDNEXT_PUBLIC_BASE, how they reach this server's HTTP port"
        )
    links = Links(key, settings.artifacts_base or own_address(settings.http_addr))
    store: BlobStore
    if settings.artifacts_s3 is None:
        store = FilesystemStore(settings.artifacts_root, min_free=settings.artifacts_min_free)
    else:
        bucket = _bucket(settings.artifacts_s3, outbound, clock)
        store = S3Store(bucket)
        if bucket.settings.direct:
            links = DirectLinks(key, links.base, bucket)
    return Blobs(store, links, Uploads(db, store, settings.artifacts_max_bytes))


def _bucket(said: S3, outbound: Outbound, clock: Callable[[], datetime]) -> Bucket:
    place = S3Settings(
        bucket=said.bucket,
        region=said.region,
        endpoint=said.endpoint,
        use_path_style=said.use_path_style,
        ensure_bucket=said.ensure_bucket,
        direct=said.direct,
    )
    return Bucket(place, Credentials(said.access_key, said.secret_key, said.session_token), outbound, clock)


def own_address(http_addr: Address) -> str:
    """How this machine reaches the server: all that is known when nobody said how others do."""
    host, port = http_addr
    return f"http://{format_address(('localhost' if host in _EVERY_ADDRESS else host, port))}"
