"""s3: a real S3 server of Python (moto) for what is stored, and one that checks signatures like AWS."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.plugins.conftest import Workspace
from tests.plugins.web import Answer, Request, Web

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s3cr3t/of+the=store"}


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def bucket(store: str) -> Any:
    """An empty bucket, as another client sees it."""
    resource = boto3.resource(
        "s3", endpoint_url=store, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y"
    )
    bucket = resource.Bucket("builds")
    bucket.create()
    bucket.objects.all().delete()
    return bucket


def inputs(store: str, **more: str) -> dict[str, str]:
    given = {"action": "upload", "endpoint-url": store, "bucket": "builds", "key": "app/1.tar.gz"}
    return given | {name.replace("_", "-"): value for name, value in more.items()}


def test_up_and_down(workspace: Workspace, store: str, bucket: Any) -> None:
    content = bytes(range(256)) * 2000
    (workspace.path / "app.tar.gz").write_bytes(content)
    outcome = workspace.good("s3", inputs(store, file="app.tar.gz"), **KEYS)
    assert f"stored app.tar.gz (512000 bytes, sha256 {hashlib.sha256(content).hexdigest()})" in outcome.out
    stored = bucket.Object("app/1.tar.gz").get()
    assert stored["Body"].read() == content
    assert stored["ContentType"] == "application/x-tar"
    workspace.good("s3", inputs(store, action="download"), **KEYS)
    assert (workspace.path / "1.tar.gz").read_bytes() == content
    workspace.good("s3", inputs(store, action="download", dest="deep/er/file"), **KEYS)
    assert (workspace.path / "deep" / "er" / "file").read_bytes() == content
    assert [path.name for path in workspace.path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("key", ["a b/ü+%~$.txt", "x'(1)*!;,:@&=?#.txt", "/leading.txt"])
def test_odd_names(workspace: Workspace, store: str, bucket: Any, key: str) -> None:
    (workspace.path / "f").write_text("x")
    workspace.good("s3", inputs(store, file="f", key=key), **KEYS)
    assert [entry.key for entry in bucket.objects.all()] == [key.lstrip("/")]
    workspace.good("s3", inputs(store, action="download", key=key, dest="got"), **KEYS)
    assert (workspace.path / "got").read_text() == "x"


def test_type_and_access(workspace: Workspace, store: str, bucket: Any) -> None:
    (workspace.path / "f").write_bytes(b"")
    workspace.good("s3", inputs(store, file="f", content_type="text/x-mine; charset=utf-8", acl="public-read"), **KEYS)
    found = bucket.Object("app/1.tar.gz")
    assert found.content_type == "text/x-mine; charset=utf-8"
    assert any("AllUsers" in str(grant["Grantee"]) for grant in found.Acl().grants)


def test_what_is_not_there(workspace: Workspace, store: str, bucket: Any) -> None:
    outcome = workspace.run("s3", inputs(store, action="download", key="no/such", dest="got"), **KEYS)
    assert outcome.code == 1
    assert "status 404" in outcome.err
    assert "NoSuchKey" in outcome.err
    assert not (workspace.path / "got").exists()
    (workspace.path / "f").write_text("x")
    outcome = workspace.run("s3", inputs(store, file="f", bucket="nobody"), **KEYS)
    assert outcome.code == 1
    assert "NoSuchBucket" in outcome.err


def signature(request: Request, secret: str) -> str:
    """The signature that the request must have, made from what arrived (AWS Signature Version 4)."""
    fields = dict(part.split("=", 1) for part in request.headers["authorization"].split(" ", 1)[1].split(", "))
    _, day, region, service, end = fields["Credential"].split("/")
    names = fields["SignedHeaders"].split(";")
    lines = "".join(f"{name}:{request.headers[name]}\n" for name in names)
    digest = request.headers["x-amz-content-sha256"]
    canonical = "\n".join([request.method, request.path, "", lines, ";".join(names), digest])
    moment = request.headers["x-amz-date"]
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{moment}\n{day}/{region}/{service}/{end}\n{hashed}"
    key = b"AWS4" + secret.encode()
    for part in (day, region, service, end):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    wanted = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    assert hashlib.sha256(request.body).hexdigest() == digest
    assert {"host", "x-amz-date", "x-amz-content-sha256"} <= set(names)
    assert fields["Signature"] == wanted
    return region


def test_every_attempt_is_signed_and_carries_the_whole_file(workspace: Workspace, web: Web) -> None:
    content = b"x" * 300_000
    (workspace.path / "f").write_bytes(content)
    web.answers = [Answer(503, b"SlowDown", {"Retry-After": "0"}), Answer(200, b"", cut=True), Answer(200)]
    more = {"AWS_SESSION_TOKEN": "of-a-session", "AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": web.url}
    given = {"action": "upload", "bucket": "builds", "key": "a b.bin", "file": "f", "acl": "private"}
    outcome = workspace.good("s3", given, **KEYS, **more)
    assert len(web.requests) == 3
    for request in web.requests:
        assert request.body == content
        assert request.path == f"/builds/{quote('a b.bin')}"
        assert request.headers["x-amz-security-token"] == "of-a-session"
        assert signature(request, KEYS["AWS_SECRET_ACCESS_KEY"]) == "eu-central-1"
    assert not any(value in outcome.text for value in ("s3cr3t", "of-a-session"))


def test_a_broken_download_begins_anew_and_leaves_no_half(workspace: Workspace, web: Web) -> None:
    given = {"action": "download", "endpoint-url": web.url, "bucket": "builds", "key": "f"}
    web.answers = [Answer(200, b"half", cut=True), Answer(200, b"whole", {"Content-Encoding": "gzip"})]
    workspace.good("s3", given, **KEYS)
    assert (workspace.path / "f").read_bytes() == b"whole"
    web.handler = lambda request: Answer(200, b"half", cut=True)
    outcome = workspace.run("s3", {**given, "dest": "g"}, **KEYS)
    assert outcome.code == 1
    assert sorted(path.name for path in workspace.path.iterdir()) == ["f"]


@pytest.mark.parametrize(
    ("given", "env", "words"),
    [
        ({"action": ""}, KEYS, "the input `action` is missing"),
        ({"action": "delete"}, KEYS, "write upload or download"),
        ({"bucket": "a/b"}, KEYS, "which is no name of a bucket"),
        ({"key": "/"}, KEYS, "write the name of an object"),
        ({"key": "a/../b"}, KEYS, "write the name of an object"),
        ({"endpoint_url": "s3.example.org"}, KEYS, "`endpoint-url` must be an address"),
        ({"file": ""}, KEYS, "the input `file` is missing"),
        ({"file": "nothing"}, KEYS, "`file` is 'nothing', and that is no file"),
        ({"file": "."}, KEYS, "and that is no file"),
        ({"file": "f"}, {}, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are needed"),
    ],
)
def test_wrong_inputs(workspace: Workspace, given: dict[str, str], env: dict[str, str], words: str) -> None:
    (workspace.path / "f").write_text("x")
    outcome = workspace.run("s3", inputs("http://127.0.0.1:1", **{"file": "f", **given}), **env)
    assert outcome.code == 2
    assert words in outcome.err


def test_a_file_that_is_too_large(workspace: Workspace) -> None:
    with (workspace.path / "large").open("wb") as file:
        file.truncate(5 * 1024**3 + 1)  # takes no space
    outcome = workspace.run("s3", inputs("http://127.0.0.1:1", file="large"), **KEYS)
    assert outcome.code == 2
    assert "is the most that one upload takes" in outcome.err


def test_where_aws_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses at AWS itself, which nobody can reach here."""
    import importlib.util

    from gocdnext.plugins.catalogue import shipped

    monkeypatch.syspath_prepend(shipped())
    spec = importlib.util.spec_from_file_location("s3_plugin", Path(shipped()) / "s3" / "plugin.py")
    assert spec is not None
    assert spec.loader is not None
    plugin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)
    url = plugin.object_url
    assert url("", "builds", "a b", "eu-west-1") == "https://builds.s3.eu-west-1.amazonaws.com/a%20b"
    assert url("", "my.builds", "a", "us-east-1") == "https://s3.us-east-1.amazonaws.com/my.builds/a"
    assert url("", "builds", "a", "cn-north-1") == "https://builds.s3.cn-north-1.amazonaws.com.cn/a"
