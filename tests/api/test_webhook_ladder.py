"""The decision ladder: which events start which pipelines (8.3 to 8.6), and what forks may not do."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
import trio

from gocdnext.blobs import caches
from gocdnext.blobs.artifacts import Attempt
from gocdnext.runs.service import JobReport
from tests.api.hooks import GITHUB_REPO, REPOSITORIES, bind, example, newest, push, runs, send, waits
from tests.api.world import World, pipeline

SHAS = [f"{n:040x}" for n in range(1, 20)]


async def test_deletions_start_nothing(world: World) -> None:
    await bind(world)
    for payload in (example("github", "push that deletes"), push(deleted=True), push(sha="0" * 40)):
        assert (await send(world, "github", "push", payload)).status_code == 204
    assert (await newest(world))["trace"][-1]["said"] == "the branch or tag was deleted"
    assert not await runs(world)


async def test_a_push_without_a_head_commit(world: World) -> None:
    await bind(world)
    assert (await send(world, "github", "push", push(head_commit=None))).status_code == 204
    await bind(world, slug="lab", provider="gitlab")
    payload = example("gitlab", "Push Hook") | {"commits": [], "total_commits_count": 0}
    assert (await send(world, "gitlab", "Push Hook", payload)).status_code == 204
    assert not await runs(world)


@pytest.mark.parametrize("marker", ["[skip ci]", "[CI Skip]", "fix: x [No CI] y"])
async def test_skip_markers(world: World, marker: str) -> None:
    await bind(world)
    payload = push()
    payload["head_commit"]["message"] = marker
    answer = await send(world, "github", "push", payload)
    assert answer.status_code == 200
    assert answer.json()["skipped_by"] in marker.lower()
    kept = await newest(world)
    assert kept["status"] == "skipped"
    assert kept["trace"][-1]["rule"] == "skip marker"
    assert not await runs(world)


async def test_other_branches(world: World) -> None:
    await bind(world)
    answer = await send(world, "github", "push", push("feature/x"))
    assert (answer.status_code, answer.content) == (204, b"")
    trace = (await newest(world))["trace"]
    said = [note["said"] for note in trace if not note["passed"]]
    assert "no pipeline has a git material for branch 'feature/x' of github.com/Codertocat/Hello-World" in said
    assert "it waits for push on branch 'master' of github.com/Codertocat/Hello-World" in said


async def test_material_events_and_pipeline_events(world: World) -> None:
    await bind(
        world,
        waits("pushed"),
        waits("tagged", on=["tag"]),
        pipeline("asked", materials=[{"git": {"url": GITHUB_REPO, "branch": "master"}}], when={"event": ["tag"]}),
    )
    answer = await send(world, "github", "push", push())
    assert answer.status_code == 202
    assert answer.json()["filtered_by_event"] == 2
    assert len(answer.json()["runs"]) == 1
    trace = {note["pipeline"]: note["said"] for note in (await newest(world))["trace"] if not note["passed"]}
    assert trace["shop/tagged"] == "it listens to tag, not to push"
    assert trace["shop/asked"] == "`when.event` lists tag, not push"
    await bind(world, waits("tagged", on=["tag"]))
    answer = await send(world, "github", "push", push(sha=SHAS[0]))
    assert (answer.status_code, answer.json()) == (200, {"runs": [], "filtered_by_event": 1})
    assert (await newest(world))["status"] == "ignored"


def touched(sha: str, *files: str, **more: Any) -> dict[str, Any]:
    commits = [{"message": "x", "added": [], "removed": [], "modified": [file]} for file in files]
    return push(sha=sha, commits=commits, **more)


async def test_paths(world: World) -> None:
    when = {"paths": ["src/**", "*.{md,txt}", "docs/[a-c]?.rst"]}
    await bind(world, pipeline("implicit", materials=[{"manual": True}], when=when))
    hits = ["src/a/b/c.py", "README.md", "docs/a1.rst", "src/.hidden"]
    for number, file in enumerate(hits):
        answer = await send(world, "github", "push", touched(SHAS[number], "x/y", file))
        assert len(answer.json().get("runs", [])) == 1, file
    for number, file in enumerate(["sub/README.md", "docs/d1.rst", "srcs/x", "Src/x"]):
        answer = await send(world, "github", "push", touched(SHAS[number + 6], file))
        assert (answer.status_code, answer.json()) == (200, {"runs": [], "filtered_by_paths": 1}), file
    assert "none of the 1 changed files matches src/**" in (await newest(world))["trace"][-1]["said"]
    unknown = [push(commits=[]), touched(SHAS[0], "x", size=2), touched(SHAS[0], "x", forced=True), push(commits=None)]
    for number, payload in enumerate(unknown):
        payload["after"] = SHAS[number + 11]
        assert len((await send(world, "github", "push", payload)).json()["runs"]) == 1, "unknown: let through"


async def test_paths_of_gitlab(world: World) -> None:
    url = REPOSITORIES["gitlab"]
    when = {"paths": ["nowhere/**"], "branch": ["master"]}
    await bind(world, pipeline("ci", materials=[{"manual": True}], when=when), provider="gitlab", url=url)
    payload = example("gitlab", "Push Hook")
    payload["total_commits_count"] = len(payload["commits"])
    assert (await send(world, "gitlab", "Push Hook", payload)).json() == {"runs": [], "filtered_by_paths": 1}
    payload["total_commits_count"] += 1
    assert len((await send(world, "gitlab", "Push Hook", payload)).json()["runs"]) == 1


async def test_a_forced_push_is_a_push(world: World) -> None:
    await bind(world)
    await send(world, "github", "push", push(sha=SHAS[0]))
    assert len((await send(world, "github", "push", push(sha=SHAS[1], forced=True))).json()["runs"]) == 1
    back = await send(world, "github", "push", push(sha=SHAS[0], forced=True))
    assert back.json()["runs"] == [], "this commit of this branch has had its run"


async def test_tags_of_github(world: World) -> None:
    await bind(
        world, waits("tagged", on=["tag"], branch="whatever"), waits("both", on=["push", "tag"]), waits("pushed")
    )
    payload = example("github", "push of a tag")
    answer = await send(world, "github", "push", payload)
    assert answer.status_code == 202
    body = answer.json()
    assert (body["tag"], body["materials"], len(body["runs"])) == ("simple-tag", 2, 2)
    for run in await runs(world):
        assert (run["cause"], run["ref"], run["triggered_by"]) == ("tag", "simple-tag", "system:webhook")
        assert run["cause_detail"]["tag_name"] == "simple-tag"
        assert run["cause_detail"]["tag_sha"] == payload["after"]
        assert next(iter(run["revisions"].values())) == {"revision": payload["after"], "branch": "simple-tag"}
    assert (await send(world, "github", "push", payload)).json()["runs"] == []


async def test_tags_of_the_others(world: World) -> None:
    payload = example("gitlab", "Tag Push Hook")
    url = payload["project"]["git_http_url"]
    await bind(world, waits("t", url=url, on=["tag"]), provider="gitlab", url=url)
    body = (await send(world, "gitlab", "Tag Push Hook", payload)).json()
    assert (body["tag"], len(body["runs"])) == ("v1.0.0", 1)
    await bind(world, waits("t", url=REPOSITORIES["bitbucket"], on=["tag"]), slug="bit", provider="bitbucket")
    payload = example("bitbucket", "repo:push")
    payload["push"]["changes"][0]["new"] |= {"type": "tag", "name": "v2"}
    payload["push"]["changes"].append({"new": None, "closed": True})
    body = (await send(world, "bitbucket", "repo:push", payload)).json()
    assert (body["tag"], len(body["runs"])) == ("v2", 1)


async def test_a_tag_nobody_waits_for(world: World) -> None:
    await bind(world)
    assert (await send(world, "github", "push", example("github", "push of a tag"))).status_code == 204


async def test_every_change_of_bitbucket(world: World) -> None:
    url = REPOSITORIES["bitbucket"]
    await bind(world, waits("a", url=url, branch="one"), waits("b", url=url, branch="two"), provider="bitbucket")
    payload = example("bitbucket", "repo:push")
    change = payload["push"]["changes"][0]
    changes = [{**change, "new": {**change["new"], "name": name}} for name in ("one", "two", "three")]
    payload["push"]["changes"] = changes
    assert len((await send(world, "bitbucket", "repo:push", payload)).json()["runs"]) == 2
    payload["push"]["changes"] = []
    assert (await send(world, "bitbucket", "repo:push", payload)).status_code == 204
    payload["push"]["changes"] = [{"new": None, "closed": True}]
    assert (await send(world, "bitbucket", "repo:push", payload)).status_code == 204


# Requests


def opened(**more: Any) -> dict[str, Any]:
    """GitHub's example of a pull request, whose head and base are one repository."""
    payload = example("github", "pull_request opened")
    payload["pull_request"]["head"]["repo"]["id"] = payload["pull_request"]["base"]["repo"]["id"]
    return payload | more


async def test_pull_requests_of_github(world: World) -> None:
    await bind(world, waits(on=["pull_request"]))
    payload = opened()
    payload["pull_request"]["labels"] = [{"name": "Big"}, {"name": "big"}, {"name": "Ready"}]
    payload["pull_request"]["title"] = "[skip ci] is not for requests"
    answer = await send(world, "github", "pull_request", payload)
    assert (answer.status_code, answer.json()["pr_number"]) == (202, 2)
    (run,) = await runs(world)
    head = payload["pull_request"]["head"]
    assert (run["cause"], run["ref"]) == ("pull_request", "pr:2")
    assert next(iter(run["revisions"].values())) == {"revision": head["sha"], "branch": "changes"}
    detail = run["cause_detail"]
    assert detail["pr_labels"] == ["big", "ready"]
    assert detail["pr_head_sha"] == head["sha"]
    assert (detail["pr_base_ref"], detail["pr_head_ref"], detail["pr_action"]) == ("master", "changes", "opened")
    assert (detail["pr_author"], detail["pr_number"]) == ("Codertocat", 2)
    assert detail["pr_url"] == "https://github.com/Codertocat/Hello-World/pull/2"
    assert "from_fork" not in detail
    again = await send(world, "github", "pull_request", opened(action="reopened"))
    assert (again.status_code, again.json()["runs"]) == (202, [])
    payload["pull_request"]["head"]["sha"] = SHAS[3]
    assert len((await send(world, "github", "pull_request", payload | {"action": "synchronize"})).json()["runs"]) == 1
    for action in ("closed", "labeled", "edited", "\n"):
        assert (await send(world, "github", "pull_request", opened(action=action))).status_code == 204
    assert (await send(world, "github", "pull_request", example("github", "pull_request labeled"))).status_code == 204


async def test_requests_nobody_waits_for(world: World) -> None:
    await bind(world)
    assert (await send(world, "github", "pull_request", opened())).status_code == 204
    for change in ({"number": "x"}, {"pull_request": {}}, {"action": None}):
        answer = await send(world, "github", "pull_request", opened(**change))
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("invalid pull_request payload: ")


async def test_a_hostile_head_branch(world: World) -> None:
    await bind(world, waits(on=["pull_request"]))
    payload = opened()
    payload["pull_request"]["head"]["ref"] = "--upload-pack=touch /tmp/owned"
    assert (await send(world, "github", "pull_request", payload)).status_code == 400


async def test_merge_requests_of_gitlab(world: World) -> None:
    payload = example("gitlab", "Merge Request Hook")
    url = payload["repository"].get("git_http_url") or payload["project"]["git_http_url"]
    await bind(world, waits(url=url, on=["pull_request"]), provider="gitlab", url=url)
    answer = await send(world, "gitlab", "Merge Request Hook", payload)
    assert (answer.status_code, answer.json()["pr_number"]) == (202, 1)
    (run,) = await runs(world)
    assert run["cause_detail"]["pr_labels"] == ["api"]
    assert "from_fork" not in run["cause_detail"]
    attributes = payload["object_attributes"]
    for change in ({"action": "merge"}, {"action": "update", "state": "merged"}, {"action": "approved"}):
        answer = await send(world, "gitlab", "Merge Request Hook", payload | {"object_attributes": attributes | change})
        assert answer.status_code == 204
    other = {"source_project_id": 99, "last_commit": {"id": SHAS[1]}, "action": "update"}
    await send(world, "gitlab", "Merge Request Hook", payload | {"object_attributes": attributes | other})
    assert (await runs(world))[-1]["cause_detail"]["from_fork"] is True


async def test_pull_requests_of_bitbucket(world: World) -> None:
    payload = example("bitbucket", "pullrequest:created")
    await bind(world, waits(url=REPOSITORIES["bitbucket"], on=["pull_request"]), provider="bitbucket")
    answer = await send(world, "bitbucket", "pullrequest:created", payload)
    assert (answer.status_code, answer.json()["pr_number"]) == (202, 1)
    assert "from_fork" not in (await runs(world))[0]["cause_detail"]
    payload["pullrequest"]["source"]["repository"]["uuid"] = "{another}"
    payload["pullrequest"]["source"]["commit"]["hash"] = SHAS[2]
    await send(world, "bitbucket", "pullrequest:updated", payload)
    assert (await runs(world))[-1]["cause_detail"]["from_fork"] is True
    assert (await send(world, "bitbucket", "pullrequest:approved", payload)).status_code == 204


async def test_forks_get_no_secrets_and_pass_nothing_on(world: World) -> None:
    await world.agent_online()
    asks = {"compile": {"stage": "build", "script": ["make"], "secrets": ["TOKEN"]}}
    plain = {"compile": {"stage": "build", "script": ["make"]}}
    git = [{"git": {"url": GITHUB_REPO, "branch": "master", "on": ["pull_request"]}}]
    after = [{"upstream": {"pipeline": "free", "stage": "build"}}]
    await bind(
        world,
        pipeline("asks", materials=git, jobs=asks),
        pipeline("free", materials=git, jobs=plain),
        pipeline("later", materials=after, jobs=asks),
    )
    await world.http.post("/api/v1/projects/shop/secrets", json={"name": "TOKEN", "value": "0123456789"})
    payload = opened()
    payload["pull_request"]["head"]["repo"] = None
    assert len((await send(world, "github", "pull_request", payload)).json()["runs"]) == 2
    (agent,) = world.fleet.agents.values()
    for run in await runs(world):
        assert run["cause_detail"]["from_fork"] is True
        await world.runs.dispatch(run["id"])
    assert [made.env.get("TOKEN") for made in agent.jobs.values()] == [None]
    (made,) = agent.jobs.values()
    assert await world.runs.complete(JobReport(made.run_id, made.job_id, agent.id, made.attempt, "success"))
    later = await runs(world)
    assert len(later) == 3
    assert later[-1]["cause_detail"]["from_fork"] is True
    await world.runs.dispatch(later[-1]["id"])
    errors = await world.db.fetch("SELECT status, error FROM job_runs WHERE error IS NOT NULL")
    assert len(errors) == 2
    for row in errors:
        assert row["status"] == "failed"
        assert row["error"].startswith("secrets: TOKEN: what a fork proposes gets no secrets")
    values = {run["id"]: await world.secrets.of_run(run["id"]) for run in later}
    assert not [run_id for run_id, found in values.items() if found.known]
    asked = next(run for run in later if values[run["id"]].unreadable)
    assert "from_fork" in (await world.http.get(f"/api/v1/runs/{asked['id']}")).text
    again = await world.http.post(f"/api/v1/runs/{asked['id']}/rerun")
    assert again.status_code == 202, again.text
    assert (await runs(world))[-1]["cause_detail"]["from_fork"] is True


async def test_a_manual_start_never_takes_what_a_fork_proposes(world: World) -> None:
    url = "https://127.0.0.1:1/nothing/here"
    await bind(world, waits(url=url, on=["pull_request"]), url=url)
    payload = opened()
    payload["repository"]["clone_url"] = url
    assert (await send(world, "github", "pull_request", payload)).status_code == 202
    pipeline_id = (await runs(world))[0]["pipeline_id"]
    answer = await world.http.post(f"/api/v1/pipelines/{pipeline_id}/trigger")
    assert answer.status_code == 422, "nothing is known of the branch itself"


async def test_a_fork_writes_no_caches(world: World) -> None:
    agent = await world.agent_online()
    await bind(world, waits(on=["pull_request", "push"]))
    payload = opened()
    payload["pull_request"]["head"]["repo"] = None
    await send(world, "github", "pull_request", payload)
    await send(world, "github", "push", push())
    made = list(agent.jobs.values())
    opens = [
        await world.db.run(
            lambda conn, one=one: caches.open_upload(
                conn, Attempt(one.run_id, one.job_id, agent.id, one.attempt), "deps", world.now, uuid4
            )
        )
        for one in made
    ]
    assert [upload is not None for upload in opens] == [False, True]


# Deliveries


async def test_deliveries_are_listed_and_shown(world: World) -> None:
    await bind(world)
    await send(world, "github", "push", push(), delivery="one")
    await send(world, "github", "push", push(), secret="wrong", delivery="two")
    await send(world, "github", "ping", push(), delivery="three")
    page = (await world.http.get("/api/v1/admin/webhooks")).json()
    assert [entry["delivery"] for entry in page["deliveries"]] == ["three", "two", "one"]
    assert (page["total"], page["limit"], page["offset"]) == (3, 50, 0)
    assert [entry["status"] for entry in page["deliveries"]] == ["ignored", "rejected", "accepted"]
    first = page["deliveries"][-1]
    assert first["material_id"]
    assert first["runs"] == [str(run["id"]) for run in await runs(world)]
    only = (await world.http.get("/api/v1/admin/webhooks?status=rejected&provider=github")).json()
    assert [entry["error"] for entry in only["deliveries"]] == ["invalid signature"]
    assert (await world.http.get("/api/v1/admin/webhooks?provider=gitlab")).json()["deliveries"] == []
    assert (await world.http.get("/api/v1/admin/webhooks?limit=1000&offset=2")).json()["limit"] == 200
    shown = (await world.http.get(f"/api/v1/admin/webhooks/{first['id']}")).json()
    assert shown["headers"]["X-GitHub-Event"] == "push"
    assert shown["payload"]["ref"] == "refs/heads/master"
    assert [note["rule"] for note in shown["trace"]] == ["repository", "credential", "materials", "paths", "run"]
    for path, status in (("x", 400), ("0", 400), ("-1", 400), ("9" * 30, 400), ("999", 404)):
        assert (await world.http.get(f"/api/v1/admin/webhooks/{path}")).status_code == status
    for query in ("limit=0", "limit=x", "offset=-1"):
        assert (await world.http.get(f"/api/v1/admin/webhooks?{query}")).status_code == 400


async def test_a_redelivery_makes_what_is_missing(world: World) -> None:
    await bind(world)
    await send(world, "github", "push", push("later"))
    assert not await runs(world)
    delivery = (await newest(world))["id"]
    await bind(world, waits(branch="later"))
    again = await world.http.post(f"/api/v1/admin/webhooks/{delivery}/redeliver")
    assert again.status_code == 202
    assert (again.json()["redelivery_of"], again.json()["status"]) == (delivery, "accepted")
    assert len(again.json()["runs"]) == 1
    once_more = await world.http.post(f"/api/v1/admin/webhooks/{again.json()['id']}/redeliver")
    assert "runs" not in once_more.json()
    await world.db.execute("DELETE FROM runs")
    provider = await send(world, "github", "push", push("later"))
    assert len(provider.json()["runs"]) == 1, "the provider's own redelivery does the same"
    assert (await world.http.post("/api/v1/admin/webhooks/4711/redeliver")).status_code == 404


async def test_what_nobody_signed_is_never_processed_again(world: World) -> None:
    await bind(world)
    await send(world, "github", "push", push(), secret="wrong")
    delivery = (await newest(world))["id"]
    assert (await world.http.post(f"/api/v1/admin/webhooks/{delivery}/redeliver")).status_code == 409
    assert not await runs(world)


async def test_strangers_do_not_fill_the_table(world: World) -> None:
    await world.db.execute(
        "INSERT INTO webhook_deliveries (provider, event, status, http_status, verified, headers, received_at)"
        " SELECT 'github', 'push', 'rejected', 401, FALSE, '{}', now() FROM generate_series(1, 1499)"
    )
    await send(world, "github", "push", push())
    kept = await world.db.fetchval("SELECT count(*) FROM webhook_deliveries")
    assert kept == 1000


async def test_a_pipeline_that_cannot_run_does_not_stop_the_others(world: World) -> None:
    await bind(world, waits("a"), waits("b"))
    await world.db.execute(
        "UPDATE pipeline_definitions d SET definition = jsonb_set(definition, '{stages}', '[]')"
        " FROM pipelines p WHERE p.id = d.pipeline_id AND p.name = 'a'"
    )
    answer = await send(world, "github", "push", push())
    assert (answer.status_code, len(answer.json()["runs"])) == (202, 1)
    assert any("no stages" in note["said"] for note in (await newest(world))["trace"])
    await world.db.execute("UPDATE pipeline_definitions SET definition = jsonb_set(definition, '{stages}', '[]')")
    world.runs._changes._definitions._kept.clear()
    answer = await send(world, "github", "push", push(sha=SHAS[0]))
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
    assert (await newest(world))["status"] == "error"


async def test_an_apply_in_the_middle_of_pushes(world: World) -> None:
    """Applies and pushes of one project lock the same rows: neither waits for the other for ever, no push is lost."""
    names = [f"p{n}" for n in range(5)]
    await bind(world, *map(waits, names))
    answers: list[int] = []

    async def pushes(number: int) -> None:
        answers.append((await send(world, "github", "push", push(sha=f"{number:040x}"))).status_code)

    async def applies() -> None:
        for turn in range(6):
            await bind(world, *(waits(name, on=["push", "tag"] if turn % 2 else ["push"]) for name in reversed(names)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(applies)
        for number in range(1, 41):
            nursery.start_soon(pushes, number)
    assert answers == [202] * 40
    per_pipeline = await world.db.fetch("SELECT count(*) AS n FROM runs GROUP BY pipeline_id")
    assert [row["n"] for row in per_pipeline] == [40] * 5
