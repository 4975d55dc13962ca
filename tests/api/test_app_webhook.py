"""Somebody asks at GitHub for a check to be run again (contract-admin 8.8)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.api.hooks import SECRET, headers, newest
from tests.api.test_conventions import error
from tests.api.test_reporting import Stage, staged
from tests.forge import APP_ID, INSTALLATION, pem

PATH = "/api/webhooks/github/app"


@pytest.fixture
async def app(database_url: str, tmp_path: Path) -> AsyncIterator[Stage]:
    variables = {
        "GOCDNEXT_GITHUB_APP_ID": str(APP_ID),
        "GOCDNEXT_GITHUB_APP_PRIVATE_KEY": pem(),
        "GOCDNEXT_GITHUB_APP_API_BASE": "THERE/api/v3",
        "GOCDNEXT_GITHUB_APP_WEBHOOK_SECRET": SECRET,
    }
    async with staged(database_url, tmp_path, **variables) as stage:
        yield stage


def asked(run: str, **more: Any) -> dict[str, Any]:
    """The delivery that GitHub's documentation describes, as far as it is read."""
    return {
        "action": "rerequested",
        "check_run": {"id": 1000, "external_id": run, "app": {"id": APP_ID}},
        "repository": {"name": "Shop", "owner": {"login": "Acme"}},
        "installation": {"id": INSTALLATION},
    } | more


async def deliver(
    app: Stage, payload: object, *, event: str = "check_run", name: str = "d-1", secret: str = SECRET
) -> httpx.Response:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signed = {key: value for key, value in headers("github", event, body, secret, name).items() if value}
    return await app.world.http.post(PATH, content=body, headers=signed)


async def reported(app: Stage) -> str:
    """A finished run that GitHub knows."""
    await app.bound()
    run = await app.pushed()
    await app.finished(run, "failed")
    await app.reporter.once()
    return run


async def count(app: Stage) -> int:
    found: int = await app.world.db.fetchval("SELECT count(*) FROM runs")
    return found


async def test_a_check_is_run_again_once(app: Stage) -> None:
    run = await reported(app)
    statuses: list[int] = []

    async def one() -> None:
        statuses.append((await deliver(app, asked(run))).status_code)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one)
    assert statuses == [204] * 5
    assert await count(app) == 2
    row = await app.world.db.fetchrow("SELECT * FROM runs ORDER BY counter DESC LIMIT 1")
    assert row is not None
    assert (row["triggered_by"], row["cause"]) == ("github:rerun:d-1", "webhook")
    page = (await app.world.http.get("/api/v1/admin/webhooks?provider=github_app")).json()["deliveries"]
    assert sorted(entry["status"] for entry in page) == ["accepted", *["ignored"] * 4]
    (event,) = (await app.world.http.get("/api/v1/admin/audit?action=run.rerun")).json()["events"]
    assert event["target_id"] == str(row["id"])
    assert event["metadata"] == {"rerun_of": run, "counter": 2, "cause": "github_rerun", "delivery": "d-1"}
    accepted = next(entry["id"] for entry in page if entry["status"] == "accepted")
    again = await app.world.http.post(f"/api/v1/admin/webhooks/{accepted}/redeliver")
    assert "only be sent again from there" in error(again, 409)
    # The run is open now: it is not repeated a second time.
    assert (await deliver(app, asked(str(row["id"])), name="d-2")).status_code == 204
    assert await count(app) == 2


async def test_what_is_no_check_of_ours_repeats_nothing(app: Stage) -> None:
    run = await reported(app)
    other = "00000000-0000-4000-8000-000000000000"
    wrong = [
        asked(run, check_run={"id": 1001, "external_id": run}),
        asked(run, installation={"id": 1}),
        asked(run, installation=None),
        asked(run, repository={"name": "shop", "owner": {"login": "evil"}}),
        asked(run, repository=None),
        asked(other),
        asked("not an id"),
        asked(run, action="completed"),
    ]
    for number, payload in enumerate(wrong):
        assert (await deliver(app, payload, name=f"w-{number}")).status_code == 204
        assert (await newest(app.world))["status"] == "ignored"
        app.world.now = app.world.now.replace(second=number + 1)
    assert (await deliver(app, {"hook": {"app_id": APP_ID}}, event="ping")).status_code == 204
    assert (await deliver(app, {}, event="check_suite")).status_code == 204
    assert await count(app) == 1


async def test_who_is_refused(app: Stage) -> None:
    run = await reported(app)
    assert error(await deliver(app, asked(run), secret="wrong"), 401) == "invalid signature"
    assert error(await deliver(app, asked(run), name=""), 400) == "missing X-GitHub-Delivery header"
    assert error(await deliver(app, asked(run), event=""), 400) == "missing X-GitHub-Event header"
    assert error(await deliver(app, asked(run, check_run={"id": "x"})), 400) == "invalid check_run payload"
    assert error(await deliver(app, b"{", secret="x"), 401) == "invalid signature"
    assert error(await deliver(app, b"x" * (5 * 2**20 + 1)), 400).startswith("read body")
    unsigned = await app.world.http.post(
        PATH, json=asked(run), headers={"X-GitHub-Event": "check_run", "X-GitHub-Delivery": "d"}
    )
    assert error(unsigned, 401) == "invalid signature"
    assert await count(app) == 1


async def test_without_an_app_nobody_is_believed(database_url: str, tmp_path: Path) -> None:
    async with staged(database_url, tmp_path) as stage:
        assert error(await deliver(stage, asked("x")), 401) == "unknown or unconfigured github app"
