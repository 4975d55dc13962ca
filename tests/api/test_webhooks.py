"""Webhooks: the front part (8.1), and everything a sender can do wrong (anchors E, 9)."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any
from urllib.parse import quote_plus

import pytest
import trio

from tests.api import hooks
from tests.api.hooks import SECRET, bind, example, headers, newest, push, runs, send
from tests.api.world import World


async def test_a_push_starts_a_run_and_its_first_job(world: World) -> None:
    agent = await world.agent_online()
    await bind(world)
    answer = await send(world, "github", "push", push(), delivery="guid-7")
    assert answer.status_code == 202
    body = answer.json()
    (run,) = await runs(world)
    assert body["runs"] == [str(run["id"])]
    detail = body["run_details"][0]
    assert (detail["run_id"], detail["run_counter"], detail["pipeline_id"]) == (
        str(run["id"]),
        1,
        str(run["pipeline_id"]),
    )
    assert body["materials"] == 1
    assert set(body) == {"runs", "run_details", "materials"}
    assert len(agent.jobs) == 1, "its first job is on the wire when the answer is written"
    assert (run["cause"], run["triggered_by"], run["ref"]) == ("webhook", "system:webhook", "master")
    modification = await world.db.fetchrow("SELECT * FROM modifications")
    assert modification is not None
    assert run["cause_detail"] == {
        "provider": "github",
        "delivery": "guid-7",
        "material_id": detail["material_id"],
        "modification_id": modification["id"],
    }
    assert run["revisions"] == {detail["material_id"]: {"revision": push()["after"], "branch": "master"}}
    assert (modification["author"], modification["message"]) == ("Codertocat", "Initial commit")
    assert modification["committed_at"].isoformat() == "2019-05-15T15:19:25+00:00"
    assert modification["run_id"] == run["id"]


async def test_a_generated_secret_is_told_once_and_works(world: World) -> None:
    first = await bind(world, secret="")
    secret = first["scm_source"]["generated_webhook_secret"]
    assert len(bytes.fromhex(secret)) == 32
    again = await bind(world, secret="")
    assert "generated_webhook_secret" not in again["scm_source"]
    assert (await send(world, "github", "push", push(), secret=secret)).status_code == 202
    given = await bind(world, secret="another")
    assert "generated_webhook_secret" not in given["scm_source"]
    assert (await send(world, "github", "push", push(), secret=secret)).status_code == 401
    assert (await send(world, "github", "push", push(), secret="another")).status_code == 202
    kept = await world.db.fetchval("SELECT webhook_secret FROM scm_sources")
    assert b"another" not in kept


@pytest.mark.parametrize("provider", ["github", "gitlab", "bitbucket"])
async def test_pushes_of_each_provider(world: World, provider: str) -> None:
    event = {"github": "push", "gitlab": "Push Hook", "bitbucket": "repo:push"}[provider]
    branch = "name-of-branch" if provider == "bitbucket" else "master"
    await bind(world, hooks.waits(url=hooks.REPOSITORIES[provider], branch=branch), provider=provider)
    payload = example(provider, event)
    answer = await send(world, provider, event, payload)
    assert answer.status_code == 202, answer.text
    (run,) = await runs(world)
    revision = next(iter(run["revisions"].values()))["revision"]
    head = payload["push"]["changes"][0]["new"]["target"]["hash"] if provider == "bitbucket" else payload["after"]
    assert revision == head
    again = await send(world, provider, event, payload)
    assert (again.status_code, again.json()["runs"]) == (202, [])
    wrong = await send(world, provider, event, payload, secret="wrong")
    assert wrong.status_code == 401
    assert wrong.json() == {"error": "invalid token" if provider == "gitlab" else "invalid signature"}
    assert len(await runs(world)) == 1
    bare = {name: value for name, value in headers(provider, event, b"{}").items() if "Event" not in name}
    missing = await world.http.post(f"/api/webhooks/{provider}", content=b"{}", headers=bare)
    named = {"github": "X-GitHub-Event", "gitlab": "X-Gitlab-Event", "bitbucket": "X-Event-Key"}[provider]
    assert (missing.status_code, missing.json()["error"]) == (400, f"missing {named} header")


async def test_bitbucket_signatures_may_come_bare(world: World) -> None:
    await bind(world, hooks.waits(url=hooks.REPOSITORIES["bitbucket"], branch="name-of-branch"), provider="bitbucket")
    body = json.dumps(example("bitbucket", "repo:push")).encode()
    signed = headers("bitbucket", "repo:push", body)
    signed["X-Hub-Signature"] = signed["X-Hub-Signature"].removeprefix("sha256=")
    assert (await world.http.post("/api/webhooks/bitbucket", content=body, headers=signed)).status_code == 202


@pytest.mark.parametrize(
    "signature",
    [None, "", "sha256=", "sha256=0", "sha1={good}", "{good}", "sha256={good}0", "sha256={short}", "SHA256={good}",
     "sha256={bad}", "sha256=é"],
)  # fmt: skip
async def test_wrong_signatures(world: World, signature: str | None) -> None:
    await bind(world)
    body = json.dumps(push()).encode()
    sent = headers("github", "push", body)
    good = sent.pop("X-Hub-Signature-256").removeprefix("sha256=")
    if signature is not None:
        made = signature.format(good=good, short=good[:-1], bad=good[::-1])
        sent["X-Hub-Signature-256"] = made.encode("latin-1")  # type: ignore[assignment]
    answer = await world.http.post("/api/webhooks/github", content=body, headers=sent)
    assert (answer.status_code, answer.json()) == (401, {"error": "invalid signature"})
    assert not await runs(world)
    kept = await newest(world)
    assert (kept["status"], kept["http_status"], kept["verified"]) == ("rejected", 401, False)
    assert kept["trace"][-1]["rule"] == "credential"


async def test_wrong_credentials_of_the_others(world: World) -> None:
    for provider, event in (("gitlab", "Push Hook"), ("bitbucket", "repo:push")):
        await bind(world, provider=provider, slug=provider)
        body = json.dumps(example(provider, event)).encode()
        good = headers(provider, event, body)
        name = "X-Gitlab-Token" if provider == "gitlab" else "X-Hub-Signature"
        right = good.pop(name)
        digest = right.removeprefix("sha256=")
        sha1 = hmac.new(SECRET.encode(), body, hashlib.sha1).hexdigest()
        wrong = [
            None,
            "",
            right[:-1],
            f"{right}0",
            right.upper(),
            "sha256=",
            f"sha1={digest}",
            sha1,
            f"sha1={sha1}",
            "null",
        ]
        for claimed in wrong:
            sent = good if claimed is None else {**good, name: claimed}
            # GitHub's header is not looked at here.
            sent = {**sent, "X-Hub-Signature-256": f"sha256={digest}"}
            answer = await world.http.post(f"/api/webhooks/{provider}", content=body, headers=sent)
            said = "invalid token" if provider == "gitlab" else "invalid signature"
            assert (answer.status_code, answer.json()) == (401, {"error": said}), claimed
    assert not await runs(world)


async def test_a_body_that_was_changed_on_the_way(world: World) -> None:
    await bind(world)
    body = json.dumps(push()).encode()
    signed = headers("github", "push", body)
    answer = await world.http.post("/api/webhooks/github", content=body + b" ", headers=signed)
    assert answer.status_code == 401


async def test_the_secret_of_another_repository(world: World) -> None:
    await bind(world)
    await bind(world, slug="other", url="https://github.com/other/repo", secret="the other secret")
    assert (await send(world, "github", "push", push(), secret="the other secret")).status_code == 401


async def test_one_repository_in_two_projects(world: World) -> None:
    await bind(world)
    await bind(world, slug="second", secret="second secret")
    answer = await send(world, "github", "push", push(), secret="second secret")
    assert len(answer.json()["runs"]) == 2
    assert len({run["pipeline_id"] for run in await runs(world)}) == 2


async def test_unknown_repositories_and_no_secret(world: World) -> None:
    answer = await send(world, "github", "push", push())
    assert (answer.status_code, answer.json()["error"]) == (401, "no scm_source registered for this repo")
    await bind(world)
    await world.db.execute("UPDATE scm_sources SET webhook_secret = NULL, webhook_key_id = NULL")
    answer = await send(world, "github", "push", push())
    assert (answer.status_code, answer.json()["error"]) == (401, "no webhook secret registered for this repo")
    empty = await send(world, "github", "push", push(), secret="")
    assert empty.status_code == 401, "no secret is not the empty secret"
    await world.db.execute("UPDATE scm_sources SET webhook_secret = '\\x00', webhook_key_id = 'gone'")
    answer = await send(world, "github", "push", push())
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
    assert (await newest(world))["status"] == "error"


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"not json", b"[]", b"{}", b'"x"', b'{"repository": 1}', b'{"repository": {"clone_url": 7}}',
     b'{"repository": {"clone_url": ""}}', b'{"repository": {"clone_url": "https://h/\\u0000"}}', b"\xff\xfe",
     b'{"repository": {"clone_url": "' + b"x" * 5000 + b'"}}', b"[" * 100_000, b'{"a":' * 50_000,
     b'{"zen": "an organisation pings", "hook": {}}', b'{"repository": {"clone_url": "\\ud800"}}'],
)  # fmt: skip
async def test_bodies_without_a_repository(world: World, body: bytes) -> None:
    await bind(world)
    answer = await send(world, "github", "push", body)
    assert (answer.status_code, answer.json()) == (400, {"error": "invalid payload: repository.clone_url required"})
    kept = await newest(world)
    assert kept["status"] == "rejected"
    assert len(json.dumps(kept["payload"])) < 60_000


async def test_deep_json_of_a_known_sender(world: World) -> None:
    await bind(world)
    for depth in (200, 300, 900, 5000):
        deep = "[" * depth + "]" * depth
        body = json.dumps(push(sha=f"{depth:040x}"))[:-1] + f', "deep": {deep}}}'
        answer = await send(world, "github", "push", body.encode())
        assert answer.status_code == (400 if depth > 1000 else 202), answer.text


async def test_a_body_of_30_megabytes(world: World) -> None:
    await bind(world)
    body = json.dumps(push(padding="x" * 30_000_000)).encode()
    answer = await send(world, "github", "push", body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("read body: ")
    assert await world.db.fetchval("SELECT count(*) FROM webhook_deliveries") == 0
    big = await send(world, "github", "push", push(padding="x" * 4_900_000))
    assert big.status_code == 202


async def test_a_flood_of_headers(world: World) -> None:
    await bind(world)
    body = json.dumps(push()).encode()
    flood = headers("github", "push", body) | {f"X-Flood-{n}": "x" * 30 for n in range(500)}
    assert (await world.http.post("/api/webhooks/github", content=body, headers=flood)).status_code == 202
    assert len((await newest(world))["headers"]) < 12
    flood = headers("github", "push", body) | {f"X-Flood-{n}": "x" * 1000 for n in range(1000)}
    refused = await world.http.post("/api/webhooks/github", content=body, headers=flood)
    assert refused.status_code in (400, 431)
    assert (await send(world, "github", "push", push())).status_code == 202


async def test_long_names_are_cut(world: World) -> None:
    await bind(world)
    body = json.dumps(push()).encode()
    sent = headers("github", "e" * 3000, body, delivery="d" * 3000) | {"User-Agent": "u" * 3000}
    assert (await world.http.post("/api/webhooks/github", content=body, headers=sent)).status_code == 204
    kept = await newest(world)
    assert len(kept["event"]) == len(kept["delivery"]) == 255
    assert len(kept["headers"]["User-Agent"]) == 512


@pytest.mark.parametrize("event", ["ping", "create", "pull_request_review"])
async def test_events_that_start_nothing(world: World, event: str) -> None:
    await bind(world, url=example("github", event)["repository"]["clone_url"])
    answer = await send(world, "github", event, example("github", event))
    assert (answer.status_code, answer.content) == (204, b"")
    assert "Content-Type" not in answer.headers
    assert (await newest(world))["status"] == "ignored"
    assert (await send(world, "github", event, example("github", event), secret="wrong")).status_code == 401


@pytest.mark.parametrize(
    ("provider", "event", "name"),
    [
        ("github", "brand_new_event", "push"),
        ("gitlab", "Issue Hook", "Issue Hook"),
        ("bitbucket", "repo:fork", "repo:fork"),
    ],
)
async def test_unknown_events(world: World, provider: str, event: str, name: str) -> None:
    payload = example(provider, name)
    url = payload["project"]["git_http_url"] if provider == "gitlab" else ""
    await bind(world, provider=provider, url=url)
    assert (await send(world, provider, event, payload)).status_code == 204


@pytest.mark.parametrize(
    "change",
    [{"ref": None}, {"ref": 7}, {"ref": "refs/notes/x"}, {"ref": "master"}, {"ref": "refs/heads/a\nb"}, {"ref": "refs/heads/"},
     {"ref": "refs/heads/--upload-pack=touch /tmp/x"}, {"ref": "refs/heads/../x"}, {"ref": "refs/heads/" + "x" * 4000},
     {"after": "HEAD"}, {"after": "--help"}, {"after": 7}, {"after": ""}, {"after": "A" * 40}, {"deleted": "yes"},
     {"head_commit": []}, {"head_commit": {"message": 7}}, {"commits": {}}, {"commits": [7]}, {"commits": [{"added": "a"}]},
     {"repository": {"clone_url": hooks.GITHUB_REPO}}],
)  # fmt: skip
async def test_pushes_of_the_wrong_shape(world: World, change: dict[str, Any]) -> None:
    await bind(world)
    answer = await send(world, "github", "push", push() | change)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"].startswith("invalid push payload: ")
    kept = await newest(world)
    assert (kept["status"], kept["verified"]) == ("error", True)
    assert not await runs(world)


async def test_texts_that_no_database_takes(world: World) -> None:
    await bind(world)
    payload = push()
    payload["head_commit"]["message"] = "a\0b \\u0000 \\\\"
    payload["head_commit"]["author"]["name"] = "\0" * 3000
    payload["head_commit"]["timestamp"] = "9999-12-31T23:59:59-14:00"
    assert (await send(world, "github", "push", payload)).status_code == 202
    assert (await newest(world))["payload"]["head_commit"]["message"] == "a\ufffdb \\u0000 \\\\"


async def test_forms(world: World) -> None:
    await bind(world)
    body = f"payload={quote_plus(json.dumps(push()))}".encode()
    sent = headers("github", "push", body) | {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await world.http.post("/api/webhooks/github", content=body, headers=sent)).status_code == 202
    for content in (b"payload=", b"other=1", b"%", b"\xff"):
        sent = headers("github", "push", content) | {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await world.http.post("/api/webhooks/github", content=content, headers=sent)).status_code == 400


async def test_the_same_delivery_a_hundred_times_at_once(world: World) -> None:
    await bind(world)
    answers: list[int] = []

    async def once() -> None:
        answers.append((await send(world, "github", "push", push())).status_code)

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(once)
    assert answers == [202] * 100
    assert len(await runs(world)) == 1


async def test_a_thousand_pushes_at_once_lose_none_and_make_none_twice(world: World) -> None:
    await bind(world)
    limiter = trio.CapacityLimiter(32)
    made: list[str] = []

    async def once(number: int) -> None:
        async with limiter:
            answer = await send(world, "github", "push", push(sha=f"{number:040x}"), delivery=str(number))
        assert answer.status_code == 202
        made.extend(answer.json()["runs"])

    async with trio.open_nursery() as nursery:
        for number in range(1, 1001):
            nursery.start_soon(once, number)
            nursery.start_soon(once, number)
    assert len(made) == len(set(made)) == 1000
    counters = await world.db.fetch("SELECT counter FROM runs ORDER BY counter")
    assert [row["counter"] for row in counters] == list(range(1, 1001))


async def test_the_routes_are_open_to_providers_only(guarded: World) -> None:
    guarded.http.headers["Authorization"] = "Bearer operator-token-for-tests"
    await bind(guarded)
    del guarded.http.headers["Authorization"]
    assert (await send(guarded, "github", "push", push())).status_code == 202
    assert (await guarded.http.get("/api/v1/admin/webhooks")).status_code == 401
    assert (await guarded.http.get("/api/v1/admin/webhooks/1")).status_code == 401
    assert (await guarded.http.post("/api/v1/admin/webhooks/1/redeliver")).status_code == 401
    assert (await guarded.http.get("/api/webhooks/github")).status_code == 405
    assert (await guarded.http.post("/api/webhooks/gitea")).status_code == 404


async def test_no_secret_is_kept_or_told(world: World) -> None:
    await bind(world, provider="gitlab")
    payload = example("gitlab", "Push Hook") | {
        "runners_token": "glrt-very-secret",
        "nested": [{"password": "hunter2", "url": "https://user:pa55@h/x"}],
    }
    assert (await send(world, "gitlab", "Push Hook", payload)).status_code == 202
    shown = json.dumps(await newest(world))
    kept = await world.db.fetchval("SELECT headers::text || payload::text FROM webhook_deliveries")
    for text in (shown, kept):
        assert not [secret for secret in (SECRET, "glrt-very-secret", "hunter2", "pa55") if secret in text]
    assert "da1560886d4f094c3e6c9ef40349f7d38b5d27d7" in kept
