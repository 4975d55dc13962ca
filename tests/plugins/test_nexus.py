"""nexus: a Maven 2 repository with the documented requests of Nexus 3: PUT and GET of paths, the search of assets."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Any

import pytest

from tests.plugins.conftest import Workspace
from tests.plugins.web import Answer, Request, Web, as_json

USER, PASSWORD = "ci", "s3cr3t-of-nexus"
BASIC = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()
FOLDER = "org/example/shop"


class Nexus:
    """Files by path. `damage` is what readers get instead of the true content."""

    def __init__(self, web: Web) -> None:
        self.files: dict[str, bytes] = {}
        self.damage: bytes | None = None
        self.url = f"{web.url}/nexus"
        web.handler = self.handle

    def handle(self, request: Request) -> Answer:
        if request.headers.get("authorization") != BASIC:
            return Answer(401)
        path = request.path.removeprefix("/nexus")
        if path == "/service/rest/v1/search/assets":
            return self.search(request.query)
        path = path.removeprefix("/repository/releases/")
        if request.method == "PUT":
            if path in self.files:
                return Answer(400, b"Repository does not allow updating assets: releases")
            self.files[path] = request.body
            return Answer(201)
        return Answer(200, self.damage or self.files[path]) if path in self.files else Answer(404)

    def search(self, query: dict[str, list[str]]) -> Answer:
        assert query["repository"] == ["releases"]
        assert (query["maven.groupId"], query["maven.artifactId"]) == (["org.example"], ["shop"])
        assert (query["sort"], query["direction"]) == (["version"], ["desc"])
        ending = f".{query['maven.extension'][0]}"
        classifier = query["maven.classifier"][0]
        found: list[dict[str, Any]] = []
        for path in sorted(self.files, key=self.version, reverse=True):
            version = path.split("/")[-2]
            fits = path.endswith(f"shop-{version}{'-' + classifier if classifier else ''}{ending}")
            if fits and query.get("maven.baseVersion", [version]) == [version]:
                sums = {kind: hashlib.new(kind, self.files[path]).hexdigest() for kind in ("sha1", "sha256")}
                found.append({"path": path, "downloadUrl": f"http://inside.invalid/{path}", "checksum": sums})
        return as_json({"items": found, "continuationToken": None})

    @staticmethod
    def version(path: str) -> list[int]:
        return [int(part) for part in path.split("/")[-2].split(".")]


@pytest.fixture
def nexus(web: Web) -> Nexus:
    return Nexus(web)


def inputs(nexus: Nexus, **more: str) -> dict[str, str]:
    given = {"action": "download", "url": f"{nexus.url}/", "repository": "releases", "username": USER}
    given |= {"password": PASSWORD, "group-id": "org.example", "artifact-id": "shop"}
    return given | {name.replace("_", "-"): value for name, value in more.items()}


def test_up_and_down(workspace: Workspace, nexus: Nexus) -> None:
    (workspace.path / "out.jar").write_bytes(b"content of the jar")
    given = inputs(nexus, action="upload", file="out.jar", upload_version="1.4.0")
    outcome = workspace.good("nexus", given)
    assert outcome.out == "nexus: stored out.jar (18 bytes) as org.example:shop:1.4.0\n"
    assert nexus.files == {f"{FOLDER}/1.4.0/shop-1.4.0.jar": b"content of the jar"}
    workspace.good("nexus", {**given, "classifier": "dist", "extension": "tar.gz"})
    assert f"{FOLDER}/1.4.0/shop-1.4.0-dist.tar.gz" in nexus.files
    workspace.good("nexus", inputs(nexus, version="1.4.0"))
    assert (workspace.path / "shop-1.4.0.jar").read_bytes() == b"content of the jar"
    assert PASSWORD not in outcome.text


def test_the_newest_version_and_the_classifier(workspace: Workspace, nexus: Nexus) -> None:
    for version in ("1.9.0", "1.10.0"):
        nexus.files[f"{FOLDER}/{version}/shop-{version}.jar"] = version.encode()
        nexus.files[f"{FOLDER}/{version}/shop-{version}-sources.jar"] = b"sources of " + version.encode()
    workspace.good("nexus", inputs(nexus, dest="a.jar"))
    assert (workspace.path / "a.jar").read_bytes() == b"1.10.0"
    (workspace.path / "folder").mkdir()
    workspace.good("nexus", inputs(nexus, classifier="sources", version="1.9.0", dest="folder"))
    assert (workspace.path / "folder" / "shop-1.9.0-sources.jar").read_bytes() == b"sources of 1.9.0"


def test_a_damaged_file_is_not_kept(workspace: Workspace, nexus: Nexus) -> None:
    nexus.files[f"{FOLDER}/1.0.0/shop-1.0.0.jar"] = b"true"
    nexus.damage = b"false"
    outcome = workspace.run("nexus", inputs(nexus))
    assert outcome.code == 1
    assert "the sha256 of what was fetched is" in outcome.err
    assert list(workspace.path.iterdir()) == []


def test_what_nexus_refuses(workspace: Workspace, nexus: Nexus, web: Web) -> None:
    (workspace.path / "f").write_text("x")
    given = inputs(nexus, action="upload", file="f", upload_version="1.0.0")
    workspace.good("nexus", given)
    outcome = workspace.run("nexus", given)
    assert outcome.code == 1
    assert "does not allow updating assets" in outcome.err
    outcome = workspace.run("nexus", {**given, "password": "wr0ng-password"})
    assert outcome.code == 1
    assert "check `username` and `password`" in outcome.err
    assert "wr0ng" not in outcome.text
    outcome = workspace.run("nexus", inputs(nexus, version="9.9.9"))
    assert outcome.code == 1
    assert "releases has no org.example:shop:9.9.9 with the extension jar" in outcome.err
    web.handler = lambda request: as_json([])
    outcome = workspace.run("nexus", inputs(nexus))
    assert outcome.code == 1
    assert "the answer is not one of a Nexus 3" in outcome.err


def test_a_path_in_an_answer_cannot_leave_the_folder(workspace: Workspace, web: Web, nexus: Nexus) -> None:
    web.answers = [as_json({"items": [{"path": "a/../../../evil.jar"}]}), Answer(200, b"x")]
    workspace.good("nexus", inputs(nexus))
    assert [path.name for path in workspace.path.iterdir()] == ["evil.jar"]
    web.answers = [as_json({"items": [{"path": "a/.."}]}), Answer(200, b"x")]
    outcome = workspace.run("nexus", inputs(nexus))
    assert outcome.code == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"action": "copy"}, "write upload or download"),
        ({"url": ""}, "the input `url` is missing"),
        ({"group-id": "../x"}, "`group-id` is '../x'"),
        ({"artifact-id": ""}, "the input `artifact-id` is missing"),
        ({"classifier": "a/b"}, "`classifier` is 'a/b'"),
        ({"password": ""}, "`username` and `password` belong together"),
        ({"action": "upload"}, "the input `upload-version` is missing"),
        ({"action": "upload", "upload-version": "1"}, "the input `file` is missing"),
        ({"action": "upload", "upload-version": "1", "file": "nothing"}, "and that is no file"),
    ],
)
def test_wrong_inputs(workspace: Workspace, nexus: Nexus, web: Web, given: dict[str, str], words: str) -> None:
    outcome = workspace.run("nexus", {**inputs(nexus), **given})
    assert outcome.code == 2
    assert words in outcome.err
    assert web.requests == []
