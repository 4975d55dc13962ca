"""Pull requests that run with the configuration that they bring (contract-admin 8.7). Repositories are real ones."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gocdnext.pipeline import model
from tests.api import hooks
from tests.api.test_configs import BROKEN, PATH, Shop
from tests.api.world import World, commit, git, pipeline, repository, served

ON = {"git": {"branch": "main", "on": ["push", "pull_request"]}}

MANY = {"stage": "build", "script": ["x"], "parallel": {"matrix": [{"A": [str(value) for value in range(101)]}]}}


def asks(url: str, **more: Any) -> str:
    return pipeline("ci", materials=[{"git": {**ON["git"], "url": url}}], **more)


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with served(database_url, tmp_path / "state", reads=True) as world:
        yield world


@pytest.fixture
async def shop(world: World, tmp_path: Path) -> Shop:
    """A project that trusts, and a branch `feature` beside `main`."""
    shop = Shop(world, tmp_path / "repo")
    repository(shop.where, {PATH: asks(shop.url)})
    await shop.bind()
    await trust(world)
    git(shop.where, "checkout", "-qb", "feature")
    return shop


async def trust(world: World, slug: str = "shop", enabled: bool = True) -> None:
    answer = await world.http.put(f"/api/v1/projects/{slug}/pr-head-config", json={"enabled": enabled})
    assert answer.status_code == 200


async def request(shop: Shop, sha: str, *, fork: bool = False, delivery: str = "pr") -> httpx.Response:
    payload = hooks.example("github", "pull_request synchronize")
    payload["repository"]["clone_url"] = shop.url
    asked = payload["pull_request"]
    asked["head"] |= {"ref": "feature", "sha": sha}
    asked["base"]["ref"] = "main"
    asked["head"]["repo"]["id"] = 4711 if fork else asked["base"]["repo"]["id"]
    return await hooks.send(shop.world, "github", "pull_request", payload, delivery=delivery)


async def definition(world: World, run: str) -> model.Pipeline:
    text = await world.db.fetchval(
        "SELECT d.definition::text FROM runs r JOIN pipeline_definitions d ON d.id = r.definition_id WHERE r.id = $1",
        run,
    )
    return model.decode(text)


async def detail(world: World, run: str) -> dict[str, Any]:
    found: dict[str, Any] = await world.db.fetchval("SELECT cause_detail FROM runs WHERE id = $1", run)
    return found


def resolutions(world: World) -> dict[str, float]:
    """How often readings of requests' configurations ended in which way (contract-runs 10.1)."""
    name = "gocdnext_pr_head_resolution_seconds_count"
    found = {o: world.metrics.registry.get_sample_value(name, {"outcome": o}) for o in ("ok", "fetch_error", "invalid")}
    return {outcome: count for outcome, count in found.items() if count}


async def test_a_request_brings_stages_jobs_and_variables_and_nothing_else(world: World, shop: Shop) -> None:
    jobs = {"other": {"stage": "check", "script": ["make other"]}}
    service = {"name": "db", "image": "postgres", "node_selector": {"pool": "gold"}}
    brought = asks(
        "https://example.org/else",
        stages=["check"],
        jobs=jobs,
        variables={"N": "head"},
        services=[service],
        notifications=[{"on": "always", "uses": "evil"}],
        concurrency="serial",
    )
    sha = commit(shop.where, {PATH: brought, ".gocdnext/only-here.yaml": pipeline("only-here")})
    answer = await request(shop, sha)
    assert answer.status_code == 202, answer.text
    (run,) = answer.json()["runs"]
    assert resolutions(world) == {"ok": 1}
    made = await definition(world, run)
    assert (made.stages, [job.name for job in made.jobs], made.variables) == (("check",), ["other"], {"N": "head"})
    assert made.services[0].node_selector == {}
    assert (made.notifications, made.concurrency) == (None, "")
    assert made.materials[0].url == shop.url  # type: ignore[union-attr]
    told = await detail(world, run)
    assert (told["config_source"], told["config_revision"]) == ("pr_head", sha)
    assert len(told["config_digest"]) == 64
    # What is stored of the project stays what it was.
    assert await shop.pipelines() == {"ci": 1}
    shown = (await world.http.get(f"/api/v1/runs/{run}")).json()
    assert [stage["name"] for stage in shown["stages"]] == ["check"]
    # It runs to its end, and cannot be run again as a whole.
    agent = await world.agent_online()
    await world.finish_jobs(agent, run)
    again = await world.http.post(f"/api/v1/runs/{run}/rerun")
    assert again.status_code == 422
    # The next run of the pipeline has the project's own definition.
    (push,) = (await shop.push(after=git(shop.where, "rev-parse", "main"))).json()["runs"]
    assert (await definition(world, push)).stages == ("build",)
    # The same request once more starts nothing.
    assert (await request(shop, sha, delivery="again")).json()["runs"] == []


async def test_who_does_not_trust_and_forks_run_the_stored_definition(world: World, shop: Shop) -> None:
    sha = commit(shop.where, {PATH: asks(shop.url, stages=["evil"], jobs={"e": {"stage": "evil", "script": ["x"]}})})
    (run,) = (await request(shop, sha, fork=True)).json()["runs"]
    assert (await definition(world, run)).stages == ("build",)
    assert (await detail(world, run))["from_fork"] is True
    await trust(world, enabled=False)
    second = commit(shop.where, {"README": "y"})
    (run,) = (await request(shop, second, delivery="2")).json()["runs"]
    assert (await definition(world, run)).stages == ("build",)
    assert "config_source" not in await detail(world, run)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({PATH: BROKEN}, "not valid YAML"),
        ({PATH: pipeline("renamed")}, "no pipeline 'ci' any more"),
        (
            {PATH: pipeline("ci", jobs={f"j{n}": MANY for n in range(10)})},
            "1010 jobs, more than 1000",
        ),
        (
            {PATH: pipeline("ci", jobs={"j": {"stage": "build", "script": ["x"], "agent": {"profile": "privileged"}}})},
            "unknown runner profile",
        ),
    ],
)
async def test_a_broken_request_runs_nothing_of_its_project(
    world: World, shop: Shop, files: dict[str, str], reason: str
) -> None:
    answer = await request(shop, commit(shop.where, files))
    assert answer.status_code == 422, answer.text
    assert answer.json() == {"runs": [], "error": "pr-head: config invalid", "pr_number": 2}
    assert resolutions(world) == {"invalid": 1}
    delivery = await hooks.newest(world)
    assert (delivery["status"], delivery["http_status"]) == ("error", 422)
    assert reason in json.dumps(delivery["trace"])
    assert await hooks.runs(world) == []


async def test_a_commit_that_is_not_to_be_had_can_be_sent_again(world: World, shop: Shop) -> None:
    await world.apply("bystander", {"p.yaml": asks(shop.url)})
    answer = await request(shop, "f" * 40)
    assert answer.status_code == 503
    assert resolutions(world) == {"fetch_error": 1}
    body = answer.json()
    assert (body["error"], body["pr_number"]) == ("pr-head: config temporarily unavailable", 2)
    # A project that is not bound to the repository runs from its own definition all the same.
    (run,) = body["runs"]
    assert (await definition(world, run)).stages == ("build",)
    assert "config_source" not in await detail(world, run)


async def test_two_projects_that_trust_are_ambiguous(world: World, shop: Shop) -> None:
    await shop.bind("second")
    await trust(world, "second")
    answer = await request(shop, commit(shop.where, {"README": "y"}))
    assert answer.status_code == 422
    assert answer.json()["error"] == "pr-head: ambiguous scm binding"
    # Only one of them does: the other one runs from its own definition.
    await trust(world, "second", enabled=False)
    answer = await request(shop, commit(shop.where, {"README": "z"}), delivery="2")
    assert answer.status_code == 202
    sources = [(await detail(world, run)).get("config_source") for run in answer.json()["runs"]]
    assert sources == [None, "pr_head"]


async def test_a_binding_that_is_gone_when_it_is_sent_again(world: World, shop: Shop) -> None:
    await world.apply("bystander", {"p.yaml": asks(shop.url)})
    await request(shop, commit(shop.where, {PATH: BROKEN}))
    delivery = (await hooks.newest(world))["id"]
    await world.db.execute("DELETE FROM scm_sources")
    await world.http.post(f"/api/v1/admin/webhooks/{delivery}/redeliver")
    assert (await hooks.newest(world))["error"] == "pr-head: no scm binding for repo"
