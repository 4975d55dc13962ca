"""Asking real repositories through the real git (anchors E, 11)."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from gocdnext.materials import git
from tests.api.world import commit, repository
from tests.api.world import git as git_in


def processes_about(text: str) -> list[str]:
    """Command lines of processes that have `text` among their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if text in line:
                found.append(line)
    return found


async def test_head_of_a_branch(tmp_path: Path) -> None:
    where = tmp_path / "repo"
    first = repository(where, {"a": "1"})
    assert await git.head(str(where), "main") == first
    assert await git.head(f"file://{where}", "main") == first
    second = commit(where, {"a": "2"})
    assert await git.head(str(where), "main") == second
    with pytest.raises(git.GitError, match="has no branch 'other'"):
        await git.head(str(where), "other")
    # A branch whose name ends like the wanted one is another branch.
    repository(tmp_path / "nested", {"a": "1"}, branch="x/main")
    with pytest.raises(git.GitError, match="has no branch 'main'"):
        await git.head(str(tmp_path / "nested"), "main")
    with pytest.raises(git.GitError, match="does not appear to be a git repository"):
        await git.head(str(tmp_path / "nothing"), "main")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "-x",
        "--upload-pack=touch /tmp/x",
        "ext::sh -c id",
        "fd::17",
        "transport::https://h/x",
        "relative/path",
        "https://h/x\nLocation: y",
        "ssh://-oProxyCommand=id/x",
        "ssh://user@-oProxyCommand=id/x",
        "user@-oProxyCommand=id:x",
        "https://h/" + "x" * 3000,
    ],
)
async def test_urls_that_are_not_repositories(url: str) -> None:
    with pytest.raises(git.GitError, match="not a repository url"):
        await git.head(url, "main")


@pytest.mark.parametrize(
    "branch", ["", "-x", "--all", "a b", "a..b", "a:b", "a~1", "a^", "*", "a.lock", "a/", "x" * 300, "a\0b"]
)
async def test_names_that_are_not_branches(branch: str) -> None:
    with pytest.raises(git.GitError, match="not the name of a branch"):
        await git.head("https://example.org/x", branch)


async def test_errors_carry_no_credentials() -> None:
    with pytest.raises(git.GitError) as caught:
        await git.head("https://user:hunter2@127.0.0.1:1/x", "main")
    assert "hunter2" not in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)
    assert git.without_credentials("a ssh://u:p@h/x and https://t@g/y") == "a ssh://h/x and https://g/y"


async def test_server_that_never_answers_is_given_up_on() -> None:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]

        async def silent(stream: trio.SocketStream) -> None:
            async with stream:
                while await stream.receive_some():
                    pass

        nursery.start_soon(trio.serve_listeners, silent, listeners)
        url = f"git://127.0.0.1:{port}/x"
        with pytest.raises(git.GitError, match=r"no answer within 0\.5 s"):
            await git.head(url, "main", timeout=0.5)
        assert processes_about(url) == []
        nursery.cancel_scope.cancel()


async def test_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(git.GitError, match="install git on the server"):
        await git.head("/x", "main")


async def test_heads_of_several_branches(tmp_path: Path) -> None:
    where = tmp_path / "repo"
    first = repository(where, {"a": "1"})
    git_in(where, "branch", "old")
    git_in(where, "branch", "x/refs/heads/main")
    second = commit(where, {"a": "2"})
    assert await git.heads(str(where), ("main", "old", "gone")) == {"main": second, "old": first}
    assert await git.heads(str(where), ()) == {}
    with pytest.raises(git.GitError, match="more than 1000 branches"):
        await git.heads(str(where), [f"b{number}" for number in range(1001)])
