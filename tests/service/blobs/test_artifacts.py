"""Artifacts from the ticket to the job that fetches them (protocol-agent 2.6, 2.7; spec-pipelines 3.7, 3.8)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from gocdnext.pipeline import model
from gocdnext.proto import agent_pb2 as pb
from gocdnext.runs.state import Revision
from tests.service.blobs.conftest import Plant, job
from tests.service.fleet.conftest import aio

COMPILE = job("compile", artifacts=model.Artifacts(when="on_success", required=("app",), optional=("log",)))
FETCH = job("unit", "test", needs_artifacts=(model.NeedsArtifacts(from_job="compile"),))


async def test_what_one_job_delivers_another_fetches(plant: Plant) -> None:
    run = await plant.start(await plant.pipeline("main", [COMPILE, FETCH]))
    async with plant.agent() as client:
        first = (await client.receive()).assign
        assert list(first.artifact_downloads) == []
        delivered = await plant.deliver(client, first, app=b"the program" * 1000, log=b"")
        for each in delivered:
            prefix, _, name = each.ticket.storage_key.rpartition("/")
            assert prefix == f"run/{first.run_id}/job/{first.job_id}"
            assert UUID(name)
            assert each.ticket.expires_at.ToDatetime() <= (plant.clock() + timedelta(minutes=15)).replace(tzinfo=None)
        await plant.report(client, first, *(each.ref for each in delivered))
        second = (await client.receive()).assign
        assert second.name == "unit"
        app, log = second.artifact_downloads
        assert [(d.path, d.dest, d.from_job) for d in (app, log)] == [
            ("app", "./", "compile"),
            ("log", "./", "compile"),
        ]
        assert [d.content_sha256 for d in (app, log)] == [each.ref.content_sha256 for each in delivered]
        assert [d.storage_key for d in (app, log)] == [each.ticket.storage_key for each in delivered]
        for download, each in zip((app, log), delivered, strict=True):
            answer = await plant.get(download.get_url)
            assert (answer.status_code, answer.content) == (200, each.content)
        await plant.report(client, second)
    assert (await plant.ended(run.run_id, "unit"))["status"] == "success"


async def test_only_the_paths_that_are_asked_for(plant: Plant) -> None:
    needs = (
        model.NeedsArtifacts(from_job="compile", paths=("log/",), dest="logs"),
        model.NeedsArtifacts(from_job="compile", paths=("app",), dest="bin"),
    )
    await plant.start(await plant.pipeline("main", [COMPILE, job("unit", "test", needs_artifacts=needs)]))
    async with plant.agent() as client:
        first = (await client.receive()).assign
        delivered = await plant.deliver(client, first, app=b"1", log=b"2")
        await plant.report(client, first, *(each.ref for each in delivered))
        second = (await client.receive()).assign
        assert [(d.path, d.dest) for d in second.artifact_downloads] == [("log", "logs"), ("app", "bin")]


async def test_nothing_delivered_fails_the_job_that_needs_it(plant: Plant) -> None:
    run = await plant.start(await plant.pipeline("main", [COMPILE, FETCH]))
    async with plant.agent() as client:
        first = (await client.receive()).assign
        # Uploaded, but not named by the result: it never becomes ready.
        await plant.deliver(client, first, app=b"x")
        await plant.report(client, first)
        row = await plant.ended(run.run_id, "unit")
    assert row["status"] == "failed"
    assert row["error"].startswith("artifact deps: no artifact of compile is ready")
    assert row["agent_id"] is None


async def test_what_a_failed_job_delivers_is_kept_too(plant: Plant) -> None:
    run = await plant.start(await plant.pipeline("main", [COMPILE]))
    async with plant.agent() as client:
        first = (await client.receive()).assign
        (log,) = await plant.deliver(client, first, log=b"why")
        await plant.report(client, first, log.ref, status=pb.RUN_STATUS_FAILED)
        assert (await plant.ended(run.run_id, "compile"))["status"] == "failed"
    assert await plant.db.fetch("SELECT path, status FROM artifacts") == [("log", "ready")]


@pytest.mark.parametrize(
    "lie",
    [
        {"size": 5},
        {"content_sha256": "0" * 64},
        {"path": "other"},
        {"storage_key": "run/x/job/y/z"},
        {"storage_key": "../../etc/passwd"},
        {"storage_key": ""},
        {"size": -1},
        {"path": "a\0"},
    ],
)
async def test_a_result_that_says_what_was_not_seen(plant: Plant, lie: dict[str, Any]) -> None:
    run = await plant.start(await plant.pipeline("main", [COMPILE]))
    async with plant.agent() as client:
        first = (await client.receive()).assign
        app, log = await plant.deliver(client, first, app=b"1234", log=b"x")
        ref = app.ref
        for name, value in lie.items():
            setattr(ref, name, value)
        await plant.report(client, first, ref, log.ref)
        row = await plant.ended(run.run_id, "compile")
    assert row["status"] == "failed"
    assert row["error"].startswith("artifact reconciliation: ")
    statuses = dict(await plant.db.fetch("SELECT path, status FROM artifacts"))
    assert statuses == {"app": "pending", "log": "ready"}
    counted = plant.metrics.registry.get_sample_value
    assert counted("gocdnext_job_result_validation_failed_total", {"kind": "artifacts"}) == 1


async def test_a_blob_that_vanished_from_the_store(plant: Plant) -> None:
    run = await plant.start(await plant.pipeline("main", [COMPILE]))
    async with plant.agent() as client:
        first = (await client.receive()).assign
        (app,) = await plant.deliver(client, first, app=b"1234")
        (plant.root / app.ticket.storage_key).unlink()
        await plant.report(client, first, app.ref)
        assert (await plant.ended(run.run_id, "compile"))["status"] == "failed"


async def test_an_upload_that_never_came(plant: Plant) -> None:
    run = await plant.start(await plant.pipeline("main", [COMPILE]))
    async with plant.agent() as client:
        first = (await client.receive()).assign
        (ticket,) = await plant.tickets(client, first, "app")
        ref = pb.ArtifactRef(path="app", storage_key=ticket.storage_key, size=0, content_sha256="")
        await plant.report(client, first, ref)
        assert (await plant.ended(run.run_id, "compile"))["status"] == "failed"


async def test_tickets_are_one_for_each_path_and_the_same_when_asked_for_again(plant: Plant) -> None:
    await plant.start(await plant.pipeline("main", [COMPILE]))
    async with plant.agent() as client:
        first = (await client.receive()).assign
        tickets = await plant.tickets(client, first, "dist/", "log", "dist", "dist//", "./log")
        assert [ticket.path for ticket in tickets] == ["dist/", "log", "./log"]
        assert await plant.tickets(client, first) == []
        again = await plant.tickets(client, first, "log", "more")
        assert [again[0].storage_key == tickets[1].storage_key, again[1].path] == [True, "more"]
        assert await plant.db.fetchval("SELECT count(*) FROM artifacts") == 4


@pytest.mark.parametrize(
    "path", ["", "/", "/abs", "a/../b", "..", "../a", "x" * 1025, "a\0b", [f"p{n}" for n in range(1001)]], ids=repr
)
async def test_paths_that_are_refused(plant: Plant, path: str | list[str]) -> None:
    await plant.start(await plant.pipeline("main", [COMPILE]))
    async with plant.agent() as client:
        first = (await client.receive()).assign
        with pytest.raises(GRPCError) as refused:
            await plant.tickets(client, first, "good", *([path] if isinstance(path, str) else path))
        assert refused.value.status is Status.INVALID_ARGUMENT
    assert await plant.db.fetchval("SELECT count(*) FROM artifacts") == 0


async def test_tickets_for_another_agents_job(plant: Plant) -> None:
    await plant.start(await plant.pipeline("main", [COMPILE]))
    async with plant.agent("one") as one, plant.agent("two") as two:
        first = (await one.receive()).assign
        for client, run_id, status in (
            (two, first.run_id, Status.PERMISSION_DENIED),
            (two, str(uuid4()), Status.NOT_FOUND),
            (one, str(uuid4()), Status.NOT_FOUND),
        ):
            request = pb.RequestArtifactUploadRequest(
                session_id=client.session_id, run_id=run_id, job_id=first.job_id, paths=["app"]
            )
            with pytest.raises(GRPCError) as refused:
                await aio(client.stub.RequestArtifactUpload, request)
            assert refused.value.status is status
        # A result names its own job's artifacts, not another's.
        (app,) = await plant.deliver(one, first, app=b"x")
        await plant.report(two, first, app.ref)
        await two.half_close()
        await two.end()
        assert (await plant.job(UUID(first.run_id), "compile"))["status"] == "running"
    assert await plant.db.fetchval("SELECT status FROM artifacts") == "pending"


async def test_tickets_for_an_attempt_that_is_over(plant: Plant) -> None:
    """The agent does not know yet that its job was taken back."""
    run = await plant.start(await plant.pipeline("main", [COMPILE]))
    async with plant.agent() as client:
        first = (await client.receive()).assign
        await plant.db.execute("UPDATE job_runs SET attempt = attempt + 1 WHERE run_id = $1", run.run_id)
        with pytest.raises(GRPCError) as refused:
            await plant.tickets(client, first, "app")
        assert refused.value.status is Status.PERMISSION_DENIED


async def test_a_repeated_job_delivers_anew(plant: Plant) -> None:
    run = await plant.start(await plant.pipeline("main", [COMPILE, FETCH]))
    async with plant.agent() as client:
        first = (await client.receive()).assign
        (old,) = await plant.deliver(client, first, app=b"old")
        await plant.report(client, first, old.ref)
        second = (await client.receive()).assign
        await plant.report(client, second, status=pb.RUN_STATUS_FAILED)
        await plant.ended(run.run_id, "unit")
        await plant.runs.rerun_job(UUID(first.job_id))
        # The rows of the attempt before went with it; its blob is buried.
        assert await plant.db.fetchval("SELECT storage_key FROM dead_blobs") == old.ticket.storage_key
        again = (await client.receive()).assign
        assert (again.job_id, again.name) == (first.job_id, "compile")
        assert (await plant.put(old.ticket.put_url, b"late")).status_code == 404
        (new,) = await plant.deliver(client, again, app=b"new")
        assert new.ticket.storage_key != old.ticket.storage_key
        await plant.report(client, again, new.ref)
        await plant.ended(run.run_id, "compile")
    assert await plant.db.fetch("SELECT storage_key, status FROM artifacts") == [(new.ticket.storage_key, "ready")]


async def test_a_rerun_fetches_what_the_others_left(plant: Plant) -> None:
    run = await plant.start(await plant.pipeline("main", [COMPILE, FETCH]))
    async with plant.agent() as client:
        first = (await client.receive()).assign
        (app,) = await plant.deliver(client, first, app=b"x")
        await plant.report(client, first, app.ref)
        for turn in range(2):
            second = (await client.receive()).assign
            assert [d.storage_key for d in second.artifact_downloads] == [app.ticket.storage_key]
            await plant.report(client, second)
            await plant.ended(run.run_id, "unit")
            if turn == 0:
                await plant.runs.rerun_job(UUID(second.job_id))


async def test_every_instance_of_a_matrix_is_fetched(plant: Plant) -> None:
    compile_ = job("compile", instances=("A=1", "A=2"), artifacts=COMPILE.artifacts)
    await plant.start(await plant.pipeline("main", [compile_, FETCH]))
    async with plant.agent() as client:
        for _ in range(2):
            assigned = (await client.receive()).assign
            (app,) = await plant.deliver(client, assigned, app=assigned.env["GOCDNEXT_MATRIX"].encode())
            await plant.report(client, assigned, app.ref)
        fetching = (await client.receive()).assign
        found = [(await plant.get(d.get_url)).content for d in fetching.artifact_downloads]
        assert found == [b"A=1", b"A=2"]


async def test_from_the_upstream_pipeline(plant: Plant) -> None:
    upstream = model.UpstreamMaterial(fingerprint="f" * 64, pipeline="lib", stage="build", status="success")
    lib = await plant.pipeline("lib", [COMPILE])
    need = model.NeedsArtifacts(from_job="compile", from_pipeline="lib", paths=("app",))
    app = await plant.pipeline("app", [job("unit", needs_artifacts=(need,))], [upstream])
    await plant.start(lib, revisions={str(uuid4()): Revision("abc", "main")})
    async with plant.agent() as client:
        first = (await client.receive()).assign
        (made,) = await plant.deliver(client, first, app=b"the library")
        await plant.report(client, first, made.ref)
        second = (await client.receive()).assign
        assert second.name == "unit"
        (download,) = second.artifact_downloads
        assert (await plant.get(download.get_url)).content == b"the library"
    # Started by a person, there is no upstream run to fetch from.
    run = await plant.start(app)
    async with plant.agent() as client:
        with trio.fail_after(10):
            row = await plant.ended(run.run_id, "unit")
    assert row["error"] == "artifact deps: this run was not started by the pipeline lib"


@pytest.mark.parametrize(("seconds", "days"), [(0, 30), (7200, 1 / 12)])
async def test_how_long_they_are_kept(plant: Plant, seconds: int, days: float) -> None:
    kept = model.Artifacts(when="always", required=("app",), expire_in_seconds=seconds)
    await plant.start(await plant.pipeline("main", [job("compile", artifacts=kept)]))
    async with plant.agent() as client:
        await plant.tickets(client, (await client.receive()).assign, "app")
    row = await plant.db.fetchrow("SELECT created_at, expires_at FROM artifacts")
    assert row is not None
    assert row["expires_at"] - row["created_at"] == timedelta(days=days)


async def test_a_repeated_result_finds_its_artifacts_ready(plant: Plant) -> None:
    run = await plant.start(await plant.pipeline("main", [COMPILE]))
    async with plant.agent() as client:
        first = (await client.receive()).assign
        (app,) = await plant.deliver(client, first, app=b"x")
        await plant.db.execute("UPDATE artifacts SET status = 'ready'")
        await plant.report(client, first, app.ref)
        assert (await plant.ended(run.run_id, "compile"))["status"] == "success"
        with pytest.raises(GRPCError):
            await plant.tickets(client, first, "app")


async def test_the_list_of_a_run(plant: Plant) -> None:
    run = await plant.start(await plant.pipeline("main", [COMPILE]))
    path = f"/api/v1/runs/{run.run_id}/artifacts"
    assert (await plant.http.get(path)).json() == []
    async with plant.agent() as client:
        first = (await client.receive()).assign
        app, _ = await plant.deliver(client, first, app=b"1234", log=b"")
        await plant.tickets(client, first, "never")
        await plant.report(client, first, app.ref)
        await plant.ended(run.run_id, "compile")
    answer = await plant.http.get(path)
    assert answer.headers["x-total-count"] == "3"
    shown, log, never = answer.json()
    link, until = shown.pop("download_url"), shown.pop("download_url_expires_at")
    assert shown.pop("created_at") < until < shown.pop("expires_at")
    assert UUID(shown.pop("id"))
    assert shown == {
        "job_run_id": first.job_id,
        "job_name": "compile",
        "path": "app",
        "status": "ready",
        "size_bytes": 4,
        "content_sha256": app.ref.content_sha256,
    }
    assert (log["path"], log["status"], log["size_bytes"]) == ("log", "pending", 0)
    assert (never["path"], never["status"], never["content_sha256"]) == ("never", "pending", "")
    assert "download_url" not in log
    answer = await plant.get(link)
    assert answer.content == b"1234"
    assert answer.headers["content-disposition"] == 'attachment; filename="app.tar.gz"'
    assert [entry["path"] for entry in (await plant.http.get(f"{path}?limit=1&offset=1")).json()] == ["log"]
    assert (await plant.http.get(f"/api/v1/runs/{uuid4()}/artifacts")).json() == []
    answer = await plant.http.get("/api/v1/runs/nonsense/artifacts")
    assert (answer.status_code, answer.json()) == (400, {"error": "invalid id"})


async def test_a_deleted_pipeline_leaves_no_blobs_behind(plant: Plant) -> None:
    pipeline = await plant.pipeline("main", [COMPILE])
    await plant.start(pipeline)
    async with plant.agent() as client:
        first = (await client.receive()).assign
        (app,) = await plant.deliver(client, first, app=b"x")
        await plant.db.execute("DELETE FROM pipelines WHERE id = $1", pipeline)
    assert await plant.db.fetchval("SELECT count(*) FROM artifacts") == 0
    assert await plant.db.fetchval("SELECT storage_key FROM dead_blobs") == app.ticket.storage_key
