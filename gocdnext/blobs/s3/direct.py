"""Links that lead into the bucket itself, so that large blobs do not pass through the server. No I/O.

Caches are uploaded through the server all the same: it counts and hashes them, and nobody else would.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from gocdnext.blobs.links import DOWNLOAD_LASTS, SHOWN_LASTS, UPLOAD_LASTS, Link, Links
from gocdnext.blobs.s3.bucket import Bucket

ARTIFACTS = "run/"
"""What keys of artifacts begin with."""
CONTENT_TYPE = "application/gzip"


class DirectLinks(Links):
    """`Links` of which most are presigned by the store's key. Links of the server stay good: it opens them as ever."""

    def __init__(self, key: bytes, base: str, bucket: Bucket) -> None:
        super().__init__(key, base)
        self._bucket = bucket

    def upload(self, key: str, now: datetime) -> Link:
        """See `Links.upload`."""
        if not key.startswith(ARTIFACTS):
            return super().upload(key, now)
        return Link(self._bucket.presigned("PUT", key, UPLOAD_LASTS), _until(now, UPLOAD_LASTS))

    def download(self, key: str, now: datetime) -> Link:
        """See `Links.download`."""
        return Link(self._bucket.presigned("GET", key, DOWNLOAD_LASTS), _until(now, DOWNLOAD_LASTS))

    def shown(self, key: str, now: datetime, filename: str, base: str) -> Link:
        """See `Links.shown`: never shown in a browser, whatever is in it."""
        name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in filename)
        query = {
            "response-content-disposition": f'attachment; filename="{name}"',
            "response-content-type": CONTENT_TYPE,
        }
        return Link(self._bucket.presigned("GET", key, SHOWN_LASTS, query), _until(now, SHOWN_LASTS))


def _until(now: datetime, lasts: timedelta) -> datetime:
    return now.replace(microsecond=0) + lasts
