"""Signatures against the examples that AWS publishes for S3 (Signature Version 4, in headers and in a URL)."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from gocdnext.blobs.s3.signing import EMPTY_SHA256, Credentials, Signer, Target

NOW = datetime(2013, 5, 24, tzinfo=UTC)
ORIGIN = "https://examplebucket.s3.amazonaws.com"
SIGNER = Signer(Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), "us-east-1")


@pytest.mark.parametrize(
    ("target", "headers", "content", "signature"),
    [
        (Target("GET", ORIGIN, "/test.txt"), {"Range": "bytes=0-9"}, b"",
         "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
        (Target("PUT", ORIGIN, "/test$file.text"),
         {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
         b"Welcome to Amazon S3.", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
        (Target("GET", ORIGIN, "/", {"lifecycle": ""}), {}, b"",
         "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (Target("GET", ORIGIN, "/", {"max-keys": "2", "prefix": "J"}), {}, b"",
         "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)  # fmt: skip
def test_headers(target: Target, headers: dict[str, str], content: bytes, signature: str) -> None:
    digest = hashlib.sha256(content).hexdigest() if content else EMPTY_SHA256
    assert SIGNER.headers(target, headers, digest, NOW)["Authorization"].endswith(f"Signature={signature}")


def test_a_link() -> None:
    url = SIGNER.presigned(Target("GET", ORIGIN, "/test.txt"), NOW, timedelta(days=1))
    assert url.endswith("X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")
