"""Register (protocol-agent 2.2) over a real connection."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from gocdnext.auth.agent_tokens import matches_hash, matches_token, token_hash
from gocdnext.proto import agent_pb2 as pb
from tests.service.fleet.conftest import REGISTRATION_TOKEN, Fleet, aio

JOB = {"session_id": "S", "run_id": "R", "job_id": "R"}
"""S and R stand for a valid session and an id."""


async def test_a_new_agent_with_the_registration_token(fleet: Fleet) -> None:
    async with fleet.agent() as client:
        answer = await client.register(
            version="1.2", os="linux", arch="amd64", tags=["b", "a", "b"], capacity=0, engine="shell"
        )
        assert answer.heartbeat_seconds == 30
        assert UUID(answer.session_id).version == 4
        row = await fleet.agent_row("runner")
        assert (row["version"], row["os"], row["arch"], row["engine"]) == ("1.2", "linux", "amd64", "shell")
        assert (row["tags"], row["capacity"], row["status"]) == (["b", "a"], 1, "online")
        assert row["session_generation"] == 1
        assert row["token_hash"] == token_hash(REGISTRATION_TOKEN)
        assert fleet.runs.reclaimed == [row["id"]]
        assert fleet.metrics.timed == {"Register": 1}


async def test_the_agents_own_token_decides_once_it_exists(fleet: Fleet) -> None:
    await fleet.db.execute(
        "INSERT INTO agents (id, name, token_hash, registered_at) VALUES ($1, 'old', $2, now())",
        uuid4(),
        token_hash("its own"),
    )
    async with fleet.agent() as client:
        await client.register("old", "its own")
        with pytest.raises(GRPCError) as caught:
            await client.register("old", REGISTRATION_TOKEN)
    assert caught.value.status is Status.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"token": "wrong"}, Status.NOT_FOUND),
        ({"name": ""}, Status.INVALID_ARGUMENT),
        ({"token": ""}, Status.INVALID_ARGUMENT),
        ({"name": "x" * 300}, Status.INVALID_ARGUMENT),
        ({"name": "a\0b"}, Status.INVALID_ARGUMENT),
        ({"name": "a\r\nb"}, Status.INVALID_ARGUMENT),
        ({"version": "\x1b]0;x"}, Status.INVALID_ARGUMENT),
        ({"tags": ["t"] * 65}, Status.INVALID_ARGUMENT),
        ({"tags": ["t" * 257]}, Status.INVALID_ARGUMENT),
        ({"version": "v" * 257}, Status.INVALID_ARGUMENT),
    ],
)
async def test_what_is_refused(fleet: Fleet, fields: dict[str, object], status: Status) -> None:
    async with fleet.agent() as client:
        with pytest.raises(GRPCError) as caught:
            await client.register(**fields)  # type: ignore[arg-type]
    assert caught.value.status is status
    assert await fleet.db.fetchval("SELECT count(*) FROM agents") == 0


async def test_an_empty_stored_hash_matches_nothing(fleet: Fleet) -> None:
    await fleet.db.execute(
        "INSERT INTO agents (id, name, token_hash, registered_at) VALUES ($1, 'bare', '', now())", uuid4()
    )
    async with fleet.agent() as client:
        with pytest.raises(GRPCError) as caught:
            await client.register("bare", REGISTRATION_TOKEN)
    assert caught.value.status is Status.UNAUTHENTICATED


async def test_a_request_that_is_no_message(fleet: Fleet) -> None:
    async with fleet.agent() as client:

        async def garbage() -> None:
            async with client.stub.Register.open() as stream:
                await stream.send_request()
                await stream._stream.send_data(b"\x00\x00\x00\x00\x03\xff\xff\xff", end_stream=True)
                await stream.recv_message()

        with pytest.raises(GRPCError) as caught:
            await aio(garbage)
    assert caught.value.status is Status.INVALID_ARGUMENT


async def test_registering_again_supersedes_the_stream(fleet: Fleet) -> None:
    async with fleet.ready_agent() as first, fleet.agent() as second:
        await second.register("runner")
        with pytest.raises(GRPCError) as caught:
            await first.end()
        assert caught.value.status is Status.ABORTED
        with pytest.raises(GRPCError) as caught:
            await first.connect()
        assert caught.value.status is Status.UNAUTHENTICATED
        await second.connect()
        # The first stream's end has left the newer session online.
        row = await fleet.agent_row("runner")
        assert (row["status"], row["session_generation"]) == ("online", 2)
        assert [slot.session_id for slot in fleet.registry.slots()] == [second.session_id]


async def test_cancels_that_were_missed_are_replayed(fleet: Fleet) -> None:
    run_id, job_id = uuid4(), uuid4()
    fleet.runs.cancels = [(run_id, job_id)]
    async with fleet.ready_agent() as client:
        cancel = (await client.receive()).cancel
    assert (cancel.run_id, cancel.job_id) == (str(run_id), str(job_id))


@pytest.mark.parametrize(
    ("method", "request_", "status"),
    [
        ("RequestCacheGet", {"session_id": "S", "run_id": "R", "job_id": "R", "key": "k"}, Status.NOT_FOUND),
        ("RequestCacheGet", {"session_id": "S", "run_id": "R", "job_id": "R"}, Status.INVALID_ARGUMENT),
        ("RequestCachePut", {"session_id": "", "run_id": "R", "job_id": "R", "key": "k"}, Status.INVALID_ARGUMENT),
        ("RequestCachePut", {"session_id": "S", "run_id": "x", "job_id": "R", "key": "k"}, Status.INVALID_ARGUMENT),
        ("RequestCachePut", {"session_id": "old", "run_id": "R", "job_id": "R", "key": "k"}, Status.UNAUTHENTICATED),
        ("MarkCacheReady", {"session_id": "S", "cache_id": "R"}, Status.NOT_FOUND),
        ("RequestArtifactUpload", JOB | {"paths": ["a"]}, Status.NOT_FOUND),
        ("RequestArtifactUpload", JOB | {"paths": [""]}, Status.INVALID_ARGUMENT),
    ],
)
async def test_calls_for_jobs_that_are_not_there(
    fleet: Fleet, method: str, request_: dict[str, object], status: Status
) -> None:
    async with fleet.ready_agent() as client:
        values = {"S": client.session_id, "R": str(uuid4())}
        filled = {key: values.get(value, value) if isinstance(value, str) else value for key, value in request_.items()}
        with pytest.raises(GRPCError) as caught:
            await aio(getattr(client.stub, method), getattr(pb, f"{method}Request")(**filled))
    assert caught.value.status is status
    assert sum(count for (name, _), count in fleet.metrics.codes.items() if name == method) == 1


def test_tokens() -> None:
    assert matches_hash("a", token_hash("a"))
    assert not matches_hash("a", token_hash("b"))
    assert not matches_hash("", "")
    assert not matches_token("", "")
    assert not matches_token("a", None)
    assert matches_token("a", "a")
