"""check-pipeline-run: asks our own API, with real runs of a real repository."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from tests.api.world import TOKEN, World, commit, pipeline, repository, served
from tests.plugins.conftest import PATIENCE, Outcome, Workspace
from tests.plugins.web import Answer, Web, as_json
from tests.scenarios.fleet import ScriptedAgent


@dataclass
class Shop:
    """A server whose pipeline `test` of the project `billing` builds the repository."""

    world: World
    workspace: Workspace
    repository: Path
    pipeline_id: str
    agent: ScriptedAgent

    def inputs(self, **more: str) -> dict[str, str]:
        given = {"api-url": self.world.base, "api-token": TOKEN, "project": "billing", "pipeline": "test"}
        return given | {name.replace("_", "-"): value for name, value in more.items()}

    async def ask(self, **more: str) -> Outcome:
        command, env = self.workspace.command("check-pipeline-run", self.inputs(**more), {})
        with trio.fail_after(PATIENCE):
            done = await trio.run_process(
                command,
                cwd=self.workspace.path,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    async def run(self, status: str = "success") -> str:
        """A run of what the repository holds now, finished so; returns its id."""
        run_id = await self.world.trigger(self.pipeline_id)
        await self.world.finish_jobs(self.agent, run_id, status)
        return run_id

    def delivered(self) -> dict[str, str]:
        lines = (self.workspace.path / ".gocdnext" / "preflight.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)


@pytest.fixture
async def shop(database_url: str, tmp_path: Path, workspace: Workspace) -> AsyncIterator[Shop]:
    where = tmp_path / "repository"
    repository(where, {"a": "1"})
    async with served(database_url, tmp_path / "state", auth=True) as world:
        world.now = datetime.now(UTC)
        world.http.headers["Authorization"] = f"Bearer {TOKEN}"
        scm = {"provider": "manual", "url": str(where)}
        texts = {f"{name}.yaml": pipeline(name, materials=[]) for name in ("test", "other")}
        made = await world.apply(scm_source=scm, files=texts)
        ids = {entry["name"]: entry["pipeline_id"] for entry in made["pipelines"]}
        yield Shop(world, workspace, where, ids["test"], await world.agent_online())


async def test_a_finished_run_is_found_and_delivered(shop: Shop, tmp_path: Path) -> None:
    outcome = await shop.ask()
    assert outcome.code == 1
    assert "billing/test has no run with status success that ended within 7d (there is none at all)" in outcome.err
    run_id = await shop.run()
    outputs = tmp_path / "outputs"
    outputs.write_text("")
    shop.workspace.env["GOCDNEXT_OUTPUT_FILE"] = str(outputs)
    outcome = await shop.ask()
    assert outcome.code == 0, outcome.text
    found = shop.delivered()
    assert (found["RUN_ID"], found["RUN_COUNTER"], found["RUN_STATUS"]) == (run_id, "1", "success")
    assert outputs.read_text() == (shop.workspace.path / ".gocdnext" / "preflight.env").read_text()
    assert TOKEN not in outcome.text


async def test_the_status_that_is_expected(shop: Shop) -> None:
    await shop.run("failed")
    outcome = await shop.ask()
    assert outcome.code == 1
    assert "found #1 failed" in outcome.err
    assert (await shop.ask(expected_status="failed")).code == 0


async def test_the_commit_and_the_branch_or_tag(shop: Shop) -> None:
    await shop.run()
    second = commit(shop.repository, {"a": "2"})
    outcome = await shop.ask(revision=second)
    assert outcome.code == 1
    assert f"for commit {second} with status success" in outcome.err
    await shop.run()
    assert (await shop.ask(revision=second[:8].upper())).code == 0
    assert shop.delivered()["RUN_COUNTER"] == "2"
    assert (await shop.ask(tag="main", revision=second)).code == 0
    assert "for tag v1" in (await shop.ask(tag="v1")).err


async def test_what_is_too_old_does_not_count(shop: Shop) -> None:
    shop.world.now = datetime.now(UTC) - timedelta(hours=3)
    await shop.run()
    assert (await shop.ask(max_age="2h59m")).code == 1
    assert (await shop.ask(max_age="1d")).code == 0


async def test_it_waits_for_a_run_that_still_goes_on(shop: Shop) -> None:
    run_id = await shop.world.trigger(shop.pipeline_id)
    outcomes: list[Outcome] = []

    async def ask() -> None:
        outcomes.append(await shop.ask(poll_attempts="100", poll_interval="1"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await shop.world.finish_jobs(shop.agent, run_id)
    assert outcomes[0].code == 0, outcomes[0].text
    assert shop.delivered()["RUN_ID"] == run_id


async def test_a_wrong_token(shop: Shop) -> None:
    outcome = await shop.ask(api_token="wr0ng-token")
    assert outcome.code == 1
    assert "status 401" in outcome.err
    assert "`api-token` is not valid there" in outcome.err
    assert "wr0ng" not in outcome.text


def test_it_asks_as_often_as_it_is_told(workspace: Workspace, web: Web) -> None:
    web.handler = lambda request: as_json({"runs": []})
    inputs = {"api-url": web.url, "api-token": "x", "project": "p", "pipeline": "t", "poll-interval": "1"}
    assert workspace.run("check-pipeline-run", {**inputs, "poll-attempts": "2"}).code == 1
    assert len(web.requests) == 2
    assert web.requests[0].query == {"project": ["p"], "pipeline": ["t"], "limit": ["100"]}


def test_something_else_answers(workspace: Workspace, web: Web) -> None:
    inputs = {"api-url": web.url, "api-token": "x", "project": "p", "pipeline": "t"}
    web.handler = lambda request: Answer(200, b"<html>")
    outcome = workspace.run("check-pipeline-run", inputs)
    assert outcome.code == 1
    assert "the answer is not JSON; is this the right address?" in outcome.err
    web.handler = lambda request: as_json({"items": []})
    outcome = workspace.run("check-pipeline-run", inputs)
    assert outcome.code == 1
    assert "the answer is not one of a gocdnext server" in outcome.err


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"api-url": "ci"}, "`api-url` must be an address"),
        ({"project": ""}, "the input `project` is missing"),
        ({"api-token": ""}, "the input `api-token` is missing"),
        ({"revision": "main"}, "`revision` is 'main'"),
        ({"max-age": "a week"}, "write for example 90m, 12h or 7d"),
        ({"expected-status": "green"}, "write success or failed or canceled"),
        ({"poll-attempts": "0"}, "a whole number from 1 to 1000"),
        ({"runs-limit": "500"}, "a whole number from 1 to 200"),
    ],
)
def test_wrong_inputs(workspace: Workspace, inputs: dict[str, str], words: str) -> None:
    given = {"api-url": "http://127.0.0.1:1", "api-token": "x", "project": "p", "pipeline": "t"}
    outcome = workspace.run("check-pipeline-run", {**given, **inputs})
    assert outcome.code == 2
    assert words in outcome.err
