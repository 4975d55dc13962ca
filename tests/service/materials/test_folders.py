"""Reading configuration folders of real repositories, and of servers that mean no good (anchors E 10, 11)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from gocdnext.api.services import utc_now
from gocdnext.materials import folders, git
from gocdnext.materials.access import plainly
from gocdnext.materials.remotes import Remotes, Repository
from gocdnext.outbound.client import Outbound
from gocdnext.outbound.hosts import Hosts
from gocdnext.outbound.policy import Policy
from tests.agent.git_server import PASSWORD, USER, counting_git_server
from tests.api.world import commit, repository
from tests.api.world import git as git_in
from tests.service.materials.test_git import processes_about

LOOPBACK = Hosts.parse("127.0.0.1")


def names(folder: folders.Folder) -> list[str]:
    return [file.name for file in folder.files]


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    yield
    assert list(temporary.iterdir()) == []


@contextlib.asynccontextmanager
async def remotes(policy: Policy | None = None) -> AsyncIterator[Remotes]:
    async with Outbound(policy or Policy(allow=LOOPBACK), utc_now) as outbound:
        yield Remotes(outbound, plainly, nobody)


async def nobody(place: object, token: str) -> None:
    """No provider is called."""


@pytest.mark.parametrize("partial", [False, True])
async def test_a_folder_and_a_file(tmp_path: Path, partial: bool) -> None:
    where = tmp_path / "repo"
    repository(
        where,
        {"ci/b.yaml": "b", "ci/a.yaml": "a", "ci/e.yml": "", "ci/a.txt": "x", "ci/sub/c.yaml": "c", "one.yml": "1"},
    )
    git_in(where, "config", "uploadpack.allowFilter", str(partial).lower())
    (where / "ci" / "link.yaml").symlink_to("/etc/passwd")
    (where / "linked").symlink_to("ci")
    head = commit(where, {"ci/same.yaml": "a"})
    found = await folders.read(f"file://{where}", "main", "ci")
    assert found.revision == head
    wanted = [("a.yaml", b"a"), ("b.yaml", b"b"), ("e.yml", b""), ("same.yaml", b"a")]
    assert [(file.name, file.content) for file in found.files] == wanted
    (single,) = (await folders.read(str(where), "main", "one.yml")).files
    assert (single.name, single.content) == ("one.yml", b"1")
    for missing in ("nope", "ci/nope", "ci/nope.yaml", "nope/x.yaml", "one.yml/x", "linked", "ci/link.yaml"):
        with pytest.raises(folders.FolderMissingError) as told:
            await folders.read(str(where), "main", missing)
        assert told.value.revision == head
    with pytest.raises(git.GitError, match="nope"):
        await folders.read(str(where), "nope", "ci")


async def test_a_commit_that_no_branch_is_at(tmp_path: Path) -> None:
    where = tmp_path / "repo"
    old = repository(where, {"ci/a.yaml": "old"})
    commit(where, {"ci/a.yaml": "new"})
    async with remotes() as room:
        there = Repository("manual", f"file://{where}")
        found = await room.folder_at(there, old, "ci")
        assert (found.revision, found.files[0].content) == (old, b"old")
        for strange in ("HEAD", "main", old[:12], f"{old}:x", "--upload-pack=touch /tmp/x", "0" * 40):
            with pytest.raises(git.GitError):
                await room.folder_at(there, strange, "ci")


@pytest.mark.parametrize(
    "branch", ["--upload-pack=touch${IFS}x", "-o", "a\nb", "a:b", "+main", "main:refs/heads/x", "a b"]
)
async def test_branches_that_are_none(tmp_path: Path, branch: str) -> None:
    repository(tmp_path / "repo", {"ci/a.yaml": "a"})
    if branch == "+main":
        # A strange name that git would take; it is a name and nothing else.
        with pytest.raises(git.GitError, match="couldn't find remote ref"):
            await folders.read(str(tmp_path / "repo"), branch, "ci")
        return
    with pytest.raises(git.GitError, match="not the name of a branch"):
        await folders.read(str(tmp_path / "repo"), branch, "ci")


@pytest.mark.parametrize("url", ["ext::sh -c id", "--upload-pack=id", "ssh://-oProxyCommand=id/x", "fd::17"])
async def test_urls_that_run_something(url: str) -> None:
    async with remotes() as room:
        with pytest.raises(git.GitError, match="not a repository url"):
            await room.folder(Repository("manual", url), "main", "ci")


async def test_submodules_are_left_alone(tmp_path: Path) -> None:
    where = tmp_path / "repo"
    inner = repository(tmp_path / "inner", {"x.yaml": "x"})
    repository(where, {"ci/a.yaml": "a", ".gitmodules": '[submodule "m"]\n\tpath = ci/m.yaml\n\turl = ext::sh -c id\n'})
    git_in(where, "update-index", "--add", "--cacheinfo", f"160000,{inner},ci/m.yaml")
    git_in(where, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "m")
    assert names(await folders.read(f"file://{where}", "main", "ci")) == ["a.yaml"]


async def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = tmp_path / "repo"
    repository(where, {f"many/{number}.yaml": str(number) * 1000 * 1000 for number in range(6)})
    with pytest.raises(git.GitError, match="more than 5242880"):
        await folders.read(str(where), "main", "many")
    commit(where, {"large/a.yaml": "x" * (folders.MAX_FILE + 1)})
    with pytest.raises(git.GitError, match="larger than 1048576 bytes"):
        await folders.read(str(where), "main", "large")
    monkeypatch.setattr(folders, "MAX_FILES", 5)
    with pytest.raises(git.GitError, match="more than 5 files in 'many'"):
        await folders.read(str(where), "main", "many")
    # One that sends more than there is room for is stopped while it sends.
    monkeypatch.setattr(folders, "MAX_FETCHED", 100 * 1024)
    monkeypatch.setattr(git, "WATCH_EVERY", 0.005)
    (where / "noise").write_bytes(os.urandom(4 * 1024 * 1024))
    commit(where, {})
    with pytest.raises(git.GitError, match="came from the repository"):
        await folders.read(f"file://{where}", "main", "ci")


async def test_of_a_large_repository_only_the_folder_comes(tmp_path: Path) -> None:
    where = tmp_path / "root" / "repo"
    repository(where, {"ci/a.yaml": "a", "ci/b.yaml": "b"})
    (where / "data").write_bytes(os.urandom(1024 * 1024))
    commit(where, {})
    git_in(where, "config", "uploadpack.allowFilter", "true")
    with counting_git_server(tmp_path / "root") as (address, sent):
        url = f"http://{USER}:{PASSWORD}@{address}/repo/.git"
        async with remotes() as room:
            assert names(await room.folder(Repository("manual", url), "main", "ci")) == ["a.yaml", "b.yaml"]
        assert sent() < 100 * 1024


async def test_a_server_that_asks_for_a_password(tmp_path: Path) -> None:
    repository(tmp_path / "repo", {"ci/a.yaml": "a"})
    with counting_git_server(tmp_path) as (address, _):
        async with remotes() as room:
            with pytest.raises(git.GitError, match="could not read Username") as told:
                await room.folder(Repository("manual", f"http://{address}/repo/.git"), "main", "ci")
            assert "terminal prompts disabled" in str(told.value)
            url = f"http://{USER}:wrong-password@{address}/repo/.git"
            with pytest.raises(git.GitError, match="could not read Username") as told:
                await room.folder(Repository("manual", url), "main", "ci")
            assert "wrong-password" not in str(told.value)


async def test_the_credential_is_in_no_argument(tmp_path: Path) -> None:
    async with listener(b"") as (port, begun):
        async with trio.open_nursery() as nursery, remotes() as room:
            url = f"http://{USER}:{PASSWORD}@127.0.0.1:{port}/repo"
            nursery.start_soon(_quietly, room, url)
            with trio.fail_after(20):
                await begun.wait()
            assert processes_about(f"127.0.0.1:{port}") != []
            assert processes_about(PASSWORD) == []
            nursery.cancel_scope.cancel()
        assert processes_about(f"127.0.0.1:{port}") == []


async def _quietly(room: Remotes, url: str) -> None:
    with contextlib.suppress(git.GitError):
        await room.folder(Repository("manual", url), "main", "ci")


async def test_a_server_that_hangs() -> None:
    async with listener(b"") as (port, _), remotes() as room:
        there = Repository("manual", f"http://127.0.0.1:{port}/repo")
        with pytest.raises(git.GitError, match=r"no answer within 0\.7 s"):
            await room.folder(there, "main", "ci", timeout=0.7)
        assert processes_about(f"127.0.0.1:{port}") == []


async def test_a_server_that_sends_git_elsewhere(tmp_path: Path) -> None:
    """A redirect to the inside of the network is not followed, nor is any other."""
    repository(tmp_path / "repo", {"ci/a.yaml": "a"})
    async with listener(b"") as (inside, touched):
        moved = f"HTTP/1.1 302 Found\r\nLocation: http://localhost:{inside}/repo/.git/info/refs\r\nContent-Length: 0\r\n\r\n"
        async with listener(moved.encode()) as (port, _), remotes() as room:
            with pytest.raises(git.GitError, match="the server sends git elsewhere"):
                await room.folder(Repository("manual", f"http://127.0.0.1:{port}/repo"), "main", "ci")
        assert not touched.is_set()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/x",
        "http://[::1]:9/x",
        "git://localhost/x",
        "http://2130706433/x",
        "ssh://git@169.254.169.254/x",
        "git@10.0.0.1:x",
        "https://0x7f.1/x",
    ],
)
async def test_the_inside_of_the_network_is_not_asked(url: str) -> None:
    async with remotes(Policy()) as room:
        with pytest.raises(git.GitError, match=r"GOCDNEXT_OUTBOUND_ALLOW|has no address"):
            await room.folder(Repository("manual", url), "main", "ci")


async def test_offline(tmp_path: Path) -> None:
    repository(tmp_path / "repo", {"ci/a.yaml": "a"})
    async with remotes(Policy(offline=True)) as room:
        assert names(await room.folder(Repository("manual", f"file://{tmp_path}/repo"), "main", "ci")) == ["a.yaml"]
        assert not room.may_be_asked("https://example.org/x")
        with pytest.raises(git.GitError, match="GOCDNEXT_OFFLINE"):
            await room.folder(Repository("manual", "https://example.org/x"), "main", "ci")


@contextlib.asynccontextmanager
async def listener(answer: bytes) -> AsyncIterator[tuple[int, trio.Event]]:
    """A server that gives one answer to everything, or none; its port, and whether anybody came."""
    came = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        came.set()
        async with stream:
            while await stream.receive_some():
                if answer:
                    await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield listeners[0].socket.getsockname()[1], came
        nursery.cancel_scope.cancel()
