"""Configuration from the repository: sync, what a push does to it, and what is broken (contract-runs 2.5, contract-admin 9.1).

Repositories are real ones, on disk.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.api import hooks
from tests.api.world import World, commit, git, pipeline, repository, served
from tests.counterpart import Asked, Told, as_json, counterpart

WAITS = pipeline("ci", materials=[])
PATH = ".gocdnext/ci.yaml"
BROKEN = "name: ["


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """Pushes make this one read configurations."""
    async with served(database_url, tmp_path / "state", reads=True) as world:
        yield world


class Shop:
    """A project bound to a repository on disk, applied without files."""

    def __init__(self, world: World, where: Path) -> None:
        self.world, self.where = world, where
        self.url = f"file://{where}"
        self.deliveries = 0

    async def bind(self, slug: str = "shop", **more: Any) -> dict[str, Any]:
        source = {"provider": "github", "url": self.url, "webhook_secret": hooks.SECRET}
        answer = await self.world.http.post("/api/v1/projects/apply", json={"slug": slug, "scm_source": source, **more})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def push(self, before: str = "", changed: list[str] | None = None, **more: Any) -> httpx.Response:
        """A push of what the branch has now."""
        self.deliveries += 1
        payload = hooks.push("main", git(self.where, "rev-parse", "HEAD"), before=before, **more)
        payload["repository"]["clone_url"] = self.url
        payload["commits"] = [] if changed is None else [{**payload["head_commit"], "modified": changed}]
        return await hooks.send(self.world, "github", "push", payload, delivery=f"d{self.deliveries}")

    async def source(self, slug: str = "shop") -> dict[str, Any]:
        found: dict[str, Any] = (await self.world.http.get(f"/api/v1/projects/{slug}")).json()["scm_source"]
        return found

    async def pipelines(self, slug: str = "shop") -> dict[str, int]:
        found = (await self.world.http.get(f"/api/v1/projects/{slug}")).json()["pipelines"]
        return {entry["name"]: entry["definition_version"] for entry in found}


@pytest.fixture
def shop(world: World, tmp_path: Path) -> Shop:
    repository(tmp_path / "repo", {PATH: WAITS, "README": "x"})
    return Shop(world, tmp_path / "repo")


async def sync(world: World, slug: str = "shop", status: int = 200) -> dict[str, Any]:
    answer = await world.http.post(f"/api/v1/projects/{slug}/sync")
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_sync_applies_what_the_repository_has_and_finds_what_no_webhook_told(world: World, shop: Shop) -> None:
    await shop.bind(name="Shop", description="sells")
    head = git(shop.where, "rev-parse", "HEAD")
    assert (await shop.source())["last_synced_revision"] == head
    first = await sync(world)
    assert first["revision"] == head
    assert [entry["name"] for entry in first["pipelines"]] == ["ci"]
    assert first["project_created"] is False
    assert "scm_source" not in first
    assert first["materials_polled"] == 1
    (run,) = first["runs"]
    detail = (await world.http.get(f"/api/v1/runs/{run}")).json()
    assert (detail["cause"], detail["triggered_by"]) == ("poll", "poll")
    assert (await sync(world))["runs"] == []

    second = commit(
        shop.where,
        {PATH: pipeline("ci", materials=[], variables={"N": "2"}), ".gocdnext/b.yml": WAITS.replace("ci", "b")},
    )
    answer = await sync(world)
    assert len(answer["runs"]) == 2
    assert await shop.pipelines() == {"b": 1, "ci": 2}
    project = (await world.http.get("/api/v1/projects/shop")).json()
    assert (project["project"]["name"], project["project"]["description"]) == ("Shop", "sells")
    assert project["scm_source"]["last_synced_revision"] == second
    assert project["scm_source"]["last_synced_at"]
    (shop.where / ".gocdnext" / "b.yml").unlink()
    commit(shop.where, {})
    assert (await sync(world))["pipelines_removed"] == ["b"]


async def test_sync_of_a_broken_file_keeps_the_last_good_definition(world: World, shop: Shop) -> None:
    await shop.bind()
    good = (await shop.source())["last_synced_revision"]
    commit(shop.where, {PATH: BROKEN})
    told = (await sync(world, status=422))["error"]
    assert told.startswith("parse remote .gocdnext/: ci.yaml:")
    assert await shop.pipelines() == {"ci": 1}
    source = await shop.source()
    assert source["sync_error"] == told
    assert source["last_synced_revision"] == good
    job = {"stage": "build", "script": ["x"], "agent": {"profile": "no-such"}}
    commit(shop.where, {PATH: pipeline("ci", materials=[], jobs={"j": job})})
    told = (await sync(world, status=422))["error"]
    assert told.startswith('resolve profiles: pipeline "ci": job "j": unknown runner profile')
    assert (await shop.source())["sync_error"] == told
    commit(shop.where, {PATH: WAITS})
    await sync(world)
    assert "sync_error" not in await shop.source()


async def test_sync_without_the_folder_removes_all_and_warns(world: World, shop: Shop) -> None:
    await shop.bind()
    git(shop.where, "rm", "-rq", ".gocdnext")
    commit(shop.where, {"README": "y"})
    answer = await sync(world)
    assert answer["pipelines_removed"] == ["ci"]
    assert "no folder '.gocdnext'" in answer["warnings"][0]


async def test_sync_refuses(world: World, shop: Shop) -> None:
    assert (await sync(world, "nobody", 404))["error"] == "project not found"
    await world.apply("unbound")
    assert (await sync(world, "unbound", 409))["error"] == "project has no scm_source bound — connect a repo first"
    # Without a source, but with a material to look at.
    await world.apply("explicit", {"p.yaml": hooks.waits(url=shop.url, branch="main")})
    answer = await sync(world, "explicit")
    assert (answer["materials_polled"], len(answer["runs"]), answer["pipelines"]) == (1, 1, [])
    await world.apply("lost", {"p.yaml": hooks.waits(url=f"{shop.url}-gone", branch="main")})
    answer = await sync(world, "lost")
    assert answer["runs"] == []
    assert "does not appear to be a git repository" in answer["errors"][0]


async def test_sync_of_a_repository_that_is_gone(world: World, shop: Shop, tmp_path: Path) -> None:
    await shop.bind()
    shop.where.rename(tmp_path / "moved")
    assert (await sync(world, status=502))["error"].startswith("fetch from repo: file://")
    assert "does not appear to be a git repository" in (await shop.source())["sync_error"]
    assert await shop.pipelines() == {"ci": 1}


async def test_a_push_brings_its_configuration_before_its_run(world: World, shop: Shop) -> None:
    await shop.bind()
    head = commit(shop.where, {PATH: pipeline("ci", materials=[], variables={"N": "2"})})
    answer = await shop.push()
    assert answer.status_code == 202
    assert answer.json()["drift"] == {"applied": True, "error": "", "revision": head}
    (run,) = await hooks.runs(world)
    definition = await world.db.fetchval(
        "SELECT definition FROM pipeline_definitions WHERE id = $1", run["definition_id"]
    )
    assert definition["variables"] == {"N": "2"}
    assert await shop.pipelines() == {"ci": 2}
    # The same delivery again: nothing is read a second time.
    again = (await shop.push()).json()
    assert again["runs"] == []
    assert "drift" not in again
    assert "was read before" in json.dumps((await hooks.newest(world))["trace"])


async def test_a_broken_push_runs_the_last_good_definition_and_says_so(world: World, shop: Shop) -> None:
    await shop.bind()
    head = commit(shop.where, {PATH: BROKEN})
    answer = await shop.push()
    assert answer.status_code == 202
    drift = answer.json()["drift"]
    assert (drift["applied"], drift["revision"]) == (False, head)
    assert drift["error"].startswith("parse remote .gocdnext/: ci.yaml:")
    assert len(answer.json()["runs"]) == 1
    assert "the last good configuration stays in force" in json.dumps((await hooks.newest(world))["trace"])
    # It is said with every push until it is mended, also with those that leave the configuration alone.
    commit(shop.where, {"README": "y"})
    assert (await shop.push(head, ["README"])).json()["drift"]["error"] == drift["error"]
    commit(shop.where, {PATH: WAITS})
    assert (await shop.push()).json()["drift"]["applied"] is True
    assert "sync_error" not in await shop.source()


async def test_a_push_that_takes_the_folder_away_removes_nothing(world: World, shop: Shop) -> None:
    await shop.bind()
    git(shop.where, "rm", "-rq", ".gocdnext")
    commit(shop.where, {"README": "y"})
    drift = (await shop.push()).json()["drift"]
    assert drift["applied"] is False
    assert "there are no pipeline files in '.gocdnext' any more" in drift["error"]
    assert await shop.pipelines() == {"ci": 1}


async def test_a_push_that_leaves_the_configuration_alone_asks_nobody(world: World, shop: Shop, tmp_path: Path) -> None:
    await shop.bind()
    before = git(shop.where, "rev-parse", "HEAD")
    head = commit(shop.where, {"README": "y"})
    answer = (await shop.push(before, ["README"])).json()
    assert "drift" not in answer
    assert len(answer["runs"]) == 1
    assert (await shop.source())["last_synced_revision"] == head
    # With any doubt it is read: another predecessor, a forced push, files that are not all told, the folder itself.
    for more in (
        {"before": before, "changed": ["x"]},
        {"before": head, "changed": ["x"], "forced": True},
        {"before": head, "changed": ["x"], "size": 2},
        {"before": head, "changed": None},
        {"before": head, "changed": ["x", ".gocdnext/ci.yaml"]},
    ):
        commit(shop.where, {"README": json.dumps(more)})
        answer = (await shop.push(**more)).json()
        assert answer["drift"]["applied"] is True, more
        head = git(shop.where, "rev-parse", "HEAD")


async def test_files_of_somebody_are_replaced_by_the_next_push(world: World, shop: Shop) -> None:
    await shop.bind()
    before = git(shop.where, "rev-parse", "HEAD")
    await world.apply("shop", {"x.yaml": pipeline("by-hand")})
    commit(shop.where, {"README": "y"})
    answer = (await shop.push(before, ["README"])).json()
    assert answer["drift"]["applied"] is True
    assert list(await shop.pipelines()) == ["ci"]


async def test_other_branches_and_tags_change_nothing(world: World, shop: Shop) -> None:
    await shop.bind()
    commit(shop.where, {PATH: BROKEN})
    answer = await shop.push(ref="refs/heads/other")
    assert answer.status_code == 204
    answer = await shop.push(ref="refs/tags/v1")
    assert answer.status_code == 204
    assert "sync_error" not in await shop.source()


async def test_a_push_that_nobody_waits_for_still_syncs(world: World, shop: Shop) -> None:
    commit(shop.where, {PATH: hooks.waits(url="https://example.org/else")})
    await shop.bind()
    commit(shop.where, {PATH: hooks.waits(url="https://example.org/else", branch="x")})
    # Its own repository is no material of it, but for the implicit one.
    await world.db.execute("DELETE FROM materials WHERE config ->> 'url' = $1", shop.url)
    commit(shop.where, {"README": "z"})
    answer = await shop.push(message="[skip ci] z")
    assert answer.status_code == 202
    assert answer.json()["drift"]["applied"] is True


async def test_a_skipped_push_still_syncs(world: World, shop: Shop) -> None:
    await shop.bind()
    head = commit(shop.where, {PATH: pipeline("ci", materials=[], variables={"N": "2"})})
    skipping = {**hooks.example("github", "push")["head_commit"], "message": "[skip ci] x"}
    answer = await shop.push(head_commit=skipping)
    assert answer.status_code == 200
    assert answer.json() == {"skipped_by": "[skip ci]", "drift": {"applied": True, "error": "", "revision": head}}
    assert await shop.pipelines() == {"ci": 2}


async def test_what_the_branch_has_now_counts(world: World, shop: Shop) -> None:
    """A delivery that comes late, or once more, brings no old configuration back."""
    await shop.bind()
    await shop.push()
    old = commit(shop.where, {PATH: pipeline("ci", materials=[], variables={"N": "2"})})
    new = commit(shop.where, {PATH: pipeline("ci", materials=[], variables={"N": "3"})})
    answer = (await shop.push(after=old)).json()
    assert answer["drift"]["revision"] == new
    assert f"of {new[:12]}, which is what the branch is at by now" in json.dumps((await hooks.newest(world))["trace"])
    definition = await world.db.fetchval("SELECT definition FROM pipeline_definitions ORDER BY version DESC LIMIT 1")
    assert definition["variables"] == {"N": "3"}


async def test_each_of_several_pushes_has_its_own_configuration(world: World, shop: Shop) -> None:
    """The branch is at the second when the first is told of, in their order, late, or once more."""
    await shop.bind()
    bound = git(shop.where, "rev-parse", "HEAD")
    first = commit(shop.where, {PATH: pipeline("ci", materials=[], variables={"N": "2"})})
    second = commit(shop.where, {PATH: pipeline("ci", materials=[], variables={"N": "3"})})

    pushes = ((bound, first), (first, second), (bound, first))
    answers = [(await shop.push(before=before, after=after)).json() for before, after in pushes]
    assert [answer.get("drift") for answer in answers[:2]] == [
        {"applied": True, "error": "", "revision": revision} for revision in (first, second)
    ]
    assert [len(answer["runs"]) for answer in answers] == [1, 1, 0]
    rows = await world.db.fetch(
        "SELECT d.definition FROM runs r JOIN pipeline_definitions d ON d.id = r.definition_id ORDER BY r.counter"
    )
    assert [row["definition"]["variables"] for row in rows] == [{"N": "2"}, {"N": "3"}]
    assert (await shop.source())["last_synced_revision"] == second


async def test_a_pushed_commit_that_was_taken_away_again(world: World, shop: Shop) -> None:
    await shop.bind()
    bound = git(shop.where, "rev-parse", "HEAD")
    head = commit(shop.where, {PATH: pipeline("ci", materials=[], variables={"N": "2"})})
    drift = (await shop.push(before=bound, after="0123456789" * 4)).json()["drift"]
    assert drift == {"applied": True, "error": "", "revision": head}


async def test_one_repository_in_two_projects_syncs_each(world: World, shop: Shop) -> None:
    commit(shop.where, {"other/b.yaml": pipeline("b", materials=[])})
    await shop.bind("one")
    await shop.bind("two", config_path="other")
    commit(shop.where, {PATH: pipeline("ci", materials=[], variables={"N": "2"}), "other/b.yaml": BROKEN})
    drift = (await shop.push()).json()["drift"]
    assert drift["applied"] is False
    assert "parse remote other/" in drift["error"]
    assert (await shop.pipelines("one"), await shop.pipelines("two")) == ({"ci": 2}, {"b": 1})


async def test_the_same_push_many_times_at_once_is_read_once(world: World, shop: Shop) -> None:
    await shop.bind()
    commit(shop.where, {PATH: pipeline("ci", materials=[], variables={"N": "2"})})
    answers: list[dict[str, Any]] = []

    async def one() -> None:
        answers.append((await shop.push()).json())

    async with trio.open_nursery() as nursery:
        for _ in range(25):
            nursery.start_soon(one)
    assert sum(len(answer["runs"]) for answer in answers) == 1
    assert all(answer.get("drift", {"applied": True})["applied"] for answer in answers)
    assert await shop.pipelines() == {"ci": 2}
    # Bound, and read once more.
    assert await world.db.fetchval("SELECT sync_count FROM scm_sources") == 2


async def test_a_repository_that_does_not_answer_is_given_a_rest_and_asked_again(
    world: World, shop: Shop, tmp_path: Path
) -> None:
    await shop.bind()
    commit(shop.where, {PATH: pipeline("ci", materials=[], variables={"N": "2"})})
    payload = git(shop.where, "rev-parse", "HEAD")
    shop.where.rename(tmp_path / "away")
    (tmp_path / "away").joinpath("x").touch()

    async def push() -> dict[str, Any]:
        body = hooks.push("main", payload)
        body["repository"]["clone_url"] = shop.url
        found: dict[str, Any] = (await hooks.send(world, "github", "push", body)).json()
        return found

    first = await push()
    assert first["drift"]["applied"] is False
    assert len(first["runs"]) == 1
    assert "tried again in a moment" in (await push())["drift"]["error"]
    assert world.configs is not None
    assert await world.configs.read_again(10) == 0
    (tmp_path / "away").rename(shop.where)
    world.now += timedelta(seconds=61)
    assert await world.configs.read_again(10) == 1
    assert await world.configs.read_again(10) == 0
    assert await shop.pipelines() == {"ci": 2}
    assert "sync_error" not in await shop.source()


async def test_a_slow_reading_does_not_undo_a_newer_one(
    world: World, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.bind()
    assert world.configs is not None
    remotes = world.configs.remotes
    read = remotes.folder
    tries = 0

    async def overtaken(*args: Any, **options: Any) -> Any:
        nonlocal tries
        tries += 1
        found = await read(*args, **options)
        if tries == 1:
            # Somebody applies while the answer is on its way.
            commit(shop.where, {PATH: pipeline("newest", materials=[])})
            await shop.bind()
        return found

    monkeypatch.setattr(remotes, "folder", overtaken)
    commit(shop.where, {PATH: pipeline("older", materials=[])})
    await sync(world)
    assert tries == 3
    assert list(await shop.pipelines()) == ["newest"]


async def test_pushes_of_ten_thousand_commits(world: World, shop: Shop) -> None:
    await shop.bind()
    before = git(shop.where, "rev-parse", "HEAD")
    commit(shop.where, {"README": "many"})
    payload = hooks.push("main", git(shop.where, "rev-parse", "HEAD"), before=before, size=10_000)
    payload["repository"]["clone_url"] = shop.url
    one = {"id": "a" * 40, "message": "m", "timestamp": "2026-01-01T00:00:00Z", "author": {"name": "n"}}
    payload["commits"] = [{**one, "added": [], "removed": [], "modified": [f"f{n}"]} for n in range(10_000)]
    answer = await hooks.send(world, "github", "push", payload)
    assert answer.status_code == 202
    assert len(answer.json()["runs"]) == 1
    assert answer.json()["drift"]["applied"] is True


async def test_an_offline_server_reads_only_its_own_disk(database_url: str, tmp_path: Path) -> None:
    repository(tmp_path / "repo", {PATH: WAITS})
    variables = {"GOCDNEXT_OFFLINE": "true"}
    async with served(database_url, tmp_path / "state", reads=True, variables=variables) as world:
        await Shop(world, tmp_path / "repo").bind("disk")
        await hooks.bind(world)
        answer = await hooks.send(world, "github", "push", hooks.push())
        assert "drift" not in answer.json()
        assert "the server is offline" in json.dumps((await hooks.newest(world))["trace"])
        told = (await sync(world, "shop", 502))["error"]
        assert "GOCDNEXT_OFFLINE" in told


async def test_trust_in_requests(world: World, shop: Shop) -> None:
    await shop.bind()
    path = "/api/v1/projects/shop/pr-head-config"
    assert (await world.http.get(path)).json() == {"enabled": False}
    answer = await world.http.put(path, json={"enabled": True})
    assert (answer.status_code, answer.json()) == (200, {"enabled": True})
    assert (await world.http.get(path)).json() == {"enabled": True}
    for body in (b"{}", b'{"enabled": null}'):
        answer = await world.http.put(path, content=body)
        assert (answer.status_code, answer.json()["error"]) == (400, "field 'enabled' (bool) is required")
    for body in (b"", b"x", b'{"enabled": 1}', b'{"enabled": true, "x": 1}'):
        assert (await world.http.put(path, content=body)).status_code == 400
    for verb in ("GET", "PUT"):
        gone = await world.http.request(verb, "/api/v1/projects/no/pr-head-config", json={"enabled": True})
        assert gone.status_code == 404
    events = (await world.http.get("/api/v1/admin/audit?action=project_trust_same_repo_pr_config.set")).json()["events"]
    assert {"slug": "shop", "enabled": True} in [event["metadata"] for event in events]


async def test_a_token_lets_the_server_read_through_the_provider(database_url: str, tmp_path: Path) -> None:
    """GitHub's answers, over real sockets: the folder, its head, and the files of a pull request."""
    head, token = "7fd1a60b01f91b314f59955a4e4d4e80d8edf11d", "t0ken-of-the-bot"
    paths = pipeline("ci", materials=[], when={"event": ["pull_request"], "paths": ["src/**"]})
    changed = "docs/x"

    def github(asked: Asked) -> Told:
        assert asked.headers["authorization"] == f"Bearer {token}"
        match asked.path.removeprefix("/api/v3/repos/acme/shop"):
            case "/branches/main":
                return as_json({"commit": {"sha": head}})
            case "/contents/.gocdnext":
                return as_json([{"type": "file", "name": "ci.yaml"}])
            case "/contents/.gocdnext/ci.yaml":
                return Told(200, paths.encode())
            case "/pulls/2/files":
                return as_json([{"filename": changed}])
        return as_json({}, 404)

    allow = {"GOCDNEXT_OUTBOUND_ALLOW": "127.0.0.1"}
    async with (
        counterpart(github) as there,
        served(database_url, tmp_path / "state", reads=True, variables=allow) as world,
    ):
        url = f"{there.url}/acme/shop.git"
        source = {"provider": "github", "url": url, "auth_ref": token, "webhook_secret": hooks.SECRET}
        answer = await world.http.post("/api/v1/projects/apply", json={"slug": "shop", "scm_source": source})
        assert [made["name"] for made in answer.json()["pipelines"]] == ["ci"], answer.text
        payload = hooks.example("github", "pull_request opened")
        payload["repository"]["clone_url"] = url
        payload["pull_request"]["base"]["ref"] = "main"
        answer = await hooks.send(world, "github", "pull_request", payload)
        assert (answer.status_code, answer.json()) == (200, {"runs": [], "filtered_by_paths": 1})
        assert "GitHub tells 1 files" in json.dumps((await hooks.newest(world))["trace"])
        changed = "src/main.c"
        answer = await hooks.send(world, "github", "pull_request", payload, delivery="d-2")
        assert len(answer.json()["runs"]) == 1
        assert token not in json.dumps(await hooks.newest(world))
