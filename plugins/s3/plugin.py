"""Uploads or downloads one object of an S3 bucket. Requests are signed by ourselves (AWS Signature Version 4)."""

import hashlib
import hmac
import mimetypes
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import kit
import kit_http

LARGEST = 5 * 1024**3
"""Bytes that one PUT may carry."""
NO_BODY = hashlib.sha256(b"").hexdigest()
DNS_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}")
HINTS = {403: "check the credentials, and what they may do with the bucket", 404: "check `bucket`, `key` and `region`"}


class Keys(NamedTuple):
    access: str
    secret: str
    session: str


def work() -> None:
    action = kit.choice("action", ("upload", "download"))
    bucket, key = kit.needed("bucket"), kit.needed("key").lstrip("/")
    if not BUCKET.fullmatch(bucket):
        raise kit.InputError(f"`bucket` is {kit.shown(bucket)}, which is no name of a bucket")
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise kit.InputError(
            f"`key` is {kit.shown(key)}; write the name of an object, without empty parts, `.` and `..`"
        )
    region = kit.text("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    elsewhere = os.environ.get("AWS_ENDPOINT_URL", "")
    endpoint = kit_http.address("endpoint-url", elsewhere) if kit.text("endpoint-url", elsewhere) else ""
    url = object_url(endpoint, bucket, key, region)
    keys = credentials()
    if action == "upload":
        upload(url, region, keys)
    else:
        download(url, region, keys, Path(kit.text("dest", key.rsplit("/", 1)[-1])))


def credentials() -> Keys:
    keys = Keys(*map(kit.variable, ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")))
    if not keys.access or not keys.secret:
        raise kit.InputError("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are needed; list them under `secrets:`")
    return keys


def object_url(endpoint: str, bucket: str, key: str, region: str) -> str:
    """Another server gets the bucket in the path; AWS in the name of the host, where it can be one."""
    path = quote(key, safe="/~")
    if endpoint:
        return f"{endpoint}/{bucket}/{path}"
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    host = f"s3.{region}.{suffix}"
    return f"https://{bucket}.{host}/{path}" if DNS_NAME.fullmatch(bucket) else f"https://{host}/{bucket}/{path}"


def upload(url: str, region: str, keys: Keys) -> None:
    path = Path(kit.needed("file"))
    if not path.is_file():
        raise kit.InputError(f"`file` is {kit.shown(str(path))}, and that is no file")
    size = path.stat().st_size
    if size > LARGEST:
        raise kit.InputError(f"`file` has {size} bytes; {LARGEST} is the most that one upload takes")
    kind = kit.text("content-type") or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    headers = {"Content-Type": kind, "Content-Length": str(size)}
    if acl := kit.text("acl"):
        headers["x-amz-acl"] = acl
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    answer = kit_http.Http().send(
        "PUT",
        url,
        repeat=True,
        content=lambda: path.open("rb"),
        headers=lambda: signed("PUT", url, region, keys, headers, digest),
    )
    answer.expect("the object was not stored", HINTS)
    kit.say(f"stored {path} ({size} bytes, sha256 {digest})")


def download(url: str, region: str, keys: Keys, target: Path) -> None:
    headers = {"Accept-Encoding": "identity"}
    answer = kit_http.Http().send(
        "GET",
        url,
        repeat=True,
        sink=kit_http.save(target),
        headers=lambda: signed("GET", url, region, keys, headers, NO_BODY),
    )
    answer.expect("the object was not fetched", HINTS)
    kit.say(f"fetched {target} ({target.stat().st_size} bytes)")


def signed(method: str, url: str, region: str, keys: Keys, headers: dict[str, str], digest: str) -> dict[str, str]:
    """The headers with the signature of this moment. `digest` is the SHA-256 of the body in hexadecimal."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    parts = urlsplit(url)
    default_port = {"http": 80, "https": 443}[parts.scheme]
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    signing = {
        **{
            name.lower(): " ".join(value.split())
            for name, value in headers.items()
            if name.lower() != "accept-encoding"
        },
        "host": host if parts.port in (None, default_port) else f"{host}:{parts.port}",
        "x-amz-content-sha256": digest,
        "x-amz-date": now,
        **({"x-amz-security-token": keys.session} if keys.session else {}),
    }
    names = ";".join(sorted(signing))
    lines = "".join(f"{name}:{signing[name]}\n" for name in sorted(signing))
    request = "\n".join([method, parts.path, parts.query, lines, names, digest])
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(request.encode()).hexdigest()])
    secret = f"AWS4{keys.secret}".encode()
    for part in (now[:8], region, "s3", "aws4_request"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    signature = hmac.digest(secret, text.encode(), "sha256").hex()
    authorization = f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**headers, **signing, "Authorization": authorization}


if __name__ == "__main__":
    kit.main(work)
