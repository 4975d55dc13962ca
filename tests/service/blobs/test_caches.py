"""Caches: a key of a project has the newest complete content, for jobs that may have it (protocol-agent 2.8)."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import uuid4

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from gocdnext.proto import agent_pb2 as pb
from tests.service.blobs.conftest import Plant, job
from tests.service.fleet.conftest import Agent, aio


async def get(client: Agent, assigned: Any, key: str = "npm") -> Any:
    """The answer of RequestCacheGet."""
    request = pb.RequestCacheGetRequest(
        session_id=client.session_id, run_id=assigned.run_id, job_id=assigned.job_id, key=key
    )
    return await aio(client.stub.RequestCacheGet, request)


async def ask(client: Agent, assigned: Any, key: str = "npm") -> Any:
    """The answer of RequestCachePut."""
    request = pb.RequestCachePutRequest(
        session_id=client.session_id, run_id=assigned.run_id, job_id=assigned.job_id, key=key
    )
    return await aio(client.stub.RequestCachePut, request)


async def mark(client: Agent, cache_id: str, content: bytes, **lie: Any) -> None:
    """MarkCacheReady as an honest agent calls it, but for `lie`."""
    said = {"size_bytes": len(content), "content_sha256": hashlib.sha256(content).hexdigest(), **lie}
    request = pb.MarkCacheReadyRequest(session_id=client.session_id, cache_id=cache_id, **said)
    await aio(client.stub.MarkCacheReady, request)


async def store(plant: Plant, client: Agent, assigned: Any, content: bytes, key: str = "npm") -> Any:
    """New content of a key, complete."""
    ticket = await ask(client, assigned, key)
    assert (await plant.put(ticket.put_url, content)).status_code == 204
    await mark(client, ticket.cache_id, content)
    return ticket


async def content(plant: Plant, client: Agent, assigned: Any, key: str = "npm") -> bytes | None:
    """What a job gets for a key."""
    found = await get(client, assigned, key)
    if not found.found:
        return None
    answer = await plant.get(found.get_url)
    assert len(answer.content) == found.size_bytes
    assert hashlib.sha256(answer.content).hexdigest() == found.content_sha256
    return answer.content


async def test_a_miss_then_a_hit_then_the_next_content(plant: Plant) -> None:
    await plant.start(await plant.pipeline("main", [job("x")]))
    async with plant.agent() as client:
        assigned = (await client.receive()).assign
        assert await content(plant, client, assigned) is None
        first = await store(plant, client, assigned, b"one")
        key = hashlib.sha256(b"npm").hexdigest()
        assert first.storage_key == f"cache/{plant.project}/{key}/{first.cache_id}"
        assert await content(plant, client, assigned) == b"one"
        # Readers have the old content until the new one is complete.
        second = await ask(client, assigned)
        assert await content(plant, client, assigned) == b"one"
        assert (await plant.put(second.put_url, b"two")).status_code == 204
        assert await content(plant, client, assigned) == b"one"
        await mark(client, second.cache_id, b"two")
        await mark(client, second.cache_id, b"two")
        assert await content(plant, client, assigned) == b"two"
    assert await plant.db.fetch("SELECT storage_key FROM dead_blobs") == [(first.storage_key,)]


async def test_a_key_belongs_to_a_project(plant: Plant) -> None:
    await plant.start(await plant.pipeline("main", [job("x")]))
    await plant.start(await plant.pipeline("other", [job("y")]))
    async with plant.agent() as client:
        mine = (await client.receive()).assign
        sibling = (await client.receive()).assign
        await store(plant, client, mine, b"x", "key with blanks, ${CI} and ü")
        assert await content(plant, client, sibling, "key with blanks, ${CI} and ü") == b"x"
        assert await content(plant, client, sibling, "key") is None
        plant.project = uuid4()
        await plant.db.execute("UPDATE projects SET slug = 'q'")
        await plant.start(await plant.pipeline("main", [job("z")]))
        foreign = (await client.receive()).assign
        assert await content(plant, client, foreign, "key with blanks, ${CI} and ü") is None


async def test_reading_counts_as_use(plant: Plant) -> None:
    await plant.start(await plant.pipeline("main", [job("x")]))
    async with plant.agent() as client:
        assigned = (await client.receive()).assign
        await store(plant, client, assigned, b"x")
        used = "SELECT last_accessed_at FROM caches"
        before = await plant.db.fetchval(used)
        plant.clock.now = plant.clock.now.replace(year=plant.clock.now.year + 1)
        assert (await get(client, assigned)).found
        assert await plant.db.fetchval(used) == plant.clock.now
        assert before < plant.clock.now


@pytest.mark.parametrize(
    "lie", [{"size_bytes": 5}, {"content_sha256": "0" * 64}, {"size_bytes": -1}, {"content_sha256": "\0"}], ids=repr
)
async def test_a_content_that_is_not_what_was_seen(plant: Plant, lie: dict[str, Any]) -> None:
    await plant.start(await plant.pipeline("main", [job("x")]))
    async with plant.agent() as client:
        assigned = (await client.receive()).assign
        ticket = await ask(client, assigned)
        with pytest.raises(GRPCError, match="nothing was uploaded") as refused:
            await mark(client, ticket.cache_id, b"", size_bytes=0, content_sha256="")
        assert refused.value.status is Status.FAILED_PRECONDITION
        await plant.put(ticket.put_url, b"1234")
        with pytest.raises(GRPCError, match="another size or hash") as refused:
            await mark(client, ticket.cache_id, b"1234", **lie)
        assert refused.value.status is Status.FAILED_PRECONDITION
        assert not (await get(client, assigned)).found


async def test_only_its_owner_says_that_an_upload_is_complete(plant: Plant) -> None:
    """The reference lets every session do it."""
    await plant.start(await plant.pipeline("main", [job("x")]))
    async with plant.agent("one") as one, plant.agent("two") as two:
        assigned = (await one.receive()).assign
        ticket = await ask(one, assigned)
        await plant.put(ticket.put_url, b"x")
        for client, cache_id, status in (
            (two, ticket.cache_id, Status.PERMISSION_DENIED),
            (one, str(uuid4()), Status.NOT_FOUND),
            (one, "npm", Status.INVALID_ARGUMENT),
        ):
            with pytest.raises(GRPCError) as refused:
                await mark(client, cache_id, b"x")
            assert refused.value.status is status
        # Nor after its job is over.
        await plant.report(one, assigned)
        await plant.ended(assigned.run_id, "x")
        with pytest.raises(GRPCError) as refused:
            await mark(one, ticket.cache_id, b"x")
        assert refused.value.status is Status.PERMISSION_DENIED


async def test_the_cache_of_another_agents_job(plant: Plant) -> None:
    await plant.start(await plant.pipeline("main", [job("x")]))
    async with plant.agent("one") as one, plant.agent("two") as two:
        assigned = (await one.receive()).assign
        for call in (get, ask):
            with pytest.raises(GRPCError) as refused:
                await call(two, assigned)
            assert refused.value.status is Status.PERMISSION_DENIED
            made_up = pb.JobAssignment(run_id=str(uuid4()), job_id=assigned.job_id)
            with pytest.raises(GRPCError) as refused:
                await call(one, made_up)
            assert refused.value.status is Status.NOT_FOUND


@pytest.mark.parametrize("key", ["", "x" * 1025, "ü" * 513, "a\0b", 'npm-{{ hash "lock" }}', "npm-{{", "{{ }}"])
async def test_keys_outside_their_grammar(plant: Plant, key: str) -> None:
    await plant.start(await plant.pipeline("main", [job("x")]))
    async with plant.agent() as client:
        assigned = (await client.receive()).assign
        for call in (get, ask):
            with pytest.raises(GRPCError) as refused:
                await call(client, assigned, key)
            assert refused.value.status is Status.INVALID_ARGUMENT
        assert not (await get(client, assigned, "x" * 1024)).found
