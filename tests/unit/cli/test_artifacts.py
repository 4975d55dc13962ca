"""`artifacts list` and `artifacts get` against a server that answers the contract's JSON."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RUN = "c0de0000-0000-4000-8000-000000000041"
LIST = f"GET /api/v1/runs/{RUN}/artifacts"
Call = Callable[..., Any]


def archive(**members: bytes | tarfile.TarInfo) -> bytes:
    """A tar.gz as agents make them."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, member in members.items():
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(name.replace("__", "/"))
            data = member if isinstance(member, bytes) else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def entry(api: Any, answer: Any, path: str, content: bytes, *, job: str = "compile", **changes: Any) -> dict[str, Any]:
    """An artifact of the list, and its bytes behind a link of the server."""
    token = f"/artifacts/{job}.{hashlib.sha256(path.encode()).hexdigest()}"
    api.routes[f"GET {token}"] = answer(200, [content], {"Content-Type": "application/gzip"})
    return {
        "id": "a1",
        "job_run_id": "j1",
        "job_name": job,
        "path": path,
        "status": "ready",
        "size_bytes": len(content),
        "content_sha256": hashlib.sha256(content).hexdigest(),
        "created_at": "2026-04-28T13:01:00Z",
        "expires_at": "2026-05-28T13:00:58Z",
        "download_url": f"{api.url}{token}?filename=x.tar.gz",
        **changes,
    }


def test_list(api: Any, call: Call, answer: Any) -> None:
    rows = [
        entry(api, answer, "dist/app", b"x"),
        entry(api, answer, "log\x1b[2J", b"", status="pending", content_sha256=""),
    ]
    api.routes[LIST] = rows
    done = call("artifacts", "list", RUN)
    first, second = done.out.splitlines()
    assert first.split("\t")[:4] == ["compile", "dist/app", "ready", "1"]
    assert second.split("\t")[1:4] == ["log", "pending", "0"]
    assert json.loads(call("artifacts", "list", RUN, "--json").out) == rows
    api.routes[LIST] = []
    assert call("artifacts", "list", RUN).out == ""


def test_get_unpacks_what_was_asked_for(api: Any, call: Call, answer: Any, tmp_path: Path) -> None:
    app, log = archive(dist__app=b"program", dist__lib=b"lib"), archive(log=b"line")
    api.routes[LIST] = [entry(api, answer, "dist/", app), entry(api, answer, "log", log)]
    out = tmp_path / "new" / "folder"
    done = call("artifacts", "get", RUN, "dist", "-o", str(out))
    assert (done.code, done.out) == (0, "compile: dist/\n")
    assert {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()} == {
        "dist/app": b"program",
        "dist/lib": b"lib",
    }
    fetched = json.loads(call("artifacts", "get", RUN, "-o", str(out), "--json").out)
    assert [each["path"] for each in fetched] == ["dist/", "log"]
    assert (out / "log").read_bytes() == b"line"


def test_the_token_of_the_server_is_not_sent_to_where_a_link_leads(
    api: Any, other_api: Any, call: Call, answer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOCDNEXT_TOKEN", "gnk_secret")
    api.routes[LIST] = [entry(other_api, answer, "x", archive(x=b"1"))]
    assert call("artifacts", "get", RUN, "-o", str(tmp_path)).code == 0
    assert api.seen[0].headers["Authorization"] == "Bearer gnk_secret"
    assert "Authorization" not in other_api.seen[0].headers


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("absent",), "no artifact 'absent' that is ready. Ready: dist, log"),
        (("pending",), "no artifact 'pending'"),
        (("dist",), "several jobs have left the same path: compile, docs. Say which with --job."),
        (("--job", "nobody"), "no artifact that is ready. Ready: none"),
    ],
)
def test_what_cannot_be_fetched(api: Any, call: Call, answer: Any, tmp_path: Path, arguments: Any, words: str) -> None:
    out = tmp_path / "out"
    api.routes[LIST] = [
        entry(api, answer, "dist", archive(dist=b"1")),
        entry(api, answer, "dist", archive(dist=b"2"), job="docs"),
        entry(api, answer, "log", archive(log=b"1")),
        entry(api, answer, "pending", b"", status="pending"),
    ]
    done = call("artifacts", "get", RUN, *arguments, "-o", str(out))
    assert (done.code, words in done.err) == (1, True), done.err
    assert not out.exists()
    assert call("artifacts", "get", RUN, "dist", "--job", "docs", "-o", str(out)).code == 0
    assert (out / "dist").read_bytes() == b"2"


def test_nothing_of_what_is_not_what_the_server_says(api: Any, call: Call, answer: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    api.routes[LIST] = [entry(api, answer, "x", archive(x=b"1"), content_sha256="0" * 64)]
    done = call("artifacts", "get", RUN, "-o", str(out))
    assert (done.code, "another hash" in done.err) == (1, True)
    assert list(out.iterdir()) == []
    api.routes[LIST] = [entry(api, answer, "x", b"no archive")]
    assert "cannot be unpacked" in call("artifacts", "get", RUN, "-o", str(out)).err


@pytest.mark.parametrize("kind", ["climbs", "absolute", "link", "hardlink", "device", "cut"])
def test_archives_that_would_write_elsewhere(api: Any, call: Call, answer: Any, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    info = tarfile.TarInfo({"climbs": "../evil", "absolute": str(tmp_path / "evil")}.get(kind, "evil"))
    if kind in ("link", "hardlink"):
        info.type, info.linkname = tarfile.SYMTYPE if kind == "link" else tarfile.LNKTYPE, "../../etc/passwd"
    if kind == "device":
        info.type = tarfile.CHRTYPE
    made = archive(evil=info)
    if kind == "cut":
        made = archive(evil=b"x" * 100_000)[:-40]
    api.routes[LIST] = [entry(api, answer, "x", made)]
    done = call("artifacts", "get", RUN, "-o", str(out))
    if kind == "absolute":
        # The filter takes the leading slash away: below DIR it is harmless.
        assert not (tmp_path / "evil").exists()
    else:
        assert (done.code, "cannot be unpacked" in done.err) == (1, True), done.err
    assert not (tmp_path / "evil").exists()


def test_a_link_that_leads_nowhere(api: Any, call: Call, answer: Any, tmp_path: Path) -> None:
    broken = entry(api, answer, "x", b"", download_url="http://127.0.0.1:1/artifacts/secret-token")
    api.routes[LIST] = [broken]
    done = call("artifacts", "get", RUN, "-o", str(tmp_path))
    assert done.code == 3
    assert "cannot reach http://127.0.0.1:1:" in done.err
    assert "secret-token" not in done.err
    api.routes[LIST] = [entry(api, answer, "x", b"", download_url=f"{api.url}/artifacts/late")]
    assert call("artifacts", "get", RUN, "-o", str(tmp_path)).code == 1
