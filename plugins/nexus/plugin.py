"""Uploads a file to a Maven 2 repository of Sonatype Nexus 3, or downloads one from it."""

import hashlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import kit
import kit_http

PART = re.compile(r"[A-Za-z0-9_.+-]+")
CHECKSUMS = ("sha512", "sha256", "sha1")
HINTS = {
    400: "the repository may allow releases or snapshots only, and no version twice",
    401: "check `username` and `password`",
    403: "the user may not do this in the repository",
    404: "check `url` and `repository`",
}


class Artifact:
    """Where something is in a repository."""

    def __init__(self) -> None:
        self.server = kit_http.address("url")
        self.repository = part("repository")
        self.group = part("group-id")
        self.name = part("artifact-id")
        self.extension = part("extension", "jar")
        self.classifier = part("classifier", optional=True)

    def file_name(self, version: str) -> str:
        classifier = f"-{self.classifier}" if self.classifier else ""
        return f"{self.name}-{version}{classifier}.{self.extension}"

    def url(self, version: str) -> str:
        folder = f"{self.group.replace('.', '/')}/{self.name}/{version}"
        return f"{self.server}/repository/{self.repository}/{quote(f'{folder}/{self.file_name(version)}')}"


def work() -> None:
    action = kit.choice("action", ("upload", "download"))
    artifact = Artifact()
    username, password = kit.secret("username"), kit.secret("password")
    if bool(username) != bool(password):
        raise kit.InputError("`username` and `password` belong together; one of them is empty")
    client = kit_http.Http(auth=(username, password) if username else None)
    if action == "upload":
        upload(client, artifact)
    else:
        download(client, artifact)


def part(name: str, default: str = "", optional: bool = False) -> str:
    """An input that becomes part of a path."""
    value = kit.text(name, default)
    if not value and optional:
        return ""
    value = value or kit.needed(name)
    if not PART.fullmatch(value) or ".." in value:
        raise kit.InputError(f"`{name}` is {kit.shown(value)}; write letters, digits, dots and dashes")
    return value


def upload(client: kit_http.Http, artifact: Artifact) -> None:
    version = part("upload-version")
    path = Path(kit.needed("file"))
    if not path.is_file():
        raise kit.InputError(f"`file` is {kit.shown(str(path))}, and that is no file")
    size = path.stat().st_size
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    url = artifact.url(version)
    answer = client.send("PUT", url, repeat=True, content=lambda: path.open("rb"), headers=headers)
    answer.expect("the file was not stored", HINTS)
    kit.say(f"stored {path} ({size} bytes) as {artifact.group}:{artifact.name}:{version}")


def download(client: kit_http.Http, artifact: Artifact) -> None:
    version = part("version", optional=True)
    target = Path(kit.text("dest", "."))
    asset = find(client, artifact, version)
    name = asset["path"].rsplit("/", 1)[-1]
    target = target / name if target.is_dir() else target
    part_file = target.with_name(f".{target.name}.unchecked")
    # Not the answer's `downloadUrl`: that is how Nexus sees itself, which may be another host.
    url = f"{artifact.server}/repository/{artifact.repository}/{quote(asset['path'].lstrip('/'))}"
    headers = {"Accept-Encoding": "identity"}
    try:
        answer = client.send("GET", url, repeat=True, sink=kit_http.save(part_file), headers=headers)
        answer.expect("the file was not fetched", HINTS)
        verify(part_file, asset["checksum"])
        part_file.replace(target)
    finally:
        part_file.unlink(missing_ok=True)
    kit.say(f"fetched {target} ({target.stat().st_size} bytes)")


def find(client: kit_http.Http, artifact: Artifact, version: str) -> dict[str, Any]:
    """The newest asset that fits."""
    query = {
        "repository": artifact.repository,
        "maven.groupId": artifact.group,
        "maven.artifactId": artifact.name,
        "maven.extension": artifact.extension,
        "maven.classifier": artifact.classifier,  # an empty one: only those without
        "sort": "version",
        "direction": "desc",
    }
    if version:
        query["maven.baseVersion"] = version
    answer = client.send("GET", f"{artifact.server}/service/rest/v1/search/assets", params=query, repeat=True)
    with kit_http.answers_from("a Nexus 3"):
        items = [
            {"path": str(item["path"]), "checksum": dict(item.get("checksum") or {})}
            for item in answer.expect("Nexus was not asked", HINTS).json()["items"]
        ]
    if not items:
        wanted = f"{artifact.group}:{artifact.name}:{version or 'any version'}"
        raise kit.FailedError(f"{artifact.repository} has no {wanted} with the extension {artifact.extension}")
    return items[0]


def verify(path: Path, checksums: dict[str, str]) -> None:
    """Raises FailedError when the file is not what Nexus has."""
    for kind in CHECKSUMS:
        if kind in checksums:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, kind).hexdigest()
            if found != checksums[kind].lower():
                raise kit.FailedError(
                    f"the {kind} of what was fetched is {found}, Nexus has {checksums[kind]}; try again"
                )
            return
    kit.say("warning: Nexus has no checksum of this file; it is not checked")


if __name__ == "__main__":
    kit.main(work)
