"""The audit trail: one event for every request that changes something, and how it is read (contract-admin 7.3)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio
import trio_asyncio
from quart import Blueprint, Response
from structlog.testing import capture_logs

from gocdnext import audit
from gocdnext.api import trail
from gocdnext.api.routing import SAFE, Rule, route
from gocdnext.auth.roles import MINIMUM
from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database, open_pool
from tests.api.crowd import ADMIN, PASSWORD, cookie_of, local, person, sign_in
from tests.api.test_conventions import error
from tests.api.test_environments import FREEZE, JOBS
from tests.api.test_runs import get, one_run
from tests.api.world import World, pipeline, repository
from tests.service.projects.test_plans import scanned

PATH = "/api/v1/admin/audit"
VALUE = "hunter2-is-the-value"


async def events(world: World, **params: Any) -> Any:
    return (await get(world, PATH, **params))["events"]


SAID_ELSEWHERE = {"PUT /artifacts/<token>"} | {
    f"POST /api/webhooks/{name}" for name in ("github", "gitlab", "bitbucket", "github/app")
}
"""The story of a run, and deliveries that have rows of their own."""
NOTHING_TO_DO = {
    "DELETE /api/v1/admin/users/<user_id>",
    "DELETE /api/v1/admin/service-accounts/<account_id>",
    "DELETE /api/v1/admin/groups/<group_id>",
    "DELETE /api/v1/admin/scm-credentials/<credential_id>",
    "POST /auth/logout",
}
"""Without such a thing they are answered as done, and nothing was."""


def mutations(world: World) -> Iterator[tuple[str, Rule]]:
    assert world.app is not None
    for rule in world.app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - SAFE):
            assert isinstance(rule, Rule)
            yield method, rule


def filled(rule: Rule) -> str:
    return re.sub(r"<\w+>", lambda _: str(uuid4()), rule.rule)


async def test_every_mutation_leaves_one_event(world: World) -> None:
    seen = set()
    for method, rule in mutations(world):
        before = await world.db.fetchval("SELECT count(*) FROM audit_events")
        answer = await world.http.request(method, filled(rule), content=b"{")
        after = await world.db.fetchval("SELECT count(*) FROM audit_events")
        name = f"{method} {rule.rule}"
        if name in SAID_ELSEWHERE:
            assert (rule.audited, after) == (None, before)
            continue
        seen.add(name)
        if name in NOTHING_TO_DO:
            assert (answer.status_code, after) == (204, before), name
            continue
        assert after == before + 1, name
        row = await world.db.fetchrow("SELECT * FROM audit_events ORDER BY at DESC, id DESC LIMIT 1")
        world.now += timedelta(seconds=1)
        assert row is not None
        assert rule.audited is not None
        outcome = "done" if answer.is_success else "refused"
        assert (row["action"], row["outcome"], row["status"]) == (rule.audited.action, outcome, answer.status_code)
    assert seen == {name for name in MINIMUM if name.split()[0] not in SAFE} - SAID_ELSEWHERE


async def test_nothing_else_leaves_one(world: World) -> None:
    await world.http.get("/api/v1/runs")
    await world.http.post("/api/v1/nowhere")
    await world.http.patch("/api/v1/runs")
    await world.http.options("/api/v1/projects/apply")
    assert await events(world) == []


def test_a_mutation_must_say_what_it_is() -> None:
    async def handler() -> Response:
        raise AssertionError

    with pytest.raises(LookupError, match="audit trail"):
        route(Blueprint("b", __name__), "POST", "/api/v1/projects/apply")(handler)


async def test_what_is_told_of_runs_and_jobs(world: World) -> None:
    pipeline_id, run_id = await one_run(world)
    (told,) = await events(world, action="run.trigger")
    assert told == {
        "id": told["id"],
        "action": "run.trigger",
        "target_type": "pipeline",
        "target_id": pipeline_id,
        "metadata": {"run_id": run_id, "counter": 1},
        "at": "2026-04-28T13:00:00Z",
        "outcome": "done",
        "status": 202,
        "address": "127.0.0.1",
        "request_id": told["request_id"],
    }
    applied = (await events(world, action="project.apply"))[0]
    assert (applied["target_type"], applied["target_id"]) == ("project", "billing")
    assert applied["metadata"] == {"project_created": True, "pipelines": 1, "pipelines_removed": 0}
    agent = await world.agent_online()
    await world.runs.dispatch(UUID(run_id))
    job = (await get(world, f"/api/v1/runs/{run_id}"))["stages"][0]["jobs"][0]
    assert (await world.http.post(f"/api/v1/job_runs/{job['id'].upper()}/cancel")).status_code == 202
    told = (await events(world, action="job.cancel"))[0]
    assert told["target_id"] == job["id"]
    assert told["metadata"] == {"run_id": run_id, "job_name": "compile", "signaled": True, "deferred": False}
    assert (await world.http.post(f"/api/v1/runs/{run_id}/cancel")).status_code == 204
    assert (await events(world, action="run.cancel"))[0]["metadata"] == {"signaled_jobs": 1}
    await world.finish_jobs(agent, run_id, "failed")
    assert (await world.http.post(f"/api/v1/job_runs/{job['id']}/rerun")).status_code == 202
    assert (await events(world, action="job.rerun"))[0]["metadata"] == {"run_id": run_id, "attempt": 1}


async def test_the_target_of_a_rerun_is_the_new_run(world: World, tmp_path: Path) -> None:
    repository(tmp_path / "repo", {"a.txt": "1"})
    scm = {"provider": "manual", "url": str(tmp_path / "repo")}
    made = await world.apply(scm_source=scm, files={"ci.yaml": pipeline("ci", materials=[])})
    run_id = await world.trigger(made["pipelines"][0]["pipeline_id"])
    assert (await world.http.post(f"/api/v1/runs/{run_id}/rerun")).status_code == 409
    assert (await world.http.post(f"/api/v1/runs/{run_id}/cancel")).status_code == 204
    rerun = (await world.http.post(f"/api/v1/runs/{run_id}/rerun")).json()
    found = {event["outcome"]: event for event in await events(world, action="run.rerun")}
    assert (found["refused"]["target_id"], found["refused"]["metadata"]) == (run_id, {})
    assert (found["done"]["target_id"], found["done"]["metadata"]) == (rerun["id"], {"rerun_of": run_id, "counter": 2})


async def test_what_is_told_of_gates_and_freezes(world: World) -> None:
    made = await world.apply(files={"ci.yaml": pipeline("ci", stages=["gate", "live"], jobs=JOBS)})
    run_id = await world.trigger(made["pipelines"][0]["pipeline_id"])
    gate = (await get(world, f"/api/v1/runs/{run_id}"))["stages"][0]["jobs"][0]["id"]
    await world.http.put(FREEZE, json={"reason": "release week"})
    await world.http.post(f"/api/v1/job_runs/{gate}/approve")
    await world.http.delete(FREEZE)
    await world.http.post(f"/api/v1/job_runs/{gate}/approve")
    environment = f"{made['project_id']}:production"
    found = {
        (event["action"], event["outcome"], event["target_id"]): event["metadata"]
        for event in await events(world)
        if event["target_type"] in ("environment", "job_run")
    }
    assert found == {
        ("environment.freeze", "done", environment): {"slug": "billing", "reason": "release week"},
        ("environment.unfreeze", "done", environment): {"slug": "billing"},
        ("approval.approve", "refused", gate): {},
        ("approval.approve", "done", gate): {
            "run_id": run_id,
            "stage_completed": True,
            "stage_status": "success",
            "run_completed": False,
            "run_status": "",
        },
    }


async def test_what_is_told_of_secrets_and_agents_is_never_a_secret(world: World) -> None:
    await world.apply()
    secrets = "/api/v1/projects/billing/secrets"
    assert (await world.http.post(secrets, json={"name": "KEY", "value": VALUE})).status_code == 201
    assert (await world.http.post(secrets, json={"name": "bad name", "value": VALUE})).status_code == 400
    assert (await world.http.delete(f"{secrets}/KEY")).status_code == 204
    assert (await world.http.post("/api/v1/admin/secrets", json={"name": "ALL", "value": VALUE})).status_code == 201
    assert (await world.http.delete("/api/v1/admin/secrets/ALL")).status_code == 204
    made = (await world.http.post("/api/v1/agents", json={"name": "runner"})).json()
    for verb in ("token", "disable", "enable"):
        assert (await world.http.post(f"/api/v1/agents/{made['id']}/{verb}")).is_success
    assert (await world.http.post("/api/v1/agents", json={"name": "runner"})).status_code == 409
    found = {
        (event["action"], event["outcome"]): (event.get("target_id", ""), event["metadata"])
        for event in await events(world)
    }
    del found["project.apply", "done"]
    assert found == {
        ("secret.set", "done"): (
            "billing/KEY",
            {"slug": "billing", "name": "KEY", "source": "db", "created": True},
        ),
        ("secret.set", "refused"): ("billing/bad name", {"slug": "billing", "name": "bad name", "source": "db"}),
        ("secret.delete", "done"): ("billing/KEY", {"slug": "billing", "name": "KEY"}),
        ("global_secret.set", "done"): ("ALL", {"name": "ALL", "source": "db", "created": True}),
        ("global_secret.delete", "done"): ("ALL", {"name": "ALL"}),
        ("agent.create", "done"): (made["id"], {"name": "runner"}),
        ("agent.create", "refused"): ("", {"name": "runner"}),
        ("agent.token", "done"): (made["id"], {}),
        ("agent.disable", "done"): (made["id"], {}),
        ("agent.enable", "done"): (made["id"], {}),
    }
    stored = await world.db.fetchval("SELECT string_agg(e::text, E'\\n') FROM audit_events e")
    assert VALUE not in stored
    assert made["token"] not in stored


async def test_who_it_was_and_who_may_read_it(guarded: World) -> None:
    vera = await person(guarded, "viewer", "vera@acme.example")
    max_ = await person(guarded, "maintainer", "max@acme.example")
    cancel = f"/api/v1/runs/{uuid4()}/cancel"
    for headers, status in ((vera.headers, 403), (max_.headers, 404), ({}, 401)):
        guarded.now += timedelta(seconds=1)
        assert (await guarded.http.post(cancel, headers=headers)).status_code == status
    assert error(await guarded.http.get(PATH), 401) == "not authenticated"
    for who in (vera, max_):
        assert error(await guarded.http.get(PATH, headers=who.headers), 403) == "forbidden"
    guarded.http.headers.update(ADMIN)
    found = await events(guarded)
    assert [(event["status"], event.get("actor_email")) for event in found] == [
        (401, None),
        (404, "max@acme.example"),
        (403, "vera@acme.example"),
    ]
    assert {event["outcome"] for event in found} == {"refused"}
    assert found[2]["actor_id"] == str(vera.id)
    assert [event["status"] for event in await events(guarded, actor_id=max_.id)] == [404]
    assert [event["status"] for event in await events(guarded, actor="VERA@")] == [403]
    assert await events(guarded, actor="%") == []
    await guarded.http.post("/api/v1/agents", json={"name": "runner"})
    (made,) = await events(guarded, actor="operator")
    assert (made["actor_name"], "actor_id" in made, "actor_email" in made) == ("operator", False, False)


async def test_what_is_told_of_people(guarded: World) -> None:
    rita = (await local(guarded))["id"]
    await guarded.http.post("/auth/logout", headers=cookie_of(await sign_in(guarded, "rita@acme.example")))
    await guarded.http.post("/auth/logout")
    wrong = {"email": "rita@acme.example", "password": "not " + PASSWORD}
    assert (await guarded.http.post("/auth/login/local", json=wrong)).status_code == 401
    guarded.http.headers.update(ADMIN)
    users, machines = "/api/v1/admin/users", "/api/v1/admin/service-accounts"
    assert (await guarded.http.put(f"{users}/{rita}/role", json={"role": "viewer"})).is_success
    assert (await guarded.http.delete(f"{users}/{rita}")).is_success
    bot = (await guarded.http.post(machines, json={"name": "bot", "role": "viewer"})).json()["id"]
    made = (await guarded.http.post(f"{machines}/{bot}/tokens", json={"name": "ci"})).json()
    token = made["token"]["id"]
    assert (await guarded.http.delete(f"{machines}/{bot}/tokens/{token}")).is_success
    found = {
        (event["action"], event["outcome"]): (event.get("target_id"), event["metadata"])
        for event in await events(guarded)
    }
    assert found == {
        ("user.create", "done"): (rita, {"email": "rita@acme.example", "role": "maintainer"}),
        ("session.login", "done"): (rita, {"email": "rita@acme.example"}),
        ("session.login", "refused"): (None, {"email": "rita@acme.example"}),
        ("session.logout", "done"): (rita, {}),
        ("user.role_change", "done"): (rita, {"email": "rita@acme.example", "from": "maintainer", "to": "viewer"}),
        ("user.delete", "done"): (rita, {}),
        ("service_account.create", "done"): (bot, {"name": "bot", "role": "viewer"}),
        ("service_account_token.create", "done"): (token, {"service_account_id": bot, "name": "ci"}),
        ("api_token.revoke", "done"): (token, {"subject": "service_account", "service_account_id": bot}),
    }
    stored = await guarded.db.fetchval("SELECT string_agg(e::text, E'\\n') FROM audit_events e")
    assert PASSWORD not in stored
    assert made["plaintext"] not in stored


async def test_what_is_told_of_projects(world: World) -> None:
    await world.apply()
    assert (await world.http.post("/api/v1/projects/billing/run-all")).status_code == 202
    assert (await world.http.delete("/api/v1/projects/billing")).status_code == 200
    (fired,) = await events(world, action="project.run_all")
    assert (fired["target_id"], fired["metadata"]) == ("billing", {"slug": "billing", "fired": 1, "total": 1})
    (gone,) = await events(world, action="project.delete")
    assert gone["metadata"] == {
        "pipelines_deleted": 1,
        "runs_deleted": 1,
        "secrets_deleted": 0,
        "scm_sources_deleted": 0,
    }


async def test_strangers_cannot_fill_the_trail(guarded: World) -> None:
    for _ in range(trail.STRANGERS + 5):
        assert (await guarded.http.post("/api/v1/projects/apply")).status_code == 401
    guarded.http.headers.update(ADMIN)
    assert (await get(guarded, PATH))["total"] == trail.STRANGERS


async def test_filters_and_pages(world: World) -> None:
    ids = [str(uuid4()) for _ in range(5)]
    for run_id in ids:
        await world.http.post(f"/api/v1/runs/{run_id}/cancel")
        world.now += timedelta(hours=12)
    await world.http.post("/api/v1/agents", json={"name": "runner"})
    everything = [event.get("target_id") for event in await events(world)]
    assert everything[1:] == ids[::-1]
    page = await get(world, PATH, limit=2, offset=1, action="run.cancel")
    assert [event["target_id"] for event in page["events"]] == [ids[3], ids[2]]
    assert (page["total"], page["limit"], page["offset"]) == (5, 2, 1)
    assert (await get(world, PATH, limit=1000))["limit"] == 500
    for params, wanted in (
        ({"target_type": "agent"}, 1),
        ({"target_id": ids[0]}, 1),
        ({"outcome": "done"}, 1),
        ({"from": "2026-04-29"}, 5),
        ({"to": "2026-04-29"}, 1),
        ({"from": "2026-04-29T01:00:00Z", "to": "2026-04-30T13:00:00+00:00"}, 3),
        ({"since": "2026-04-29", "from": "2026-04-30T01:00:00.000Z"}, 3),
        ({"since": "2026-04-30T01:00:00+00:00", "from": "2026-04-29"}, 3),
        ({"action": "nothing"}, 0),
    ):
        assert (await get(world, PATH, **params))["total"] == wanted, params


async def test_bad_parameters(world: World) -> None:
    for params, message in (
        ({"actor_id": "7"}, "actor_id must be a UUID"),
        ({"from": "yesterday"}, "from must be RFC3339 or YYYY-MM-DD"),
        ({"to": "2026-02-30"}, "to must be RFC3339 or YYYY-MM-DD"),
        ({"since": "2026-04-28T13:00:00"}, "since must be RFC3339 or YYYY-MM-DD"),
        ({"since": "0001-01-01T00:00:00+10:00"}, "since must be RFC3339 or YYYY-MM-DD"),
        ({"limit": "0"}, "limit must be a positive integer"),
        ({"limit": "x"}, "limit must be a positive integer"),
        ({"offset": "-1"}, "offset must be >= 0"),
    ):
        assert error(await world.http.get(PATH, params=params), 400) == message


async def test_reading_stays_on_indexes(world: World) -> None:
    actor = uuid4()
    await world.db.execute(
        "INSERT INTO audit_events SELECT gen_random_uuid(), $1::timestamptz - n * interval '1 minute',"
        " CASE WHEN n % 1000 = 0 THEN $2::uuid END, '', 'n', CASE WHEN n % 1000 = 1 THEN 'a' ELSE 'b' END, 't',"
        " n::text, 'done', 200, '', '', '{}' FROM generate_series(1, 20000) AS n",
        world.now,
        actor,
    )
    await world.db.execute("ANALYZE audit_events")
    sql = queries.load("audit")
    nothing = dict.fromkeys(("action", "type", "target", "outcome", "actor_id", "actor", "since", "until"))
    for chosen in (
        {},
        {"action": "a"},
        {"target": "77"},
        {"actor_id": actor},
        {"since": world.now - timedelta(hours=1)},
    ):
        by = (nothing | chosen).values()
        for statement, more in ((sql.page, (100, 0)), (sql.total, ())):
            if statement == sql.total and not chosen:
                continue  # to count all is to read all
            explained = await world.db.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *by, *more)
            assert not list(scanned(json.loads(explained)[0]["Plan"])), chosen


async def test_events_are_bounded(world: World) -> None:
    await world.http.post("/api/v1/agents", json={"name": "n" * 10_000 + "\0"})
    await world.http.post(f"/api/v1/agents/{'x' * 5000}/disable")
    found = await events(world)
    assert sorted(len(event.get("target_id", "")) for event in found) == [0, audit.MAX_TEXT]
    assert max(len(event["metadata"].get("name", "")) for event in found) == audit.MAX_TEXT


async def test_the_id_of_the_request_finds_its_event(world: World) -> None:
    answer = await world.http.post("/api/v1/agents", json={"name": "runner"})
    assert [event["request_id"] for event in await events(world)] == [answer.headers["X-Request-Id"]]


async def test_addresses(world: World) -> None:
    """The proxy on this machine is believed, and only the last word of it."""
    await world.http.post("/api/v1/agents", headers={"X-Forwarded-For": "6.6.6.6, 192.0.2.7"})
    await world.http.post("/api/v1/agents", headers={"X-Real-IP": "2001:db8::1", "Remote-Addr": "6.6.6.6"})
    await world.http.post("/api/v1/agents", headers={"X-Forwarded-For": "<script>"})
    assert {event["address"] for event in await events(world)} == {"192.0.2.7", "2001:db8::1", "127.0.0.1"}


async def test_an_answer_does_not_need_the_trail(world: World) -> None:
    """What was done is answered as done, and the event is in the log."""
    await world.apply()
    await world.db.execute("ALTER TABLE audit_events RENAME TO elsewhere")
    await unwritten(world)
    await world.db.execute("ALTER TABLE elsewhere RENAME TO audit_events")
    assert [event["action"] for event in await events(world)] == ["project.apply"]


async def test_an_answer_does_not_wait_for_the_trail(
    world: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "RECORD_WITHIN", 0.5)
    await world.apply()
    async with open_pool({"dsn": database_url}, size=1) as other, holding(other, "LOCK audit_events"):
        await unwritten(world)
    assert [event["action"] for event in await events(world)] == ["project.apply"]


async def unwritten(world: World) -> None:
    """Does something whose event cannot be written."""
    with capture_logs() as logs:
        answer = await world.http.post("/api/v1/projects/billing/secrets", json={"name": "KEY", "value": VALUE})
    assert answer.status_code == 201
    (line,) = [line for line in logs if line["event"] == "audit event not written"]
    assert (line["action"], line["target"], line["outcome"]) == ("secret.set", "billing/KEY", "done")
    assert VALUE not in str(logs)


@contextlib.asynccontextmanager
async def holding(db: Database, statement: str) -> AsyncIterator[None]:
    """A transaction that has done this and goes on until it is taken back."""
    done, over = asyncio.Event(), asyncio.Event()

    async def work(conn: Connection) -> None:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute(statement)
        done.set()
        await over.wait()
        await transaction.rollback()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(db.run, work)
        await trio_asyncio.aio_as_trio(done.wait)()
        yield
        over.set()


async def test_a_caller_that_leaves_leaves_its_trace(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, run_id = await one_run(world)
    cancel, done = type(world.runs).cancel_run, trio.Event()

    async def slow(self: Any, run: UUID) -> int:
        await cancel(self, run)
        done.set()
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(type(world.runs), "cancel_run", slow)
    stream = await trio.open_tcp_stream("127.0.0.1", world.port)
    await stream.send_all(
        f"POST /api/v1/runs/{run_id}/cancel HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
    )
    await done.wait()
    await stream.aclose()
    with trio.fail_after(20):
        while not (found := await events(world, action="run.cancel")):
            await trio.lowlevel.checkpoint()
    assert (found[0]["outcome"], found[0]["target_id"], "status" in found[0]) == ("unknown", run_id, False)
