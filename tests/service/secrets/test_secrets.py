"""Secrets in the database and in assignments: sealed at rest, a project's own before global ones, never silently missing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import trio_asyncio

from gocdnext.db.pool import open_pool
from gocdnext.errors import InvalidError, NotFoundError
from gocdnext.runs.creation import NewRun
from gocdnext.secrets import sealed
from gocdnext.secrets.sealing import KEY_BYTES, Keyring
from gocdnext.secrets.store import NewSecret, Secrets
from tests.scenarios.world import SLUG, World
from tests.secrets_room import KEY, secrets_of

VALUE = "hunter2-hunter2"
PIPELINE = {
    "p": {
        "stages": ["s"],
        "jobs": {
            "x": {"stage": "s", "script": ["x"], "secrets": ["TOKEN"], "variables": {"URL": "https://${{ TOKEN }}@x"}}
        },
    }
}


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with trio_asyncio.open_loop(), open_pool({"dsn": database_url}, size=2) as db:
        made = World(db)
        await made.set_up({"pipelines": PIPELINE})
        yield made


async def trigger(world: World, name: str = "p") -> UUID:
    pipeline_id, _ = await world.pipeline(name)
    created = await world.runs.create(NewRun(pipeline_id, "manual", "me"))
    await world.settle()
    return created.run_id


def other_server(world: World, *keys: bytes) -> Secrets:
    return secrets_of(world.db, lambda: world.now, keyring=Keyring(keys))


async def test_a_job_gets_the_secrets_it_lists_and_they_are_masked(world: World) -> None:
    await world.secrets.set(None, NewSecret("TOKEN", "the global one"))
    await world.secrets.set(SLUG, NewSecret("TOKEN", VALUE))
    await world.secrets.set(SLUG, NewSecret("OTHER", "not asked for"))
    await trigger(world)
    (sent,) = world.fleet.sent
    assert sent.env["TOKEN"] == VALUE
    assert sent.env["URL"] == f"https://{VALUE}@x"
    assert "OTHER" not in sent.env
    assert VALUE in sent.masks


async def test_a_global_secret_is_for_projects_without_one_of_that_name(world: World) -> None:
    await world.secrets.set(None, NewSecret("TOKEN", VALUE))
    await trigger(world)
    assert world.fleet.sent[0].env["TOKEN"] == VALUE


async def test_a_job_whose_secret_is_missing_fails_and_names_it(world: World) -> None:
    await trigger(world)
    _, job = await world.job("p#1/x")
    assert job.status == "failed"
    assert (job.error or "").startswith("secrets: no value for TOKEN")
    assert not world.fleet.sent


async def test_a_secret_under_a_key_that_is_gone_fails_the_job_with_what_to_do(world: World) -> None:
    await other_server(world, b"\7" * KEY_BYTES).set(SLUG, NewSecret("TOKEN", VALUE))
    await trigger(world)
    _, job = await world.job("p#1/x")
    assert job.status == "failed"
    assert "TOKEN: it was sealed with the key" in (job.error or "")
    assert VALUE not in (job.error or "")


async def test_later_jobs_and_notifications_have_their_secrets_too(world: World) -> None:
    await world.secrets.set(SLUG, NewSecret("TOKEN", VALUE))
    script = {"script": ["x"], "secrets": ["TOKEN"]}
    await world.do_apply(
        {
            "pipelines": {
                "two": {
                    "stages": ["a", "b"],
                    "jobs": {"one": script | {"stage": "a"}, "two": script | {"stage": "b"}},
                    "notifications": [{"on": "always", "uses": "n/a", "secrets": ["TOKEN"]}],
                }
            }
        }
    )
    await trigger(world, "two")
    for job in ("one", "two", "_notify_0"):
        await world.do_finish({"job": f"two#1/{job}", "result": "success"})
        await world.settle()
    assert [sent.env["TOKEN"] for sent in world.fleet.sent] == [VALUE] * 3
    assert (await world.run("two#1")).status == "success"


async def test_nothing_in_the_database_holds_the_value(world: World) -> None:
    await world.secrets.set(SLUG, NewSecret("TOKEN", VALUE))
    await trigger(world)
    rows = await world.db.fetch("SELECT t::text AS row FROM secrets t UNION ALL SELECT t::text FROM job_runs t")
    assert rows
    assert not any(VALUE in row["row"] or VALUE.encode().hex() in row["row"] for row in rows)


async def test_a_sealed_value_does_not_open_under_another_name(world: World) -> None:
    await world.secrets.set(SLUG, NewSecret("TOKEN", VALUE))
    await world.db.execute("UPDATE secrets SET name = 'STOLEN'")
    await world.do_apply(
        {"pipelines": {"t": {"stages": ["s"], "jobs": {"x": {"stage": "s", "script": ["x"], "secrets": ["STOLEN"]}}}}}
    )
    await trigger(world, "t")
    assert "damaged" in ((await world.job("t#1/x"))[1].error or "")


async def test_pages_show_names_and_what_is_inherited(world: World) -> None:
    assert await world.secrets.set(SLUG, NewSecret("B", VALUE))
    assert await world.secrets.set(SLUG, NewSecret("A", VALUE))
    assert not await world.secrets.set(SLUG, NewSecret("A", "changed"))
    await world.secrets.set(None, NewSecret("A", VALUE))
    await world.secrets.set(None, NewSecret("G", VALUE))
    page = await world.secrets.page(SLUG, 1, 0)
    assert ([row["name"] for row in page.secrets], page.total) == (["A"], 2)
    assert [row["name"] for row in page.inherited] == ["G"]
    assert [row["name"] for row in (await world.secrets.page(None, 9, 0)).secrets] == ["A", "G"]
    assert (await world.secrets.page(SLUG, 5, 1)).total == 2
    await world.secrets.delete(SLUG, "A")
    with pytest.raises(NotFoundError, match="secret not found"):
        await world.secrets.delete(SLUG, "A")
    assert [row["name"] for row in (await world.secrets.page(SLUG, 9, 0)).inherited] == ["A", "G"]


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (NewSecret(""), "name is required"),
        (NewSecret("1A"), "must match"),
        (NewSecret("A" * 65), "must match"),
        (NewSecret("A\n"), "must match"),
        (NewSecret("A", source="vault", ref_path="p", ref_key="k"), "not configured"),
        (NewSecret("A", source="magic"), 'unknown secret source "magic"'),
        (NewSecret("A", ref_path="p"), "takes no ref"),
        (NewSecret("A", "x\0y"), "NUL"),
    ],
)
async def test_what_cannot_be_kept_is_refused(world: World, new: NewSecret, message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        await world.secrets.set(SLUG, new)


async def test_everything_is_sealed_anew_when_the_key_changes(world: World) -> None:
    lost = other_server(world, b"\7" * KEY_BYTES)
    await lost.set(SLUG, NewSecret("LOST", VALUE))
    await world.secrets.set(SLUG, NewSecret("TOKEN", VALUE))
    await world.secrets.set(None, NewSecret("GLOBAL", "g"))
    new = b"\1" * KEY_BYTES
    done = await sealed.reseal(world.db, Keyring([new, KEY]))
    assert (done.done, [what.split()[-1] for what in done.unreadable]) == (2, ["LOST"])
    assert (await sealed.reseal(world.db, Keyring([new, KEY]))).done == 0
    world.runs._changes._secrets = other_server(world, new)
    await trigger(world)
    assert world.fleet.sent[0].env["TOKEN"] == VALUE


def test_a_new_secret_shows_no_value() -> None:
    assert VALUE not in repr(NewSecret("TOKEN", VALUE))
