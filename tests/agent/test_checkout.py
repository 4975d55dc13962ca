"""Checkouts of real repositories by the real git, through a whole job."""

from __future__ import annotations

import os
import socket
from fnmatch import fnmatch
from pathlib import Path

import pytest

from gocdnext.agent.checkout import secrets_of
from gocdnext.agent.git import redact
from gocdnext.proto import agent_pb2
from gocdnext.proto.agent_pb2 import MaterialCheckout
from tests.agent.git_server import PASSWORD, USER, git, http_git_server, make_repository
from tests.agent.scripted_server import rig, script_job

FAILED, SUCCESS = agent_pb2.RUN_STATUS_FAILED, agent_pb2.RUN_STATUS_SUCCESS
SHOW = "cat file; git rev-parse HEAD"


def checkout(url: object, revision: str = "", branch: str = "", target: str = "src/0a1b2c3d") -> MaterialCheckout:
    return MaterialCheckout(material_id="m", url=str(url), revision=revision, branch=branch, target_dir=target)


@pytest.mark.parametrize("scheme", ["", "file://"])
async def test_branch_and_revision(tmp_path: Path, scheme: str) -> None:
    revisions = make_repository(tmp_path / "repo")
    url = f"{scheme}{tmp_path}/repo"
    async with rig(tmp_path / "work") as it:
        stream = await it.server.stream()
        for number, (revision, branch, expected) in enumerate(
            [
                ("", "", "second"),
                ("", "side", "side"),
                (revisions["first"], "main", "first"),
                (revisions["side"], "", "side"),
                (revisions["side"], "main", "side"),
            ]
        ):
            job = f"job-{number}"
            result = await it.run(script_job(SHOW, job, checkouts=[checkout(url, revision, branch)]))
            assert (result.status, result.error) == (SUCCESS, "")
            assert stream.printed(job) == [expected, revisions[expected]]


async def test_echoes_and_full_history(tmp_path: Path) -> None:
    revisions = make_repository(tmp_path / "repo")
    async with rig(tmp_path / "work") as it:
        material = checkout(tmp_path / "repo", revisions["second"], "main")
        await it.run(script_job("pwd; git rev-list --count HEAD", checkouts=[material]))
        texts = it.server.streams[0].texts()
        assert texts[0] == f"$ [git clone --quiet --branch main --no-checkout -- {tmp_path}/repo src/0a1b2c3d]"
        assert texts[1] == f"$ [git -C src/0a1b2c3d checkout --quiet {revisions['second']}]"
        where, count = it.server.streams[0].printed()
        assert fnmatch(where, f"{tmp_path}/work/run-1/job-1-????????/src/0a1b2c3d")
        assert count == "2"


async def test_two_materials_and_the_workspace_itself_as_target(tmp_path: Path) -> None:
    make_repository(tmp_path / "one")
    make_repository(tmp_path / "two")
    async with rig(tmp_path / "work") as it:
        materials = [checkout(tmp_path / "one", target=""), checkout(tmp_path / "two", branch="side", target="other")]
        result = await it.run(script_job("pwd; cat file other/file", checkouts=materials))
        assert result.status == SUCCESS
        where, *rest = it.server.streams[0].printed()
        assert fnmatch(where, f"{tmp_path}/work/run-1/job-1-????????")
        assert rest == ["second", "side"]


@pytest.mark.parametrize(
    ("fields", "wording"),
    [
        ({"revision": "0123456789012345678901234567890123456789"}, "reference is not a tree|unable to read tree"),
        ({"branch": "nowhere"}, "Remote branch nowhere not found"),
        ({"revision": "--orphan"}, "is neither a branch nor a revision"),
        ({"branch": "-x"}, "is neither a branch nor a revision"),
        ({"target": "../outside"}, "leaves the workspace"),
        ({"target": "/tmp/outside"}, "leaves the workspace"),
    ],
)
async def test_wrong_revision_branch_target(tmp_path: Path, fields: dict[str, str], wording: str) -> None:
    make_repository(tmp_path / "repo")
    async with rig(tmp_path / "work") as it:
        result = await it.run(script_job(SHOW, checkouts=[checkout(tmp_path / "repo", **fields)]))
        assert (result.status, result.exit_code) == (FAILED, -1)
        assert result.error.startswith(f"checkout {tmp_path}/repo: ")
        assert any(option in result.error for option in wording.split("|")), result.error
        assert it.server.streams[0].printed()[-1:] != ["second"]
        assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "--upload-pack=touch /tmp/owned",
        "ext::sh -c touch% /tmp/owned",
        "fd::17/foo",
        "gopher://host/repo",
        "https://host/repo\nx",
        "/nowhere/at/all",
        "https://[::1/repo",
    ],
)
async def test_hostile_and_wrong_urls_fail_the_job(tmp_path: Path, url: str) -> None:
    async with rig(tmp_path / "work") as it:
        result = await it.run(script_job(SHOW, checkouts=[checkout(url)]))
        assert (result.status, result.exit_code) == (FAILED, -1)
        assert result.error.startswith(f"checkout {url}".rstrip())
        assert not Path("/tmp/owned").exists()


async def test_a_link_in_a_repository_leads_nowhere(tmp_path: Path) -> None:
    make_repository(tmp_path / "repo")
    (tmp_path / "repo" / "link").symlink_to(tmp_path)
    git(tmp_path / "repo", "add", "link")
    git(tmp_path / "repo", "commit", "--quiet", "-m", "link")
    async with rig(tmp_path / "work") as it:
        materials = [checkout(tmp_path / "repo", target=""), checkout(tmp_path / "repo", target="link/stolen")]
        result = await it.run(script_job(SHOW, checkouts=materials))
        assert "the target directory 'link/stolen' leaves the workspace" in result.error
        assert not (tmp_path / "stolen").exists()


async def test_a_password_in_the_url_works_and_is_seen_nowhere(tmp_path: Path) -> None:
    make_repository(tmp_path / "repo")
    with http_git_server(tmp_path) as address:
        url = f"http://{USER}:{PASSWORD}@{address}/repo"
        # The clone is partial, so that the last command has to fetch: the job's own git is let in as well.
        script = "cat file; cat .git/config; tr '\\0' ' ' < /proc/$PPID/cmdline; env; git cat-file -p HEAD~1:file"
        async with rig(tmp_path / "work") as it:
            result = await it.run(script_job(script, checkouts=[checkout(url, branch="main")]))
            stream = it.server.streams[0]
            assert (result.status, result.error) == (SUCCESS, "")
            assert stream.printed()[0] == "second"
            assert stream.printed()[-1] == "first"
            assert f"--filter=blob:none --branch main -- http://***@{address}/repo" in stream.texts()[0]
            assert not any(PASSWORD in text or USER in text for text in stream.texts())
            assert os.listdir(tmp_path / "work") == [".mirrors"]


async def test_a_wrong_password_fails_at_once_without_showing_it(tmp_path: Path) -> None:
    make_repository(tmp_path / "repo")
    with http_git_server(tmp_path) as address:
        async with rig(tmp_path / "work") as it:
            url = f"http://{USER}:wrong-password@{address}/repo"
            result = await it.run(script_job(SHOW, checkouts=[checkout(url)]))
            assert result.error.startswith(f"checkout http://***@{address}/repo: ")
            assert "Authentication failed" in result.error
            assert "wrong-password" not in result.error + "".join(it.server.streams[0].texts())
            assert it.server.streams[0].texts()[-1].find("cloning in full") < 0
            result = await it.run(script_job(SHOW, "job-2", checkouts=[checkout(f"http://{address}/repo")]))
            assert "could not read Username" in result.error


async def test_a_server_without_partial_clone(tmp_path: Path) -> None:
    revisions = make_repository(tmp_path / "repo")
    git(tmp_path / "repo", "config", "uploadpack.allowFilter", "false")
    with http_git_server(tmp_path) as address:
        async with rig(tmp_path / "work") as it:
            url = f"http://{USER}:{PASSWORD}@{address}/repo"
            result = await it.run(script_job(SHOW, checkouts=[checkout(url, revisions["first"])]))
            assert (result.status, result.error) == (SUCCESS, "")
            assert it.server.streams[0].printed()[-2:] == ["first", revisions["first"]]


async def test_a_server_that_breaks_its_promise_gets_one_full_clone(tmp_path: Path) -> None:
    revisions = make_repository(tmp_path / "repo")
    git(tmp_path / "repo", "config", "uploadpack.allowAnySHA1InWant", "false")
    with http_git_server(tmp_path, protocol_v2=False) as address:
        async with rig(tmp_path / "work") as it:
            url = f"http://{USER}:{PASSWORD}@{address}/repo"
            result = await it.run(script_job(SHOW, checkouts=[checkout(url, revisions["first"])]))
            assert (result.status, result.error) == (SUCCESS, "")
            assert it.server.streams[0].printed()[-2:] == ["first", revisions["first"]]
            assert "── partial clone is not possible here; cloning in full" in it.server.streams[0].texts()


async def test_cancel_during_a_checkout(tmp_path: Path) -> None:
    async with rig(tmp_path / "work") as it:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            stream = await it.server.stream()
            stream.assign(script_job(SHOW, checkouts=[checkout(f"http://127.0.0.1:{silent.getsockname()[1]}/x")]))
            await stream.until(stream.logs)
            stream.cancel("job-1", "")
            result = await stream.result()
            assert (result.status, result.exit_code, result.error) == (FAILED, -1, "checkout 0: canceled")
            assert os.listdir(tmp_path / "work") == [".mirrors"]


def test_redact_and_secrets() -> None:
    assert redact("at https://u:p@h/x and ssh://git@h/y") == "at https://***@h/x and ssh://***@h/y"
    urls = ["https://u:pass@h/x", "https://token@h/x", "ssh://git@h/x", "git@h:x", "/x", "https://h/x@y"]
    assert secrets_of([checkout(url) for url in urls]) == ["pass", "token"]
    assert sorted(secrets_of([checkout("https://u:a%40bcd@h/x")])) == ["a%40bcd", "a@bcd"]


async def test_a_file_url_is_cloned_as_it_is(tmp_path: Path) -> None:
    """git warns of a filter that a repository on the same machine does not know, in every single job."""
    make_repository(tmp_path / "repo")
    async with rig(tmp_path / "work") as it:
        await it.run(script_job(":", checkouts=[checkout(f"file://{tmp_path}/repo", "", "main")]))
        texts = it.server.streams[0].texts()
        assert texts[0] == f"$ [git clone --quiet --branch main -- file://{tmp_path}/repo src/0a1b2c3d]"
        assert not any("filter" in text for text in texts)
