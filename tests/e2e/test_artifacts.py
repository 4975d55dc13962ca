"""Artifacts of the whole product, with a scripted agent: what was acknowledged is there after the server was killed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import trio
import trio_asyncio

from gocdnext.proto import agent_pb2 as pb
from tests.e2e.product import TOKEN, Product, api_of, make_repository, until
from tests.service.fleet.conftest import Agent, agent, aio

JOBS = """\
compile: {stage: build, script: [make], artifacts: {paths: [dist]}}
use: {stage: build, script: [make], needs: [compile], needs_artifacts: [{from_job: compile}]}
"""


def archive(**files: bytes) -> bytes:
    """A tar.gz as agents make them."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"dist/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


@contextlib.asynccontextmanager
async def connected(product: Product) -> AsyncIterator[Agent]:
    """An agent that takes jobs, until the server or the block ends."""
    async with agent(SimpleNamespace(port=product.grpc_port)) as client:  # type: ignore[arg-type]
        await client.register(token=TOKEN)
        await client.connect()
        yield client


async def ticket(client: Agent, job: pb.JobAssignment) -> Any:
    request = pb.RequestArtifactUploadRequest(
        session_id=client.session_id, run_id=job.run_id, job_id=job.job_id, paths=["dist"]
    )
    return (await aio(client.stub.RequestArtifactUpload, request)).tickets[0]


async def finish(client: Agent, job: pb.JobAssignment, *artifacts: pb.ArtifactRef) -> None:
    result = pb.JobResult(run_id=job.run_id, job_id=job.job_id, status=pb.RUN_STATUS_SUCCESS, artifacts=artifacts)
    await client.send(pb.AgentMessage(result=result))


@pytest.mark.slow
async def test_what_was_delivered_survives_the_server(product: Product, quick_dir: Path) -> None:
    repository = make_repository(quick_dir / "repository", JOBS)
    content = archive(app=os.urandom(3_000_000), notes=b"hello")
    digest = hashlib.sha256(content).hexdigest()
    product.start()
    async with trio_asyncio.open_loop(), httpx.AsyncClient(timeout=30) as http:
        async with api_of(product) as api:
            run = await api.start(repository)
        async with connected(product) as client:
            job = (await client.receive()).assign
            given = await ticket(client, job)
            assert (await http.put(given.put_url, content=content)).status_code == 204
            ref = pb.ArtifactRef(path="dist", storage_key=given.storage_key, size=len(content), content_sha256=digest)
            await finish(client, job, ref)
            download = (await client.receive()).assign.artifact_downloads[0]
            product.kill()
        product.start()
        # Also a link of the server before opens it: the key that signs is kept.
        answer = await http.get(download.get_url)
        assert hashlib.sha256(answer.content).hexdigest() == digest
        assert (await http.get(download.get_url, headers={"Range": "bytes=1000-1999"})).content == content[1000:2000]
        async with connected(product) as client:
            again = (await client.receive()).assign
            assert (again.name, len(again.artifact_downloads)) == ("use", 1)
            await finish(client, again)
            async with api_of(product) as api:
                assert await api.ended(run) == "success"
    listed = json.loads(product.call("artifacts", "list", run, "--json").stdout)
    assert [(entry["path"], entry["status"], entry["content_sha256"]) for entry in listed] == [
        ("dist", "ready", digest)
    ]
    product.call("artifacts", "get", run, "dist", "-o", quick_dir / "out")
    assert (quick_dir / "out/dist/notes").read_bytes() == b"hello"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_server_that_ends_while_an_artifact_comes_in(product: Product, quick_dir: Path, how: str) -> None:
    repository = make_repository(quick_dir / "repository", JOBS)
    product.start()
    store = product.state / "artifacts"

    async def half() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        await trio.sleep_forever()

    def arrived() -> bool:
        return any(path.stat().st_size for path in (store / ".incoming").iterdir())

    async with trio_asyncio.open_loop(), httpx.AsyncClient(timeout=30) as http:
        async with api_of(product) as api:
            run = await api.start(repository)
        async with connected(product) as client:
            job = (await client.receive()).assign
            given = await ticket(client, job)

            async def put() -> None:
                with pytest.raises(httpx.TransportError):
                    await http.put(given.put_url, content=half())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(put)
                await until(arrived, "the first bytes in the store")
                if how == "killed":
                    product.kill()
                else:
                    assert await trio.to_thread.run_sync(product.stop) == 0
                    assert not arrived(), "it tidies up when it is asked to stop"
                nursery.cancel_scope.cancel()
        product.start()
        async with connected(product) as client:
            again = (await client.receive()).assign
            assert again.job_id == job.job_id
            # The attempt is another one: its ticket is new, the old one opens nothing any more.
            fresh = await ticket(client, again)
            assert fresh.storage_key != given.storage_key
            assert (await http.put(given.put_url, content=b"late")).status_code == 404
            assert (await http.put(fresh.put_url, content=b"whole")).status_code == 204
            digest = hashlib.sha256(b"whole").hexdigest()
            ref = pb.ArtifactRef(path="dist", storage_key=fresh.storage_key, size=5, content_sha256=digest)
            await finish(client, again, ref)
            await finish(client, (await client.receive()).assign)
            async with api_of(product) as api:
                assert await api.ended(run) == "success"
