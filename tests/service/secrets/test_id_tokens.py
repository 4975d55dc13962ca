"""Identity tokens of jobs, from the pipeline file to what a verifier sees, and what must never get one (contract-admin 12)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio
import trio_asyncio

from gocdnext.db.pool import open_pool
from gocdnext.runs.identity import CLAIMS
from gocdnext.runs.service import RunService
from gocdnext.secrets.sealing import KEY_BYTES, Keyring
from gocdnext.secrets.signing import EMERGENCY, GRACE, GRACEFUL, SKEW
from tests.scenarios.world import World
from tests.secrets_room import BASE, KEY, TTL, secrets_of, signing_keys_of
from tests.service.secrets.verifier import claims_of, parts, verified

URL = "https://git.acme.example/shop"
COMMIT = "ab" * 20
ASKS = {"stage": "s", "script": ["x"], "id_tokens": {"TOKEN": {"aud": "sts.acme.example"}}}


def git(**more: Any) -> list[dict[str, Any]]:
    return [{"git": {"url": URL, "branch": "main", "on": ["push", "pull_request", "tag"], **more}}]


PIPELINES: Mapping[str, Any] = {
    "p": {"materials": git(), "stages": ["s"], "jobs": {"x": ASKS}},
    "down": {
        "materials": [{"upstream": {"pipeline": "p", "stage": "s"}}, *git(on=["push"], branch="never")],
        "stages": ["s"],
        "jobs": {"x": ASKS},
    },
}


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with trio_asyncio.open_loop(), open_pool({"dsn": database_url}, size=3) as db:
        made = World(db)
        await made.set_up({"pipelines": PIPELINES, "project": {"scm_source": URL}})
        yield made


def token_of(world: World, run_id: UUID, name: str = "TOKEN") -> str:
    (sent,) = (sent for sent in world.fleet.sent if sent.run_id == run_id)
    token: str = sent.env[name]
    assert token in sent.masks
    return token


async def claims(world: World, run: str) -> dict[str, Any]:
    return claims_of(token_of(world, (await world.run(run)).id))


async def error_of(world: World, job: str) -> str:
    found = (await world.job(job))[1]
    assert found.status == "failed"
    return found.error or ""


async def test_a_verifier_sees_who_the_job_is(world: World, tmp_path: Path) -> None:
    await world.step({"do": "push", "revision": COMMIT})
    run = await world.run("p#1")
    token = token_of(world, run.id)
    (key,) = await signing_keys_of(world.db).published()
    assert verified(token, key, tmp_path)
    assert not verified(token[:-8] + "AAAAAAAA", key, tmp_path)
    header, payload, _ = parts(token)
    assert header == {"alg": "RS256", "kid": key["kid"], "typ": "JWT"}
    made = payload["iat"]
    assert payload == {
        "iss": BASE,
        "sub": "project:scenario:pipeline:p:ref_type:branch:ref:main",
        "aud": "sts.acme.example",
        "iat": made,
        "nbf": made - SKEW.total_seconds(),
        "exp": made + TTL.total_seconds(),
        "jti": payload["jti"],
        "project_slug": "scenario",
        "project_id": str(run.project_id),
        "pipeline": "p",
        "pipeline_id": str(run.pipeline_id),
        "job": "x",
        "run_id": str(run.id),
        "run_counter": "1",
        "cause": "webhook",
        "ref_type": "branch",
        "ref": "main",
        "sha": COMMIT,
    }
    assert set(payload) < set(CLAIMS)


async def test_a_tag_and_what_follows_from_it_never_look_like_a_branch(world: World) -> None:
    await world.step({"do": "tag", "name": "main", "revision": COMMIT})
    wanted = {"sub": "project:scenario:pipeline:p:ref_type:tag:ref:main", "ref_type": "tag", "ref": "main"}
    assert wanted.items() <= (await claims(world, "p#1")).items()
    await world.step({"do": "finish", "job": "p#1/x", "result": "success"})
    told = await claims(world, "down#1")
    assert (told["sub"], told["cause"]) == ("project:scenario:pipeline:down:ref_type:tag:ref:main", "upstream")


async def test_a_pull_request_and_what_follows_from_it_have_a_subject_of_their_own(world: World) -> None:
    await world.step({"do": "pull_request", "number": 7, "head": "main", "revision": COMMIT})
    told = await claims(world, "p#1")
    assert (told["sub"], told["pr_number"]) == ("project:scenario:pipeline:p:pull_request", "7")
    await world.step({"do": "finish", "job": "p#1/x", "result": "success"})
    assert (await claims(world, "down#1"))["sub"] == "project:scenario:pipeline:down:pull_request"
    await world.step({"do": "finish", "job": "down#1/x", "result": "success"})
    await world.step({"do": "rerun_run", "run": "p#1"})
    assert (await claims(world, "p#2"))["sub"] == "project:scenario:pipeline:p:pull_request"


async def test_a_fork_gets_no_token_nor_does_what_repeats_or_follows_it(world: World) -> None:
    await world.step({"do": "pull_request", "number": 7, "head": "main", "revision": COMMIT, "fork": True})
    assert (await error_of(world, "p#1/x")).startswith("id_tokens: what a fork proposes gets no identity tokens")
    await world.step({"do": "rerun_job", "job": "p#1/x"})
    await world.step({"do": "rerun_run", "run": "p#1"})
    assert "a fork" in await error_of(world, "p#1/x")
    assert "a fork" in await error_of(world, "p#2/x")
    assert not world.fleet.sent
    assert not await world.db.fetch("SELECT 1 FROM oidc_keys WHERE retired_at IS NOT NULL")


@pytest.mark.parametrize(
    ("branch", "segment"), [("a:ref_type:tag", "a%3Aref_type%3Atag"), ("50%3A", "50%253A"), ("feature/x", "feature/x")]
)
async def test_no_name_of_a_branch_can_pretend_to_be_another_part(world: World, branch: str, segment: str) -> None:
    await world.step({"do": "trigger", "pipeline": "p", "revision": COMMIT, "branch": branch})
    assert (await claims(world, "p#1"))["sub"] == f"project:scenario:pipeline:p:ref_type:branch:ref:{segment}"


async def test_a_run_without_a_revision_has_no_ref(world: World) -> None:
    await world.step({"do": "apply", "pipelines": {"bare": {"stages": ["s"], "jobs": {"x": ASKS}}}})
    await world.step({"do": "trigger", "pipeline": "bare"})
    told = await claims(world, "bare#1")
    assert told["sub"] == "project:scenario:pipeline:bare:ref_type:none:ref:none"
    assert told["ref_type"] == "none"
    assert not told.keys() & {"ref", "sha", "pr_number", "matrix_key"}


async def test_each_instance_and_attempt_gets_tokens_of_its_own(world: World) -> None:
    both = {"ONE": {"aud": ["a", "b"]}, "TWO": {"aud": ["c"]}}
    job = ASKS | {"id_tokens": both, "parallel": {"matrix": [{"DB": ["pg", "my"]}]}}
    await world.step({"do": "apply", "pipelines": {"m": {"stages": ["s"], "jobs": {"x": job}}}})
    await world.step({"do": "trigger", "pipeline": "m"})
    first, second = world.fleet.sent
    assert {claims_of(sent.env["ONE"])["matrix_key"] for sent in (first, second)} == {"DB=pg", "DB=my"}
    assert [claims_of(first.env[name])["aud"] for name in both] == [["a", "b"], "c"]
    await world.step({"do": "finish", "job": "m#1/x[DB=pg]", "result": "failure"})
    await world.step({"do": "finish", "job": "m#1/x[DB=my]", "result": "success"})
    await world.step({"do": "rerun_job", "job": "m#1/x[DB=pg]"})
    ids = [claims_of(sent.env[name])["jti"] for sent in world.fleet.sent for name in both]
    assert len(set(ids)) == len(ids) == 6


async def test_nothing_can_stand_in_for_a_token(world: World) -> None:
    """A built-in wins over everything, a token over variables; substitution never looks into one."""
    job = ASKS | {"variables": {"URL": "x${{ CI_JOB_NAME }}"}}
    await world.step({"do": "apply", "pipelines": {"v": {"stages": ["s"], "jobs": {"x": job}}}})
    await world.step({"do": "trigger", "pipeline": "v"})
    assert world.fleet.sent[0].env["URL"] == "xx"
    assert world.fleet.sent[0].env["TOKEN"].count(".") == 2


async def test_without_a_public_address_the_job_fails_and_says_what_to_do(world: World) -> None:
    world.secrets = secrets_of(world.db, lambda: world.now, base="")
    world.runs = RunService(
        world.db, world.fleet, world, secrets=world.secrets, clock=lambda: world.now, new_id=world.runs._changes._new_id
    )
    await world.step({"do": "trigger", "pipeline": "p", "revision": COMMIT})
    assert "set GOCDNEXT_PUBLIC_BASE" in await error_of(world, "p#1/x")


async def test_a_key_that_cannot_be_opened_fails_the_job_and_can_be_replaced(world: World) -> None:
    await signing_keys_of(world.db, keyring=Keyring([b"\7" * KEY_BYTES])).signer()
    await world.step({"do": "trigger", "pipeline": "p", "revision": COMMIT})
    assert "gocdnext oidc rotate" in await error_of(world, "p#1/x")
    await world.secrets._signing_keys.rotate(GRACEFUL)
    await world.step({"do": "rerun_job", "job": "p#1/x"})
    assert claims_of(world.fleet.sent[0].env["TOKEN"])["job"] == "x"


async def test_servers_that_make_the_first_key_at_once_keep_one(world: World) -> None:
    servers = [signing_keys_of(world.db) for _ in range(3)]
    kids = []

    async def ask(number: int) -> None:
        kids.append((await servers[number].signer()).kid)

    async with trio.open_nursery() as nursery:
        for number in range(len(servers)):
            nursery.start_soon(ask, number)
    assert len(set(kids)) == 1
    assert [row["kid"] for row in await servers[0].list()] == kids[:1]


async def test_a_retired_key_is_published_until_its_last_token_has_ended(world: World, tmp_path: Path) -> None:
    keys = signing_keys_of(world.db, lambda: world.now)
    old = (await keys.signer())({"sub": "x"}, ["a"])
    retired = parts(old)[0]["kid"]
    new = await keys.rotate(GRACEFUL)
    assert (await keys.signer()).kid == new != retired
    assert [row["kid"] for row in await keys.published()] == [new, retired]
    assert verified(old, (await keys.published())[1], tmp_path)
    assert await world.db.fetchval("SELECT count(*) FROM oidc_keys WHERE private_sealed IS NOT NULL") == 1
    world.now += TTL + GRACE - timedelta(seconds=1)
    keys.forget()
    assert len(await keys.published()) == 2
    world.now += timedelta(seconds=1)
    keys.forget()
    assert [row["kid"] for row in await keys.published()] == [new]


async def test_an_emergency_withdraws_the_key_that_signs_and_no_older_one(world: World) -> None:
    keys = signing_keys_of(world.db, lambda: world.now)
    oldest = (await keys.signer()).kid
    leaked = await keys.rotate(GRACEFUL)
    new = await keys.rotate(EMERGENCY)
    assert [row["kid"] for row in await keys.published()] == [new, oldest]
    (row,) = (row for row in await keys.list() if row["revoked_at"])
    assert (row["kid"], row["retired_at"]) == (leaked, None)


async def test_another_server_signs_with_the_new_key_once_it_has_heard(world: World) -> None:
    here, there = signing_keys_of(world.db), signing_keys_of(world.db)
    before = (await there.signer()).kid
    new = await here.rotate(EMERGENCY)
    assert (await there.signer()).kid == before
    there.forget()
    assert (await there.signer()).kid == new
    assert {row["kid"] for row in await there.published()} == {new}


async def test_rotations_at_once_leave_one_key_that_signs(world: World) -> None:
    keys = signing_keys_of(world.db)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(keys.rotate, GRACEFUL)
    active = [row for row in await keys.list() if not row["retired_at"]]
    assert len(active) == 1
    assert len(await keys.list()) == 2


async def test_nothing_of_a_private_key_is_readable(world: World) -> None:
    signer = await signing_keys_of(world.db).signer()
    private = signer.key.as_dict(private=True)["d"]
    rows = await world.db.fetch("SELECT k::text AS row FROM oidc_keys k")
    assert not any(str(private)[:20] in row["row"] for row in rows)
    assert str(private)[:20] not in repr(signer)
    with pytest.raises(Exception, match="sealed with the key"):
        await signing_keys_of(world.db, keyring=Keyring([b"\7" * KEY_BYTES])).signer()
    assert KEY not in rows[0]["row"].encode()
