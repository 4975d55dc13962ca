"""Repositories are asked once for all that wait for them, and only what nobody knew starts a run."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from gocdnext.db.pool import DatabaseUnavailableError
from gocdnext.materials import polling
from gocdnext.runs.service import RunService
from gocdnext.sweepers import polls
from tests.agent import git_server
from tests.api.world import World, commit, pipeline, repository, served
from tests.api.world import git as run_git


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with one line per question that git was asked: the real git, which is called through a script."""
    log, where = tmp_path / "questions", tmp_path / "bin"
    where.mkdir()
    log.touch()
    script = where / "git"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in *ls-remote*) echo "$*" >> {log} ;; esac\nexec {shutil.which("git")} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{where}{os.pathsep}{os.environ['PATH']}")
    return log


def questions(asked: Path) -> list[str]:
    """What was asked since the last look."""
    lines = asked.read_text().splitlines()
    asked.write_text("")
    return lines


def polled(name: str, url: object, **more: Any) -> str:
    return pipeline(name, materials=[{"git": {"url": str(url), "poll_interval": "1m", **more}}])


async def apply(world: World, *texts: str, slug: str = "billing", **more: Any) -> None:
    await world.apply(slug, {f"{number}.yaml": text for number, text in enumerate(texts)}, **more)


async def poll(
    world: World, after: timedelta = timedelta(0), runs: RunService | None = None, drawn: float = 0.0
) -> int:
    world.now += after
    return await polling.poll(world.db, runs or world.runs, clock=world.clock, draw=lambda: drawn)


MINUTE = timedelta(minutes=1)


async def state(world: World) -> list[tuple[str | None, str | None]]:
    rows = await world.db.fetch(
        "SELECT last_head_sha, last_poll_error FROM material_poll_state o JOIN materials m ON m.id = o.material_id"
        " JOIN pipelines p ON p.id = m.pipeline_id ORDER BY p.name, m.config ->> 'branch'"
    )
    return [(row[0], row[1]) for row in rows]


async def test_a_new_head_starts_a_run(world: World, tmp_path: Path) -> None:
    first = repository(tmp_path / "r", {"a": "1"})
    await apply(world, polled("a", tmp_path / "r"))
    assert await poll(world) == 1, "the first look"
    assert await poll(world, MINUTE) == 0
    second = commit(tmp_path / "r", {"a": "2"})
    assert await poll(world, timedelta(seconds=59)) == 0, "it is not time yet"
    assert await poll(world, timedelta(seconds=1)) == 1
    run = await world.db.fetchrow("SELECT * FROM runs ORDER BY counter DESC LIMIT 1")
    found = await world.db.fetchrow("SELECT * FROM modifications ORDER BY id DESC LIMIT 1")
    assert run is not None
    assert found is not None
    assert (run["cause"], run["triggered_by"], run["ref"]) == ("poll", "poll", "main")
    assert run["revisions"] == {str(found["material_id"]): {"revision": second, "branch": "main"}}
    assert run["cause_detail"] == {
        "provider": "manual",
        "delivery": f"poll:{int(world.now.timestamp())}",
        "material_id": str(found["material_id"]),
        "modification_id": found["id"],
        "poll_interval_ns": 60_000_000_000,
        "polled_at": world.now.isoformat(),
        "prev_sha": first,
    }
    assert (found["author"], found["message"]) == ("poll", f"poll found main at {second[:7]}")
    assert await state(world) == [(second, None)]


async def test_one_question_for_all_who_wait(world: World, tmp_path: Path, asked: Path) -> None:
    repository(tmp_path / "r", {"a": "1"})
    run_git(tmp_path / "r", "branch", "other")
    await apply(world, *(polled(name, tmp_path / "r") for name in "abc"))
    await apply(world, polled("a", tmp_path / "r"), polled("o", tmp_path / "r", branch="other"), slug="second")
    assert await poll(world) == 5
    (question,) = questions(asked)
    assert question.split(" -- ")[1].split()[0] == str(tmp_path / "r")
    assert set(question.split()[-2:]) == {"refs/heads/main", "refs/heads/other"}
    commit(tmp_path / "r", {"a": "2"})
    assert await poll(world, MINUTE) == 4
    assert len(questions(asked)) == 1
    assert await poll(world) == 0
    assert questions(asked) == []


async def test_not_all_are_asked_at_once(world: World, tmp_path: Path, asked: Path) -> None:
    repository(tmp_path / "r", {"a": "1"})
    await apply(world, polled("a", tmp_path / "r"))
    await poll(world, drawn=0.5)
    await poll(world, timedelta(seconds=56))
    assert len(questions(asked)) == 1
    await poll(world, timedelta(seconds=1), drawn=0.0)
    assert len(questions(asked)) == 1, "a twentieth of its interval earlier"


async def test_clocks_that_are_set_back_or_apart(world: World, tmp_path: Path, asked: Path) -> None:
    repository(tmp_path / "r", {"a": "1"})
    await apply(world, polled("a", tmp_path / "r"))
    await poll(world)
    await poll(world, timedelta(seconds=-20))
    assert len(questions(asked)) == 1, "another server's clock is a little behind"
    await poll(world, timedelta(hours=-1))
    assert len(questions(asked)) == 1
    await poll(world, timedelta(seconds=59))
    assert questions(asked) == []
    await poll(world, timedelta(seconds=1))
    assert len(questions(asked)) == 1


async def test_repositories_that_nobody_polls_are_forgotten(world: World, tmp_path: Path) -> None:
    for name in "rs":
        repository(tmp_path / name, {"a": "1"})
    await apply(world, polled("a", tmp_path / "r"), polled("b", tmp_path / "s"))
    await poll(world)
    await apply(world, polled("a", tmp_path / "r"))
    await poll(world, timedelta(days=4))
    assert await world.db.fetchval("SELECT count(*) FROM repository_polls") == 1
    assert len(await state(world)) == 1


async def test_the_most_impatient_decides(world: World, tmp_path: Path, asked: Path) -> None:
    repository(tmp_path / "r", {"a": "1"})
    await apply(world, polled("slow", tmp_path / "r", poll_interval="1h"), polled("quick", tmp_path / "r"))
    assert await poll(world) == 2
    commit(tmp_path / "r", {"a": "2"})
    assert await poll(world, MINUTE) == 2
    assert len(questions(asked)) == 2


async def test_who_is_polled(world: World, tmp_path: Path, asked: Path) -> None:
    """A material's own interval, else the project's; and only what a push would start."""
    where = tmp_path / "r"
    repository(where, {"a": "1"})
    source = {"url": str(where), "provider": "gitlab"}
    await apply(
        world,
        pipeline("implicit"),
        pipeline("filtered", when={"event": ["tag"]}),
        pipeline("explicit", materials=[{"git": {"url": f"file://{where}", "on": ["push", "tag"]}}]),
        pipeline("tags", materials=[{"git": {"url": f"file://{where}", "on": ["tag"], "poll_interval": "1m"}}]),
        pipeline(
            "unwanted",
            when={"event": ["pull_request"]},
            materials=[{"git": {"url": f"file://{where}", "poll_interval": "1m"}}],
        ),
        scm_source=source,
    )
    assert await poll(world) == 0, "no project and no pipeline that is to be started by it asks for it"
    await world.db.execute("UPDATE scm_sources SET poll_interval_ns = 300000000000")
    assert await poll(world, MINUTE) == 2
    rows = await world.db.fetch(
        "SELECT p.name, r.cause_detail FROM runs r JOIN pipelines p ON p.id = r.pipeline_id ORDER BY p.name"
    )
    assert [(row[0], row[1]["provider"], row[1]["poll_interval_ns"]) for row in rows] == [
        ("explicit", "manual", 300_000_000_000),
        ("implicit", "gitlab", 300_000_000_000),
    ]
    questions(asked)
    await world.db.execute("UPDATE scm_sources SET poll_interval_ns = 0")
    assert await poll(world, timedelta(hours=1)) == 0
    assert [line.split(" -- ")[1].split()[0] for line in questions(asked)] == []


async def test_what_a_webhook_brought_starts_nothing_again(world: World, tmp_path: Path) -> None:
    head = repository(tmp_path / "r", {"a": "1"})
    await apply(world, polled("a", tmp_path / "r"), polled("b", tmp_path / "r"))
    await world.db.execute(
        "INSERT INTO modifications (material_id, revision, branch, detected_at)"
        " SELECT m.id, $1, 'main', $2 FROM materials m JOIN pipelines p ON p.id = m.pipeline_id WHERE p.name = 'a'",
        head,
        world.now,
    )
    assert await poll(world) == 1
    assert await state(world) == [(head, None), (head, None)]
    # A branch that is set back to a commit that was built.
    second = commit(tmp_path / "r", {"a": "2"})
    assert await poll(world, MINUTE) == 2
    run_git(tmp_path / "r", "reset", "--quiet", "--hard", head)
    assert await poll(world, MINUTE) == 0
    run_git(tmp_path / "r", "reset", "--quiet", "--hard", second)
    assert await poll(world, MINUTE) == 0


async def test_a_repository_that_is_away(world: World, tmp_path: Path, asked: Path) -> None:
    head = repository(tmp_path / "r", {"a": "1"})
    repository(tmp_path / "other", {"a": "1"})
    await apply(world, polled("a", tmp_path / "r"), polled("b", tmp_path / "other"))
    assert await poll(world) == 2
    (tmp_path / "r").rename(tmp_path / "away")
    commit(tmp_path / "other", {"a": "2"})
    assert await poll(world, MINUTE) == 1, "the other one does not mind"
    ((kept, error), _) = await state(world)
    assert kept == head
    assert error is not None
    assert "does not appear to be a git repository" in error
    await apply(world, polled("a", tmp_path / "r"))
    questions(asked)
    asked_after = []
    for minute in range(1, 200):
        await poll(world, MINUTE)
        asked_after += [minute for _ in questions(asked)]
    assert asked_after == [2, 6, 14, 30, 62, 122, 182], "twice as long each time, and every hour in the end"
    (tmp_path / "away").rename(tmp_path / "r")
    assert await poll(world, timedelta(hours=1)) == 0
    assert await state(world) == [(head, None)]
    commit(tmp_path / "r", {"a": "2"})
    assert await poll(world, MINUTE) == 1, "asked every minute again"


async def test_one_branch_does_not_hide_another(world: World, tmp_path: Path, asked: Path) -> None:
    head = repository(tmp_path / "r", {"a": "1"})
    await apply(
        world,
        polled("a", tmp_path / "r", branch="no such branch"),
        polled("b", tmp_path / "r", branch="--upload-pack=touch${IFS}x"),
        polled("c", tmp_path / "r", branch="gone"),
        polled("d", tmp_path / "r"),
    )
    assert await poll(world) == 1
    found = await state(world)
    assert found[3] == (head, None)
    assert [error for _, error in found[:3]] == [
        "not the name of a branch: 'no such branch'",
        "not the name of a branch: '--upload-pack=touch${IFS}x'",
        "the repository has no branch 'gone'",
    ]
    assert "touch" not in questions(asked)[0]
    assert await world.db.fetchval("SELECT max(failures) FROM repository_polls") == 0, "it has answered"


@pytest.mark.parametrize("url", ["ext::sh -c id", "--upload-pack=id", "relative/path"])
async def test_what_is_no_repository_is_not_asked(world: World, asked: Path, url: str) -> None:
    await apply(world, polled("a", url))
    assert await poll(world) == 0
    ((_, error),) = await state(world)
    assert error is not None
    assert error.startswith("not a repository url")
    assert questions(asked) == []


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """The url of a server that takes connections and says nothing."""

    async def listen(stream: trio.SocketStream) -> None:
        async with stream:
            while await stream.receive_some():
                pass

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, listen, listeners)
        yield f"git://127.0.0.1:{listeners[0].socket.getsockname()[1]}/x"
        nursery.cancel_scope.cancel()


async def test_repositories_that_hang(
    world: World, tmp_path: Path, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "ANSWER_WITHIN", 5.0)
    monkeypatch.setattr(polling, "AT_ONCE", 2)
    head = repository(tmp_path / "z", {"a": "1"})
    await apply(world, *(polled(f"h{number}", f"{silent}{number}") for number in range(2)), polled("z", tmp_path / "z"))
    assert await poll(world) == 1
    assert await state(world) == [(None, "no answer within 5 s"), (None, "no answer within 5 s"), (head, None)]


async def test_two_servers_on_one_database(database_url: str, tmp_path: Path, asked: Path) -> None:
    where = [tmp_path / f"r{number}" for number in range(4)]
    for one in where:
        repository(one, {"a": "1"})
    async with served(database_url, tmp_path / "state") as world:
        await apply(world, *(polled(f"p{n}-{m}", one) for n, one in enumerate(where) for m in range(3)))
        other = World(world.db, world.hub)
        for passed in range(1, 4):
            async with trio.open_nursery() as nursery:
                for runs in (world.runs, other.runs, world.runs):
                    nursery.start_soon(poll, world, timedelta(0), runs)
            assert len(questions(asked)) == len(where)
            assert await world.db.fetchval("SELECT count(*) FROM runs") == 12 * passed
            world.now += MINUTE
            for one in where:
                commit(one, {"a": str(passed + 1)})


async def test_nothing_is_kept_when_the_run_cannot_be(world: World, tmp_path: Path) -> None:
    repository(tmp_path / "r", {"a": "1"})
    await apply(world, polled("a", tmp_path / "r"))
    await world.db.execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$")
    await world.db.execute("CREATE TRIGGER refuse BEFORE INSERT ON runs FOR EACH ROW EXECUTE FUNCTION refuse()")
    with pytest.RaisesGroup(asyncpg.RaiseError):
        await poll(world)
    assert await world.db.fetchval("SELECT count(*) FROM modifications") == 0
    assert await state(world) == []
    await world.db.execute("DROP TRIGGER refuse ON runs")
    assert await poll(world, MINUTE) == 1


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def test_a_webhook_of_another_server_at_the_same_moment(world: World, tmp_path: Path) -> None:
    """It has recorded the revision and wants the pipeline; the poll has the pipeline and wants to record the revision."""
    head = repository(tmp_path / "r", {"a": "1"})
    await apply(world, polled("a", tmp_path / "r"))
    blocked = trio.Event()

    async def other(conn: Any) -> None:
        async with conn.transaction():
            # Long enough for PostgreSQL to find out on the side of the poll.
            await conn.execute("SET LOCAL deadlock_timeout = '60s'")
            await conn.execute(
                "INSERT INTO modifications (material_id, revision, branch, detected_at)"
                " SELECT id, $1, 'main', $2 FROM materials",
                head,
                world.now,
            )
            blocked.set()
            while not await conn.fetchval(WAITING):
                await conn.execute("SELECT pg_sleep(0.01), pg_stat_clear_snapshot()")
            await conn.execute("SELECT FROM pipelines FOR NO KEY UPDATE")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.db.run, other)
        await blocked.wait()
        with trio.fail_after(60):
            assert await poll(world) == 0, "it was begun anew, and the revision is known by then"
    assert await state(world) == [(head, None)]


async def test_a_database_that_goes_away_is_said_as_such(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cause is not wrapped: the sweeper waits for the database then."""
    await apply(world, *(polled(name, tmp_path / name) for name in "abc"))

    async def gone(*_: object) -> str:
        raise DatabaseUnavailableError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(world.db, "execute", gone)
        with pytest.raises(DatabaseUnavailableError):
            await poll(world)


async def test_applies_and_polls_at_once(world: World, tmp_path: Path) -> None:
    repository(tmp_path / "r", {"a": "1"})
    variants = [
        [polled(name, tmp_path / "r") for name in "abcd"],
        [polled(name, tmp_path / "r", branch="other") for name in "dcba"],
        [polled("a", tmp_path / "r")],
    ]
    await apply(world, *variants[0])
    for number in range(9):
        world.now += MINUTE
        commit(tmp_path / "r", {"a": str(number + 2)})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll, world)
            nursery.start_soon(lambda texts=variants[number % 3]: apply(world, *texts))  # type: ignore[misc]
    commit(tmp_path / "r", {"a": "last"})
    assert await poll(world, MINUTE) == 1


async def test_credentials_stay_unseen(
    world: World, tmp_path: Path, asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    revisions = git_server.make_repository(tmp_path / "served" / "r")
    seen: list[str] = []
    serve = git_server._Backend._serve

    def look_around(self: git_server._Backend) -> None:
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
        serve(self)

    monkeypatch.setattr(git_server._Backend, "_serve", look_around)
    with git_server.http_git_server(tmp_path / "served") as address:
        user, password = git_server.USER, git_server.PASSWORD
        await apply(
            world,
            polled("a", f"http://{user}:{password}@{address}/r/.git"),
            polled("b", f"http://{user}:wr0ng-w0rd@{address}/r/.git"),
        )
        assert await poll(world) == 1
    (first, second) = await state(world)
    assert first == (revisions["second"], None)
    assert second[0] is None
    captured = capsys.readouterr()
    told = "\n".join((*map(str, second), captured.out, captured.err, *questions(asked), *seen))
    assert f"{address}/r/.git" in told
    assert any("git-remote-http" in line or "remote-http" in line for line in seen)
    assert password not in told
    assert "wr0ng-w0rd" not in told


async def test_the_sweeper_polls_at_once(world: World, tmp_path: Path) -> None:
    repository(tmp_path / "r", {"a": "1"})
    await apply(world, polled("a", tmp_path / "r"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(polls.run, world.db, world.runs, world.clock)
        with trio.fail_after(60):
            while not await world.db.fetchval("SELECT count(*) FROM runs"):  # noqa: ASYNC110 -- rows are no events
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


@given(st.integers(60, 86_400), st.integers(0, 1000), st.floats(0, polling.MAX_JITTER))
def test_when_repositories_are_due(seconds: int, failures: int, jitter: float) -> None:
    asked_at = datetime(2026, 4, 28, tzinfo=UTC)
    interval = timedelta(seconds=seconds)
    due = polling.due_at(asked_at, seconds, failures, jitter)
    assert due - asked_at >= interval * (1 - jitter) - timedelta(milliseconds=1)
    assert due - asked_at <= max(interval, polling.MAX_BACK_OFF)
    assert polling.due_at(asked_at, seconds, failures + 1, jitter) >= due
    assert polling.due_at(asked_at, seconds, failures, 0) >= due
