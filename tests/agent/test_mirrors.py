"""Mirrors of repositories: what moves, what is remade, who waits for whom, what goes; by the real git over HTTP."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
import trio

from gocdnext.agent.disk import DiskFullError
from gocdnext.agent.mirrors import Mirrors, remove_oldest, tree_size
from gocdnext.agent.room import make_room
from gocdnext.agent.workspace import MIRRORS, Workspace
from gocdnext.proto import agent_pb2
from tests.agent.git_server import PASSWORD, USER, counting_git_server, git, http_git_server, make_repository
from tests.agent.scripted_server import PATIENCE, rig, script_job
from tests.agent.test_checkout import checkout

FAILED, SUCCESS = agent_pb2.RUN_STATUS_FAILED, agent_pb2.RUN_STATUS_SUCCESS
BIG = 3_000_000


def mirrors_in(work: Path) -> list[Path]:
    return [path for path in (work / MIRRORS).glob("*") if path.is_dir()]


def commit(repository: Path, name: str, size: int = 10) -> str:
    (repository / name).write_bytes(random.Random(name).randbytes(size))
    git(repository, "add", name)
    git(repository, "commit", "--quiet", "-m", name)
    return git(repository, "rev-parse", "HEAD")


async def test_the_second_checkout_moves_only_what_is_new(tmp_path: Path) -> None:
    make_repository(tmp_path / "repo")
    first = commit(tmp_path / "repo", "big", BIG)
    with counting_git_server(tmp_path) as (address, sent):
        url = f"http://{USER}:{PASSWORD}@{address}/repo"
        async with rig(tmp_path / "work") as it:
            script = "wc -c < big; git rev-parse HEAD; git status --short; git remote get-url origin"
            await it.run(script_job(script, checkouts=[checkout(url, first, "main")]))
            assert it.server.streams[0].printed() == [str(BIG), first, f"http://{address}/repo"]
            assert sent() > BIG
            before = sent()
            second = commit(tmp_path / "repo", "small")
            result = await it.run(script_job(script, "job-2", checkouts=[checkout(url, second, "main")]))
            assert result.status == SUCCESS, result.error
            assert it.server.streams[0].printed("job-2") == [str(BIG), second, f"http://{address}/repo"]
            assert sent() - before < 20_000
            # The echoes are those of a clone from the server.
            assert it.server.streams[0].texts("job-2")[:2] == [
                f"$ [git clone --quiet --filter=blob:none --branch main --no-checkout -- http://***@{address}/repo "
                "src/0a1b2c3d]",
                f"$ [git -C src/0a1b2c3d checkout --quiet {second}]",
            ]


async def test_forced_pushes_deleted_branches_tags_and_the_default_branch(tmp_path: Path) -> None:
    repository = tmp_path / "repo"
    make_repository(repository)
    with http_git_server(tmp_path) as address:
        url = f"http://{USER}:{PASSWORD}@{address}/repo"
        async with rig(tmp_path / "work") as it:
            await it.run(script_job("git branch -r", checkouts=[checkout(url)]))
            assert "  origin/side" in it.server.streams[0].printed()
            git(repository, "branch", "-D", "side")
            git(repository, "branch", "side/deeper")  # where `side` was a file there is a directory now
            git(repository, "reset", "--quiet", "--hard", "HEAD~1")
            git(repository, "tag", "v1", "HEAD")
            git(repository, "checkout", "--quiet", "-b", "other")
            tip = commit(repository, "x")
            await it.run(script_job("cat file; git branch -r", "job-2", checkouts=[checkout(url, "", "main")]))
            assert it.server.streams[0].printed("job-2")[0] == "first"
            assert "  origin/side/deeper" in it.server.streams[0].printed("job-2")
            result = await it.run(script_job("git rev-parse HEAD", "job-3", checkouts=[checkout(url)]))
            assert it.server.streams[0].printed("job-3") == [tip], result.error
            result = await it.run(script_job("cat file", "job-4", checkouts=[checkout(url, "", "v1")]))
            assert it.server.streams[0].printed("job-4")[-1:] == ["first"], result.error
            result = await it.run(script_job(":", "job-5", checkouts=[checkout(url, "", "side")]))
            assert "Remote branch side not found" in result.error


async def test_no_credentials_stay_in_the_mirror(tmp_path: Path) -> None:
    make_repository(tmp_path / "repo")
    with http_git_server(tmp_path) as address:
        async with rig(tmp_path / "work") as it:
            await it.run(script_job(":", checkouts=[checkout(f"http://{USER}:{PASSWORD}@{address}/repo")]))
            (mirror,) = mirrors_in(tmp_path / "work")
            assert f"http://{address}/repo" in (mirror / "config").read_text()
            for path in mirror.rglob("*"):
                assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()
            # A job without credentials gets nothing out of it.
            result = await it.run(script_job(":", "job-2", checkouts=[checkout(f"http://{address}/repo")]))
            assert result.error.startswith(f"checkout http://{address}/repo: ")
            assert "could not read Username" in result.error


async def test_a_job_cannot_change_the_mirror(tmp_path: Path) -> None:
    make_repository(tmp_path / "repo")
    with http_git_server(tmp_path) as address:
        async with rig(tmp_path / "work") as it:
            links = "find .git/objects -type f -links +1; test ! -e .git/objects/info/alternates"
            url = f"http://{USER}:{PASSWORD}@{address}/repo"
            result = await it.run(script_job(links, checkouts=[checkout(url)]))
            assert (result.status, it.server.streams[0].printed()) == (SUCCESS, [])


@pytest.mark.parametrize("damage", ["packs", "head", "rubbish", "half"])
async def test_damaged_mirrors_are_remade(tmp_path: Path, damage: str) -> None:
    make_repository(tmp_path / "repo")
    with http_git_server(tmp_path) as address:
        url = f"http://{USER}:{PASSWORD}@{address}/repo"
        async with rig(tmp_path / "work") as it:
            await it.run(script_job(":", checkouts=[checkout(url, branch="main")]))
            (mirror,) = mirrors_in(tmp_path / "work")
            _damage(mirror, damage)
            for job in ("job-2", "job-3"):
                result = await it.run(script_job("cat file; git fsck", job, checkouts=[checkout(url, branch="main")]))
                assert result.status == SUCCESS, (result.error, it.server.streams[0].texts(job))
                assert "second" in it.server.streams[0].printed(job)
            assert not any("of no use" in text for text in it.server.streams[0].texts("job-3"))
            assert git(mirror, "rev-parse", "refs/heads/main") == git(tmp_path / "repo", "rev-parse", "main")


def _damage(mirror: Path, how: str) -> None:
    if how == "head":
        (mirror / "HEAD").unlink()
    elif how == "half":
        shutil.rmtree(mirror / "objects")
    for path in mirror.rglob("*.pack"):
        path.chmod(0o600)
        if how == "packs":
            path.write_bytes(path.read_bytes()[:40])
        elif how == "rubbish":
            path.write_bytes(b"x" * path.stat().st_size)


async def test_many_jobs_at_once_share_one_mirror(tmp_path: Path) -> None:
    make_repository(tmp_path / "repo")
    with http_git_server(tmp_path) as address:
        url = f"http://{USER}:{PASSWORD}@{address}/repo"
        async with rig(tmp_path / "work", capacity=4) as it:
            stream = await it.server.stream()
            for number in range(4):
                stream.assign(script_job("cat file", f"job-{number}", checkouts=[checkout(url, branch="main")]))
            for number in range(4):
                assert (await stream.result(f"job-{number}")).status == SUCCESS
                assert stream.printed(f"job-{number}") == ["second"]
            assert len(mirrors_in(tmp_path / "work")) == 1


async def test_one_writes_at_a_time(tmp_path: Path) -> None:
    mirrors, order = Mirrors(str(tmp_path), 10**9), []
    entered, leave = trio.Event(), trio.Event()

    async def first() -> None:
        async with mirrors.locked("https://h/x") as mirror:
            assert mirror is not None
            entered.set()
            await leave.wait()
            order.append("first")

    async def second() -> None:
        await entered.wait()
        async with mirrors.locked("https://h/other"):
            order.append("another repository")
        leave.set()
        async with mirrors.locked("https://h/x"):
            order.append("second")

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            nursery.start_soon(second)
    assert order == ["another repository", "first", "second"]


async def _fill(mirrors: Mirrors, url: str, size: int, at: int) -> str:
    async with mirrors.locked(url) as mirror:
        assert mirror is not None
        os.makedirs(mirror.path)
        Path(mirror.path, "HEAD").write_bytes(bytes(size))
    if os.path.exists(mirror.path):
        os.utime(mirror.path, (at, at))
    return mirror.path


async def test_the_oldest_go_when_there_are_too_many_bytes(tmp_path: Path) -> None:
    mirrors = Mirrors(str(tmp_path), 250)
    paths = [await _fill(mirrors, f"https://h/{number}", 100, number) for number in range(3)]
    assert [os.path.exists(path) for path in paths] == [False, True, True]


async def test_a_repository_beyond_the_limit_is_not_mirrored_again_and_again(tmp_path: Path) -> None:
    mirrors = Mirrors(str(tmp_path), 50)
    assert not os.path.exists(await _fill(mirrors, "https://h/large", 100, 1))
    async with mirrors.locked("https://h/large") as mirror:
        assert mirror is None
    async with Mirrors(str(tmp_path), 0).locked("https://h/x") as mirror:
        assert mirror is None


async def test_a_job_is_refused_when_there_is_no_room_and_mirrors_go_before(tmp_path: Path) -> None:
    mirrors = Mirrors(str(tmp_path), 10**9)
    paths = [await _fill(mirrors, f"https://h/{number}", 100, number) for number in range(3)]
    looks = iter((False, True))
    assert remove_oldest(str(tmp_path), lambda: next(looks)) == 1
    assert [os.path.exists(path) for path in paths] == [False, True, True]
    async with mirrors.locked("https://h/2"):
        with pytest.raises(DiskFullError, match=r"MiB must stay \(GOCDNEXT_WORKSPACE_MIN_FREE\)"):
            await make_room(Workspace(str(tmp_path), min_free=2**60))
    assert [os.path.exists(path) for path in paths] == [False, False, True], "one that is in use stays"
    async with rig(tmp_path, workspace_min_free=2**60) as it:
        result = await it.run(script_job("echo ran"))
        assert (result.status, result.exit_code) == (FAILED, -1)
        assert result.error.startswith("workspace: the disk of the agent's work root is full")
        assert "ran" not in it.server.streams[0].texts()


async def test_submodules(tmp_path: Path) -> None:
    make_repository(tmp_path / "part")
    make_repository(tmp_path / "repo")
    with http_git_server(tmp_path) as address:
        (tmp_path / "repo" / ".gitmodules").write_text('[submodule "part"]\n\tpath = lib/part\n\turl = ../part\n')
        tip = git(tmp_path / "part", "rev-parse", "HEAD")
        git(tmp_path / "repo", "update-index", "--add", "--cacheinfo", f"160000,{tip},lib/part")
        git(tmp_path / "repo", "add", ".gitmodules")
        git(tmp_path / "repo", "commit", "--quiet", "-m", "a part")
        url = f"http://{USER}:{PASSWORD}@{address}/repo"
        async with rig(tmp_path / "work") as it:
            result = await it.run(script_job("cat lib/part/file", checkouts=[checkout(url, branch="main")]))
            stream = it.server.streams[0]
            assert (result.status, result.error) == (SUCCESS, "")
            assert stream.printed() == ["second"]
            assert "$ [git -C src/0a1b2c3d submodule --quiet update --init --recursive]" in stream.texts()
            assert not any(PASSWORD in text for text in stream.texts())


@pytest.mark.parametrize("url", ["ext::sh -c touch% OWNED", "file://REPO", "--upload-pack=touch OWNED", "/nowhere"])
async def test_hostile_submodules_fail_the_job(tmp_path: Path, url: str) -> None:
    repository, owned = tmp_path / "repo", tmp_path / "owned"
    make_repository(repository)
    make_repository(tmp_path / "private")
    url = url.replace("OWNED", str(owned)).replace("REPO", str(tmp_path / "private"))
    (repository / ".gitmodules").write_text(f'[submodule "part"]\n\tpath = part\n\turl = {url}\n')
    tip = git(tmp_path / "private", "rev-parse", "HEAD")
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{tip},part")
    git(repository, "add", ".gitmodules")
    git(repository, "commit", "--quiet", "-m", "a part")
    async with rig(tmp_path / "work") as it:
        result = await it.run(script_job("cat part/file", checkouts=[checkout(repository)]))
        assert result.status == FAILED
        assert result.error.startswith(f"checkout {repository}: submodules: ")
        assert not owned.exists()


def _repository_with_large_files(path: Path) -> None:
    make_repository(path)
    git(path, "lfs", "install", "--local")
    git(path, "lfs", "track", "*.bin")
    (path / "large.bin").write_text("large\n")
    git(path, "add", ".gitattributes", "large.bin")
    git(path, "commit", "--quiet", "-m", "large")


@pytest.fixture
def git_lfs() -> None:
    if shutil.which("git-lfs") is None:
        if os.environ.get("CI"):
            pytest.fail("needs git-lfs")
        pytest.skip("needs git-lfs")


@pytest.mark.usefixtures("git_lfs")
async def test_large_files(tmp_path: Path) -> None:
    _repository_with_large_files(tmp_path / "repo")
    async with rig(tmp_path / "work") as it:
        result = await it.run(script_job("cat large.bin", checkouts=[checkout(f"file://{tmp_path}/repo")]))
        assert (result.status, result.error) == (SUCCESS, ""), it.server.streams[0].texts()
        assert "$ [git -C src/0a1b2c3d lfs pull]" in it.server.streams[0].texts()
        assert it.server.streams[0].printed()[-1] == "large"


@pytest.mark.usefixtures("git_lfs")
async def test_large_files_without_git_lfs_stay_pointers_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _repository_with_large_files(tmp_path / "repo")
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("git", "sh", "cat", "sed"):
        path = shutil.which(tool)
        assert path is not None
        (tools / tool).symlink_to(path)
    monkeypatch.setenv("PATH", str(tools))
    async with rig(tmp_path / "work") as it:
        result = await it.run(script_job("cat large.bin", checkouts=[checkout(f"file://{tmp_path}/repo")]))
        assert result.status == SUCCESS, result.error
        assert any("git-lfs is not on this agent" in text for text in it.server.streams[0].texts(stream="stderr"))
        assert it.server.streams[0].printed()[0].startswith("version https://git-lfs")


def test_sizes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(bytes(11))
    (tmp_path / "b" / "link").symlink_to("/dev/zero")
    assert 111 <= tree_size(str(tmp_path)) < 200
