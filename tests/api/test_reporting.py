"""From a push to what the provider shows: hooks are registered, and how runs stand is told (contract-admin 6.7, 8.9, 9.3)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio

from gocdnext.forges.reporter import LEASE, MAX_TRIES, Reporter
from tests.api import hooks
from tests.api.hooks import bind, push, send, waits
from tests.api.test_conventions import error
from tests.api.world import World, served
from tests.counterpart import Counterpart, Told, as_json, counterpart
from tests.forge import APP_ID, INSTALLATION, SHA, TOKEN, Forge, pem

BASE = "https://ci.acme.example"
EVENTS = {"github": "push", "gitlab": "Push Hook", "bitbucket": "repo:push"}


class Stage:
    """A served application, and the providers that it calls."""

    def __init__(self, world: World, there: Counterpart, forge: Forge) -> None:
        self.world = world
        self.there = there
        self.forge = forge
        self.url = f"{there.url}/acme/shop"

    @property
    def reporter(self) -> Reporter:
        return self.world.forges.reporter

    async def bound(self, provider: str = "github", token: str = "", mode: str = "") -> dict[str, Any]:
        source = {"provider": provider, "url": self.url, "default_branch": "master", "webhook_secret": hooks.SECRET}
        source |= {"auth_ref": token} if token else {}
        made = await self.world.apply("shop", {"p.yaml": waits(url=self.url)}, scm_source=source)
        if mode:
            answer = await self.world.http.put("/api/v1/projects/shop/check-reporting", json={"mode": mode})
            assert answer.status_code == 200
        return made

    async def pushed(self, provider: str = "github") -> str:
        """A push of SHA; the run that it starts."""
        payload = push("master", SHA)
        payload["repository"]["clone_url"] = self.url
        if provider == "gitlab":
            payload = hooks.example("gitlab", "Push Hook")
            payload |= {"ref": "refs/heads/master", "after": SHA, "checkout_sha": SHA}
            payload["project"]["git_http_url"] = self.url
            payload["repository"]["git_http_url"] = self.url
        elif provider == "bitbucket":
            payload = hooks.example("bitbucket", "repo:push")
            new = payload["push"]["changes"][0]["new"]
            new |= {"name": "master", "type": "branch"}
            new["target"]["hash"] = SHA
            payload["repository"]["links"]["html"]["href"] = self.url
        answer = await send(self.world, provider, EVENTS[provider], payload)
        assert answer.status_code == 202, answer.text
        (run,) = answer.json()["runs"]
        return str(run)

    async def finished(self, run: str, status: str = "success") -> None:
        agent = next(iter(self.world.fleet.agents.values()), None) or await self.world.agent_online()
        await self.world.finish_jobs(agent, run, status)

    async def report(self, run: str = "") -> dict[str, Any]:
        row = await self.world.db.fetchrow(
            "SELECT * FROM status_reports WHERE run_id = $1 OR $1 IS NULL", UUID(run) if run else None
        )
        assert row is not None
        return dict(row)

    async def given_up(self) -> list[dict[str, Any]]:
        answer = (await self.world.http.get("/api/v1/projects/shop/check-reporting")).json()
        found: list[dict[str, Any]] = answer.get("given_up", [])
        return found


@contextlib.asynccontextmanager
async def staged(database_url: str, tmp_path: Path, **more: str) -> AsyncIterator[Stage]:
    forge = Forge()
    async with counterpart(forge) as there:
        variables = {"GOCDNEXT_OUTBOUND_ALLOW": "127.0.0.1", "GOCDNEXT_PUBLIC_BASE": BASE}
        variables |= {name: text.replace("THERE", there.url) for name, text in more.items()}
        async with served(database_url, tmp_path / "state", variables=variables) as world:
            forge.now = world.clock
            yield Stage(world, there, forge)


@pytest.fixture
async def stage(database_url: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """Without a GitHub App."""
    async with staged(database_url, tmp_path) as stage:
        yield stage


@pytest.fixture
async def app(database_url: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """With a GitHub App of the environment."""
    variables = {
        "GOCDNEXT_GITHUB_APP_ID": str(APP_ID),
        "GOCDNEXT_GITHUB_APP_PRIVATE_KEY": pem().replace("\n", "\\n"),
        "GOCDNEXT_GITHUB_APP_API_BASE": "THERE/api/v3",
        "GOCDNEXT_GITHUB_APP_WEBHOOK_SECRET": hooks.SECRET,
    }
    async with staged(database_url, tmp_path, **variables) as stage:
        yield stage


# Telling how runs stand


async def test_github_is_told_as_an_app(app: Stage) -> None:
    await app.bound()
    run = await app.pushed()
    assert await app.reporter.once() == 1
    (check,) = app.forge.checks
    assert check["name"] == "gocdnext / ci"
    assert (check["head_sha"], check["external_id"], check["status"]) == (SHA, run, "queued")
    assert check["details_url"] == f"{BASE}/runs/{run}"
    (status,) = app.forge.statuses
    assert status == {
        "state": "pending",
        "context": "ci/gocdnext/shop/ci",
        "description": "Run #1 of ci is queued",
        "target_url": f"{BASE}/runs/{run}",
    }
    await app.finished(run)
    assert await app.reporter.once() == 1
    assert await app.reporter.once() == 0
    (check,) = app.forge.checks
    assert (check["status"], check["conclusion"]) == ("completed", "success")
    assert "completed_at" in check
    assert app.forge.statuses[-1]["state"] == "success"
    kept = await app.report()
    assert (kept["state"], kept["told"], kept["check_run_id"], kept["installation_id"]) == (
        "told",
        "success",
        1000,
        INSTALLATION,
    )
    assert len(app.forge.tokens) == 1, "a token is used until shortly before it ends"
    app.world.now += timedelta(minutes=56)
    again = await app.world.http.post(f"/api/v1/runs/{run}/rerun")
    await app.reporter.once()
    assert len(app.forge.tokens) == 2
    assert app.forge.checks[1]["external_id"] == again.json()["id"], "what repeats a run is told too"


@pytest.mark.parametrize(
    ("status", "conclusion", "state"), [("failed", "failure", "failure"), ("canceled", "cancelled", "error")]
)
async def test_bad_ends(app: Stage, status: str, conclusion: str, state: str) -> None:
    await app.bound()
    run = await app.pushed()
    if status == "canceled":
        assert (await app.world.http.post(f"/api/v1/runs/{run}/cancel")).status_code == 204
    else:
        await app.finished(run, status)
    await app.reporter.once()
    assert [check["conclusion"] for check in app.forge.checks] == [conclusion], "a state that is over is not told"
    assert [one["state"] for one in app.forge.statuses] == [state]


async def test_gitlab_is_told(stage: Stage) -> None:
    await stage.bound("gitlab", TOKEN)
    run = await stage.pushed("gitlab")
    await stage.reporter.once()
    await stage.finished(run, "failed")
    await stage.reporter.once()
    first, second = stage.forge.statuses
    assert (first["state"], second["state"]) == ("pending", "failed")
    assert (second["name"], second["target_url"]) == ("ci/gocdnext/shop/ci", f"{BASE}/runs/{run}")
    assert f"POST /api/v4/projects/acme%2Fshop/statuses/{SHA}" in stage.forge.calls


async def test_gitlab_refuses_the_state_that_it_has(stage: Stage) -> None:
    await stage.bound("gitlab", TOKEN)
    await stage.pushed("gitlab")
    stage.forge.trouble = [as_json({"message": "Cannot transition status via :enqueue from :pending"}, 400)]
    await stage.reporter.once()
    assert (await stage.report())["state"] == "told"


async def test_bitbucket_is_told(stage: Stage) -> None:
    await stage.bound("bitbucket", TOKEN)
    run = await stage.pushed("bitbucket")
    await stage.finished(run)
    await stage.reporter.once()
    (told,) = stage.forge.statuses
    assert (told["state"], told["key"], told["url"]) == ("SUCCESSFUL", "ci/gocdnext/shop/ci", f"{BASE}/runs/{run}")


async def test_the_setting_decides_how_github_is_told(app: Stage) -> None:
    await app.bound(mode="commit_status")
    await app.pushed()
    await app.reporter.once()
    assert (len(app.forge.checks), len(app.forge.statuses)) == (0, 1)
    # It is the run's from its beginning.
    await app.world.http.put("/api/v1/projects/shop/check-reporting", json={"mode": "check_run"})
    await app.finished((await app.report())["run_id"].hex)
    await app.reporter.once()
    assert (len(app.forge.checks), len(app.forge.statuses)) == (0, 2)


async def test_check_runs_alone(app: Stage) -> None:
    await app.bound(mode="check_run")
    await app.pushed()
    await app.reporter.once()
    assert (len(app.forge.checks), len(app.forge.statuses)) == (1, 0)


async def test_a_token_makes_statuses_and_no_checks(stage: Stage) -> None:
    await stage.bound("github", TOKEN)
    run = await stage.pushed()
    await stage.reporter.once()
    assert (len(stage.forge.checks), len(stage.forge.statuses)) == (0, 1)
    await stage.bound("github", TOKEN, mode="check_run")
    await stage.world.db.execute("UPDATE status_reports SET mode = 'check_run'")
    await stage.finished(run)
    await stage.reporter.once()
    assert "check runs need a GitHub App" in (await stage.given_up())[0]["error"]


async def test_the_token_of_a_host(stage: Stage) -> None:
    """What an administrator keeps for a host is used where the source has none, and goes to the API that it is kept for."""
    host = stage.url.split("/")[2]
    body = {"provider": "gitlab", "host": host, "auth_ref": TOKEN, "api_base": f"{stage.there.url}/api/v4"}
    assert (await stage.world.http.post("/api/v1/admin/scm-credentials", json=body)).status_code == 201
    await stage.bound("gitlab")
    await stage.pushed("gitlab")
    await stage.reporter.once()
    assert len(stage.forge.statuses) == 1


async def test_without_a_credential_nobody_is_called(stage: Stage) -> None:
    await stage.bound("gitlab")
    await stage.pushed("gitlab")
    before = len(stage.there.requests)
    await stage.reporter.once()
    assert len(stage.there.requests) == before
    assert (await stage.report())["state"] == "none"
    assert await stage.given_up() == []


async def test_what_nobody_pushed_is_not_told(app: Stage) -> None:
    made = await app.bound()
    await app.world.http.post(
        f"/api/v1/pipelines/{made['pipelines'][0]['pipeline_id']}/trigger", json={"revision": SHA}
    )
    await app.reporter.once()
    assert await app.world.db.fetchval("SELECT count(*) FROM status_reports") == 0


# Trouble


async def test_trouble_is_waited_out_and_only_the_newest_state_is_told(app: Stage) -> None:
    await app.bound()
    run = await app.pushed()
    app.forge.trouble = [Told(502)]
    await app.reporter.once()
    kept = await app.report()
    assert (kept["state"], kept["attempts"]) == ("pending", 1)
    assert "answered 502" in kept["error"]
    assert await app.reporter.once() == 0, "it waits"
    await app.finished(run)
    assert await app.reporter.once() == 1, "a new state does not wait for the old one's turn"
    assert [check["status"] for check in app.forge.checks] == ["completed"]
    assert (await app.report())["error"] is None


async def test_a_rate_limit_is_kept_to(app: Stage) -> None:
    await app.bound()
    await app.pushed()
    app.forge.trouble = [as_json({"message": "secondary rate limit"}, 403, Retry_After="600")]
    await app.reporter.once()
    kept = await app.report()
    assert kept["state"] == "pending"
    assert kept["next_at"] - app.world.now >= timedelta(seconds=600)
    app.world.now += timedelta(seconds=601)
    await app.reporter.once()
    assert (await app.report())["state"] == "told"


async def test_it_is_given_up_in_the_end_and_seen(app: Stage) -> None:
    await app.bound()
    run = await app.pushed()
    await app.reporter.once()
    await app.finished(run, "failed")
    tries = 0
    while (await app.report())["state"] != "given_up":
        app.forge.trouble = [Told(raw=b"")] * 3
        tries += await app.reporter.once()
        app.world.now += timedelta(hours=1)
        assert tries <= MAX_TRIES
    assert tries == MAX_TRIES
    (told,) = await app.given_up()
    assert (told["run_id"], told["counter"], told["status"], told["attempts"]) == (run, 1, "failed", MAX_TRIES)
    assert "127.0.0.1" in told["error"]
    metrics = (await app.world.http.get("/metrics")).text
    assert 'gocdnext_status_reports_total{outcome="given_up",provider="github"} 1.0' in metrics


async def test_a_refusal_is_given_up_at_once(app: Stage) -> None:
    await app.bound(mode="commit_status")
    run = ""
    for number, status in enumerate((401, 403, 404, 422)):
        run = (
            await app.pushed() if number == 0 else (await app.world.http.post(f"/api/v1/runs/{run}/rerun")).json()["id"]
        )
        await app.reporter.once()
        app.forge.trouble = [as_json({"message": "no"}, status)]
        await app.finished(run)
        await app.reporter.once()
        told = (await app.given_up())[0]
        assert f"answered {status}" in told["error"]
        assert (told["run_id"], told["attempts"]) == (run, 1)
        app.world.now += timedelta(seconds=1)


async def test_a_lost_answer_makes_no_second_check(app: Stage) -> None:
    await app.bound(mode="check_run")
    await app.pushed()
    await app.reporter.once()
    app.forge.checks.clear()
    await app.world.db.execute("UPDATE status_reports SET state = 'pending', told = NULL, check_run_id = NULL")
    app.forge.lose_answers = 1
    await app.reporter.once()
    assert (await app.report())["check_run_id"] is None
    app.world.now += timedelta(minutes=1)
    await app.reporter.once()
    assert len(app.forge.checks) == 1
    assert (await app.report())["check_run_id"] == 1000


async def test_a_hostile_answer_is_no_answer(app: Stage) -> None:
    await app.bound(mode="check_run")
    await app.pushed()
    app.forge.trouble = [Told(201, b'{"id": %d}' % 2**70)]
    await app.reporter.once()
    assert "without `id`" in (await app.given_up())[0]["error"]


async def test_a_status_that_is_refused_besides_a_check_is_no_failure(app: Stage) -> None:
    await app.bound()
    run = await app.pushed()
    await app.reporter.once()
    await app.finished(run)
    # Only the second call, the status, is refused.
    plain = app.there.handler
    app.there.handler = lambda asked: as_json({"message": "no"}, 422) if "/statuses/" in asked.path else plain(asked)
    await app.reporter.once()
    assert app.forge.checks[0]["status"] == "completed"
    assert (await app.report())["state"] == "told"


async def test_an_older_run_does_not_speak_for_the_commit_any_more(app: Stage) -> None:
    """The end of an older run of the same pipeline and commit arrives after the newer one's."""
    await app.bound()
    first = await app.pushed()
    await app.finished(first)
    second = (await app.world.http.post(f"/api/v1/runs/{first}/rerun")).json()["id"]
    await app.world.db.execute("UPDATE runs SET status = 'running' WHERE id = $1", UUID(first))
    await app.reporter.once()
    await app.finished(second)
    await app.reporter.once()
    await app.world.db.execute("UPDATE runs SET status = 'failed' WHERE id = $1", UUID(first))
    await app.reporter.once()
    assert [one["state"] for one in app.forge.statuses] == ["pending", "success"]
    by_run = {check["external_id"]: check.get("conclusion") for check in app.forge.checks}
    assert by_run == {first: "failure", second: "success"}


async def test_a_run_that_is_opened_again_is_told_again(app: Stage) -> None:
    await app.bound()
    run = await app.pushed()
    await app.finished(run, "failed")
    await app.reporter.once()
    detail = (await app.world.http.get(f"/api/v1/runs/{run}")).json()
    job = detail["stages"][0]["jobs"][0]["id"]
    assert (await app.world.http.post(f"/api/v1/job_runs/{job}/rerun")).status_code == 202
    await app.reporter.once()
    assert app.forge.statuses[-1]["state"] == "pending"
    await app.finished(run)
    await app.reporter.once()
    assert app.forge.statuses[-1]["state"] == "success"


async def test_two_servers_tell_each_state_once(app: Stage) -> None:
    await app.bound()
    await app.pushed()
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(app.reporter.once)
    assert (len(app.forge.checks), len(app.forge.statuses)) == (1, 1)


async def test_what_a_dead_server_had_taken_is_told_by_another(app: Stage) -> None:
    await app.bound()
    await app.pushed()
    await app.world.db.transaction(app.reporter._notice)
    assert len(await app.reporter._taken()) == 1
    assert await app.reporter.once() == 0
    app.world.now += LEASE + timedelta(seconds=1)
    assert await app.reporter.once() == 1
    assert (await app.report())["state"] == "told"


async def test_the_app_is_not_used_at_another_host(app: Stage) -> None:
    """A maintainer can bind any address: an installation's token must not go there."""
    async with counterpart(app.forge) as evil:
        app.url = f"{evil.url}/acme/shop"
        await app.bound()
        await app.pushed()
        await app.reporter.once()
        assert evil.requests == []
    assert (await app.report())["state"] == "none"


# The setting


async def test_the_setting(world: World) -> None:
    await bind(world)
    path = "/api/v1/projects/shop/check-reporting"
    assert (await world.http.get(path)).json() == {"mode": "both", "default_mode": "both"}
    assert (await world.http.put(path, json={"mode": "check_run"})).json() == {
        "mode": "check_run",
        "default_mode": "both",
    }
    assert (await world.http.get(path)).json()["mode"] == "check_run"
    for body in ({"mode": ""}, {"mode": "all"}):
        refused = await world.http.put(path, json=body)
        assert error(refused, 400) == "mode must be one of: both, check_run, commit_status"
    assert (await world.http.put(path, json={})).status_code == 400
    missing = "/api/v1/projects/none/check-reporting"
    for answer in (await world.http.get(missing), await world.http.put(missing, json={"mode": "both"})):
        assert error(answer, 404) == "project not found"
