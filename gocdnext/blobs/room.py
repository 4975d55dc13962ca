"""What a server has for blobs, made from its settings."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from gocdnext.blobs.filesystem import FilesystemStore
from gocdnext.blobs.links import Links
from gocdnext.blobs.store import BlobStore
from gocdnext.blobs.uploads import Uploads
from gocdnext.config import Address, Settings, format_address
from gocdnext.db.pool import Database

_EVERY_ADDRESS = ("0.0.0.0", "::")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Blobs:
    """The store, the links that lead into it, and the uploads that are under way."""

    store: BlobStore
    links: Links
    uploads: Uploads


def open_blobs(settings: Settings, db: Database, key: bytes) -> Blobs:
    """The blobs of a server; `key` signs its links. Raises StoreError when the directory cannot be used."""
    if not settings.artifacts_base and settings.http_addr[0] in _EVERY_ADDRESS:
        _log.warning(
            "agents on other machines cannot fetch or deliver artifacts: say in GOCDNEXT_ARTIFACTS_PUBLIC_BASE, or in "
            "GOCDNEXT_PUBLIC_BASE, how they reach this server's HTTP port"
        )
    store = FilesystemStore(settings.artifacts_root, min_free=settings.artifacts_min_free)
    links = Links(key, settings.artifacts_base or own_address(settings.http_addr))
    return Blobs(store, links, Uploads(db, store, settings.artifacts_max_bytes))


def own_address(http_addr: Address) -> str:
    """How this machine reaches the server: all that is known when nobody said how others do."""
    host, port = http_addr
    return f"http://{format_address(('localhost' if host in _EVERY_ADDRESS else host, port))}"
