"""Reading configuration folders through the APIs of providers: a server that answers as theirs do, over real sockets."""

from __future__ import annotations

from typing import Any

import pytest

from gocdnext.api.services import utc_now
from gocdnext.forges.accounts import Account, authorization
from gocdnext.forges.places import Place
from gocdnext.materials import folders, git
from gocdnext.materials.access import plainly
from gocdnext.materials.remotes import Remotes, Repository
from gocdnext.outbound.client import Outbound
from gocdnext.outbound.hosts import Hosts
from gocdnext.outbound.policy import Policy
from tests.counterpart import Asked, Told, as_json, counterpart

HEAD = "7fd1a60b01f91b314f59955a4e4d4e80d8edf11d"
TOKEN = "t0ken-of-the-bot"
FILES = {"a.yaml": b"a", "b.yml": b"b", "notes.txt": b"x"}


def github(asked: Asked) -> Told:
    root = "/api/v3/repos/acme/shop"
    if asked.path == f"{root}/branches/release%2F1":
        return as_json({"name": "release/1", "commit": {"sha": HEAD}})
    assert asked.query.get("ref", [HEAD]) == [HEAD]
    if asked.path == f"{root}/contents/.gocdnext":
        entries = [{"type": "file", "name": name} for name in FILES]
        return as_json([*entries, {"type": "symlink", "name": "l.yaml"}, {"type": "dir", "name": "d.yaml"}])
    if asked.path.startswith(f"{root}/contents/.gocdnext/") and "raw" in asked.headers["accept"]:
        return Told(200, FILES[asked.path.rpartition("/")[2]])
    if asked.path == f"{root}/contents/one-file":
        return as_json({"type": "file", "name": "one-file"})
    return as_json({"message": "Not Found"}, 404)


def gitlab(asked: Asked) -> Told:
    root = "/api/v4/projects/acme%2Fshop/repository"
    if asked.path == f"{root}/branches/release%2F1":
        return as_json({"name": "release/1", "commit": {"id": HEAD}})
    if asked.path == f"{root}/tree" and asked.query["path"] == [".gocdnext"]:
        filler = [{"type": "tree", "name": f"d{number}", "mode": "040000"} for number in range(100)]
        entries = [{"type": "blob", "name": name, "mode": "100644"} for name in FILES]
        entries.append({"type": "blob", "name": "l.yaml", "mode": "120000"})
        return as_json(filler if asked.query["page"] == ["1"] else entries)
    if asked.path.startswith(f"{root}/files/.gocdnext%2F"):
        return Told(200, FILES[asked.path.removesuffix("/raw").rpartition("%2F")[2]])
    return as_json({"message": "404 Tree Not Found"}, 404)


def bitbucket(asked: Asked) -> Told:
    root = "/2.0/repositories/acme/shop"
    if asked.path == f"{root}/refs/branches/release%2F1":
        return as_json({"name": "release/1", "target": {"hash": HEAD}})
    if asked.path == f"{root}/src/{HEAD}/.gocdnext/":
        entries: list[dict[str, Any]] = [{"type": "commit_file", "path": f".gocdnext/{name}"} for name in FILES]
        entries.append({"type": "commit_file", "path": ".gocdnext/l.yaml", "attributes": ["link"]})
        return as_json({"values": entries})
    if asked.path.startswith(f"{root}/src/{HEAD}/.gocdnext/"):
        return Told(200, FILES[asked.path.rpartition("/")[2]])
    return as_json({"type": "error"}, 404)


PROVIDERS = {"github": github, "gitlab": gitlab, "bitbucket": bitbucket}


def room(outbound: Outbound) -> Remotes:
    async def own(place: Place, token: str) -> Account:
        return Account(outbound, place, place.api, authorization(place.provider, token))

    return Remotes(outbound, plainly, own)


def outgoing() -> Outbound:
    return Outbound(Policy(allow=Hosts.parse("127.0.0.1")), utc_now)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_token_reads_through_the_api(provider: str) -> None:
    async with counterpart(PROVIDERS[provider]) as there, outgoing() as outbound:
        shop = Repository(provider, f"{there.url}/acme/shop.git", token=TOKEN)
        found = await room(outbound).folder(shop, "release/1", ".gocdnext")
        assert found == folders.Folder(HEAD, (folders.RemoteFile("a.yaml", b"a"), folders.RemoteFile("b.yml", b"b")))
        single = await room(outbound).folder_at(shop, HEAD, ".gocdnext/a.yaml")
        assert [file.name for file in single.files] == ["a.yaml"]
        for missing in ("nothing", ".gocdnext/l.yaml"):
            with pytest.raises(folders.FolderMissingError) as told:
                await room(outbound).folder(shop, "release/1", missing)
            assert told.value.revision == HEAD
        sent = [asked.headers.get("private-token") or asked.headers["authorization"] for asked in there.requests]
        assert set(sent) == {TOKEN if provider == "gitlab" else f"Bearer {TOKEN}"}
        assert all(TOKEN not in asked.path for asked in there.requests)


async def test_the_files_of_a_pull_request() -> None:
    def files(asked: Asked) -> Told:
        assert asked.path == "/api/v3/repos/acme/shop/pulls/7/files"
        first = asked.query["page"] == ["1"]
        entries = [{"filename": f"f{number}"} for number in range(100 if first else 1)]
        return as_json([*entries[:-1], {"filename": "new", "previous_filename": "old"}])

    async with counterpart(files) as there, outgoing() as outbound:
        shop = Repository("github", f"{there.url}/acme/shop", token=TOKEN)
        found = await room(outbound).changed_files(shop, 7)
        assert found == {*(f"f{number}" for number in range(99)), "new", "old"}
    async with counterpart(lambda _: as_json([{"filename": "x"}] * 100)) as there, outgoing() as outbound:
        shop = Repository("github", f"{there.url}/acme/shop", token=TOKEN)
        assert await room(outbound).changed_files(shop, 7) is None
        assert len(there.requests) == 30


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (as_json({}, 401), r"does not take the credential of the project's repository \(401\)"),
        (as_json({"commit": {"sha": "--upload-pack=x"}}), "does not say which commit"),
        (as_json([]), "something else than a JSON object"),
        (Told(200, b"{"), "without JSON"),
        (Told(200, b"x" * 5 * 1024 * 1024), "5 MiB|larger|too|bytes"),
        (Told(302, b"", {"Location": "http://localhost:1/"}), "."),
    ],
)
async def test_answers_that_are_none(answer: Told, said: str) -> None:
    """Then git is asked, with the same token; here nobody speaks git."""
    async with counterpart(lambda _: answer) as there, outgoing() as outbound:
        shop = Repository("github", f"{there.url}/acme/shop", token=TOKEN)
        with pytest.raises(git.GitError, match=said) as told:
            await room(outbound).folder(shop, "main", ".gocdnext")
        assert TOKEN not in str(told.value)


async def test_a_file_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FILES, "a.yaml", b"x" * (folders.MAX_FILE + 1))
    async with counterpart(github) as there, outgoing() as outbound:
        shop = Repository("github", f"{there.url}/acme/shop", token=TOKEN)
        with pytest.raises(git.GitError, match=r"'\.gocdnext/a\.yaml' is larger than 1048576 bytes"):
            await room(outbound).folder(shop, "release/1", ".gocdnext")
