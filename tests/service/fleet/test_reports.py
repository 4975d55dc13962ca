"""Test results, coverage and services as agents report them, over a real stream (protocol-agent 2.5)."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import trio

from gocdnext.db.pool import Database
from gocdnext.fleet.session import MAX_CLEANUPS
from gocdnext.fleet.wire import MAX_MESSAGE
from gocdnext.proto import agent_pb2 as pb
from gocdnext.reports import testing
from tests.service.fleet.conftest import Agent, Fleet, assignment, job_result
from tests.service.logs.seed import Seeded, running_run


def batch(seeded: Seeded, *results: pb.TestResult, job: int = 0) -> pb.AgentMessage:
    """A batch for one of the run's jobs."""
    ids = {"run_id": str(seeded.run_id), "job_id": str(seeded.job_ids[job])}
    return pb.AgentMessage(test_results=pb.TestResultBatch(**ids, results=results))


def coverage(seeded: Seeded, covered: int, total: int, *packages: tuple[str, int, int]) -> pb.AgentMessage:
    """A coverage summary of the run's first job."""
    made = [pb.PackageCoverage(name=n, lines_covered=c, lines_total=t) for n, c, t in packages]
    summary = pb.CoverageSummary(
        run_id=str(seeded.run_id),
        job_id=str(seeded.job_ids[0]),
        format="lcov",
        lines_covered=covered,
        lines_total=total,
        packages=made,
    )
    return pb.AgentMessage(coverage=summary)


def service(run_id: object, status: str, *, second: int = 0, name: str = "redis", **more: str) -> pb.AgentMessage:
    """A lifecycle message; `second` of the current minute."""
    said = pb.ServiceLifecycle(run_id=str(run_id), name=name, status=status, **more)
    said.at.FromDatetime(datetime.now(UTC).replace(second=second, microsecond=0))
    return pb.AgentMessage(service_lifecycle=said)


async def settled(fleet: Fleet, client: Agent) -> None:
    """Waits until everything sent so far was handled: the heartbeat behind it is answered."""
    await client.send(pb.AgentMessage(heartbeat=pb.Heartbeat()))
    with trio.fail_after(60):
        while (await client.receive()).WhichOneof("kind") != "pong":
            pass


async def cases(db: Database, seeded: Seeded, job: int = 0) -> list[dict[str, object]]:
    rows = await db.fetch("SELECT * FROM test_results WHERE job_run_id = $1 ORDER BY name", seeded.job_ids[job])
    return [dict(row) for row in rows]


async def test_the_newest_batch_of_a_job_counts(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client, jobs=2)
        await client.send(
            batch(seeded, pb.TestResult(suite="s", name="gone", status="passed")),
            batch(seeded, pb.TestResult(suite="s", name="other job", status="passed"), job=1),
            batch(
                seeded,
                pb.TestResult(
                    suite="s", classname="C", name="a", status="failed", duration_millis=30, failure_type="E"
                ),
                pb.TestResult(suite="s", name="b", status="skipped"),
            ),
        )
        await settled(fleet, client)
        found = await cases(fleet.db, seeded)
        assert [(case["name"], case["status"], case["duration_ms"]) for case in found] == [
            ("a", "failed", 30),
            ("b", "skipped", 0),
        ]
        assert len(await cases(fleet.db, seeded, 1)) == 1
        await client.send(batch(seeded))
        await settled(fleet, client)
        assert await cases(fleet.db, seeded) == []
        assert not fleet.metrics.reports_dropped


async def test_what_does_not_fit_is_made_to(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        long = "é" * 100_000
        await client.send(
            batch(
                seeded,
                pb.TestResult(
                    suite="s\0", classname=long, name=long, status="exploded", duration_millis=-5,
                    failure_type=long, failure_message="a\0b", failure_detail=long, system_out=long, system_err=long,
                ),
                pb.TestResult(duration_millis=2**63 - 1, status="PASSED"),
            )
        )  # fmt: skip
        await settled(fleet, client)
        empty, case = await cases(fleet.db, seeded)
        assert (empty["name"], empty["status"], empty["duration_ms"]) == ("", "errored", testing.MAX_DURATION)
        assert (case["suite"], case["status"], case["duration_ms"]) == ("s", "errored", 0)
        assert case["failure_message"] == "ab"
        for column, limit in (("classname", 1024), ("name", 1024), ("failure_detail", 65536), ("system_err", 65536)):
            text = case[column]
            assert isinstance(text, str)
            assert len(text.encode()) == limit


async def test_a_batch_of_the_largest_message_is_kept(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        detail = "x" * 65_000
        message = batch(
            seeded, *(pb.TestResult(name=f"t{n}", status="failed", failure_detail=detail) for n in range(128))
        )
        assert MAX_MESSAGE - 80_000 < message.ByteSize() <= MAX_MESSAGE
        await client.send(message)
        await settled(fleet, client)
        assert len(await cases(fleet.db, seeded)) == 128


async def test_of_too_many_cases_the_first_are_kept(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        await client.send(batch(seeded, *([pb.TestResult(name="t", status="passed")] * (testing.MAX_CASES + 1))))
        await settled(fleet, client)
        count = await fleet.db.fetchval("SELECT count(*) FROM test_results")
        assert count == testing.MAX_CASES
        assert fleet.metrics.reports_dropped == {("test_results", "cut"): 1}


async def test_reports_for_a_job_of_another_agent_are_counted_and_left_out(fleet: Fleet) -> None:
    async with fleet.ready_agent("owner") as owner, fleet.ready_agent("thief") as thief:
        seeded = await fleet.running(owner)
        await owner.send(batch(seeded, pb.TestResult(name="mine", status="passed")))
        await settled(fleet, owner)
        case = pb.TestResult(name="forged", status="passed")
        await thief.send(batch(seeded, case), coverage(seeded, 1, 1), service(seeded.run_id, "ready"))
        unknown = Seeded(uuid4(), uuid4(), (uuid4(),))
        await thief.send(batch(unknown, case), coverage(unknown, 1, 1), service(unknown.run_id, "stopped"))
        await thief.send(pb.AgentMessage(test_results=pb.TestResultBatch(run_id="x", job_id="y")))
        await settled(fleet, thief)
        assert [case["name"] for case in await cases(fleet.db, seeded)] == ["mine"]
        assert await fleet.db.fetchval("SELECT count(*) FROM coverage_reports") == 0
        assert await fleet.db.fetchval("SELECT count(*) FROM service_runs") == 0
        assert fleet.metrics.reports_dropped == {
            ("test_results", "not_held"): 3,
            ("coverage", "not_held"): 2,
            ("service_lifecycle", "stale"): 2,
        }


async def test_reports_of_an_attempt_that_is_over_are_left_out(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        await fleet.db.execute("UPDATE job_runs SET attempt = 1")
        await client.send(batch(seeded, pb.TestResult(name="late", status="passed")), coverage(seeded, 1, 2))
        await settled(fleet, client)
        assert await cases(fleet.db, seeded) == []
        assert fleet.metrics.reports_dropped == {("test_results", "stale"): 1, ("coverage", "stale"): 1}


async def test_reports_are_kept_before_the_result(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        await client.send(batch(seeded, pb.TestResult(name="t", status="passed")), coverage(seeded, 8, 10))
        await client.send(job_result(seeded))
        await client.half_close()
        await client.end()
        assert len(await cases(fleet.db, seeded)) == 1
        assert await fleet.db.fetchval("SELECT lines_covered FROM coverage_reports") == 8


async def test_coverage_that_cannot_be_is_refused_package_by_package(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        await client.send(coverage(seeded, 11, 10), coverage(seeded, -1, 10), coverage(seeded, -2, -1))
        await settled(fleet, client)
        assert fleet.metrics.reports_dropped == {("coverage", "invalid"): 3}
        good = [(f"p{n}", 1, 2) for n in range(250)]
        await client.send(coverage(seeded, 1, 2), coverage(seeded, 3, 4, ("bad", 2, 1), ("neg", -1, 1), *good))
        await settled(fleet, client)
        row = await fleet.db.fetchrow("SELECT * FROM coverage_reports")
        assert row is not None
        assert (row["lines_covered"], row["lines_total"], row["format"]) == (3, 4, "lcov")
        assert len(row["packages"]) == 200
        assert row["packages"][0] == {"name": "p0", "lines_covered": 1, "lines_total": 2}


async def test_the_life_of_a_service(fleet: Fleet) -> None:
    async def row(name: str = "redis") -> dict[str, object]:
        found = await fleet.db.fetchrow("SELECT * FROM service_runs WHERE name = $1", name)
        assert found is not None
        return dict(found)

    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        run = seeded.run_id
        await client.send(
            service(run, "starting", second=1, image="redis:8", pod_name="p"), service(run, "ready", second=2)
        )
        await client.send(service(run, "starting", second=3), service(run, "ready", second=4))
        await settled(fleet, client)
        now = await row()
        assert (now["status"], now["image"], now["pod_name"]) == ("ready", "redis:8", "p")
        assert [now[key].second for key in ("started_at", "ready_at")] == [1, 2]  # type: ignore[attr-defined]
        await client.send(service(run, "failed", second=5, error="out\0 of memory"), service(run, "stopped", second=6))
        await client.send(service(run, "ready", name="late", second=7))
        await settled(fleet, client)
        now = await row()
        assert (now["status"], now["error"]) == ("failed", "out of memory")
        assert now["stopped_at"].second == 5  # type: ignore[attr-defined]
        late = await row("late")
        assert late["started_at"] == late["ready_at"]


async def test_services_within_limits_only(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        run = seeded.run_id
        bad = [
            service("no uuid", "ready"),
            service(run, "ready", name=""),
            service(run, "ready", name="n" * 65),
            service(run, "ready", image="i" * 513),
            service(run, "ready", pod_name="p" * 257),
            service(run, "exploded"),
            service(run, "ready", name="a\0b"),
        ]
        await client.send(*bad, service(run, "failed", error="e" * 10_000))
        await settled(fleet, client)
        assert fleet.metrics.reports_dropped == {("service_lifecycle", "invalid"): len(bad)}
        assert await fleet.db.fetchval("SELECT length(error) FROM service_runs") == 4096


async def test_a_service_may_have_stopped_where_the_agent_has_no_job_any_more(fleet: Fleet) -> None:
    async with fleet.ready_agent("owner") as owner, fleet.ready_agent("other") as other:
        seeded = await fleet.running(owner)
        await other.send(service(seeded.run_id, "ready"), service(seeded.run_id, "stopped"))
        await settled(fleet, other)
        assert await fleet.db.fetchval("SELECT status FROM service_runs") == "stopped"
        assert fleet.metrics.reports_dropped == {("service_lifecycle", "stale"): 1}


async def test_ten_thousand_messages_that_nobody_knows(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        nothing = pb.AgentMessage.FromString(b"\xfa\x3e\x03abc")  # field 1007
        assert nothing.WhichOneof("kind") is None
        await client.send(*[nothing] * 10_000)
        await client.send(batch(seeded, pb.TestResult(name="t", status="passed")))
        await settled(fleet, client)
        assert len(await cases(fleet.db, seeded)) == 1


async def test_a_repeated_job_reports_anew(fleet: Fleet) -> None:
    async with fleet.ready_agent() as client:
        seeded = await fleet.running(client)
        await client.send(batch(seeded, pb.TestResult(name="first", status="failed")))
        await settled(fleet, client)
        await fleet.db.execute("UPDATE job_runs SET attempt = 1")
        fleet.registry.release(await fleet.agent_id(client.name), seeded.job_ids[0])
        assert fleet.registry.assign(client.session_id, assignment(seeded.run_id, seeded.job_ids[0], attempt=1))
        assert (await client.receive()).WhichOneof("kind") == "assign"
        found = await testing.of_run(fleet.db, seeded.run_id, None, 0)
        assert found.cases == [], "what the earlier attempt said counts for nothing"
        await client.send(batch(seeded, pb.TestResult(name="second", status="passed")))
        await settled(fleet, client)
        assert [case["name"] for case in await cases(fleet.db, seeded)] == ["second"]


async def finished_run(fleet: Fleet, generation: int = 0) -> Seeded:
    """A finished run that had services."""
    seeded = await running_run(fleet.db)
    await fleet.db.execute(
        "UPDATE runs SET status = 'success', finished_at = $2, has_services = true, service_generation = $3"
        " WHERE id = $1",
        seeded.run_id,
        fleet.clock(),
        generation,
    )
    return seeded


async def asked(client: Agent) -> tuple[str, int]:
    """The next message, which asks for a clean-up."""
    message = await client.receive()
    assert message.WhichOneof("kind") == "cleanup_run_services"
    return message.cleanup_run_services.run_id, message.cleanup_run_services.max_generation


def cleaned(seeded: Seeded, error: str = "") -> pb.AgentMessage:
    said = pb.CleanupRunServicesResult(run_id=str(seeded.run_id), deleted=-1, error_message=error, engine="kubernetes")
    return pb.AgentMessage(cleanup_run_services_result=said)


async def test_a_clean_up_is_asked_for_until_an_agent_confirms_it(fleet: Fleet) -> None:
    seeded = await finished_run(fleet, generation=2)
    for error in ("the cluster is away", ""):
        async with fleet.agent() as client:
            await client.register(name="k8s", engine="kubernetes")
            await client.connect()
            assert await asked(client) == (str(seeded.run_id), 2)
            await client.send(cleaned(seeded, error))
            await client.send(cleaned(seeded))  # repeated: nobody asked for this one
            await settled(fleet, client)
    assert fleet.metrics.reports_dropped == {
        ("cleanup_run_services_result", "failed"): 1,
        ("cleanup_run_services_result", "not_held"): 2,
    }
    assert await fleet.db.fetchval("SELECT services_cleaned FROM runs") == 2
    async with fleet.agent() as client:
        await client.register(name="k8s", engine="kubernetes")
        await client.connect()
        await settled_without_requests(client)


async def settled_without_requests(client: Agent) -> None:
    await client.send(pb.AgentMessage(heartbeat=pb.Heartbeat()))
    assert (await client.receive()).WhichOneof("kind") == "pong"


async def test_only_engines_that_keep_services_are_asked(fleet: Fleet) -> None:
    seeded = await finished_run(fleet)
    async with fleet.agent() as shell, fleet.agent() as old:
        await shell.register(name="shell", engine="shell")
        await shell.connect()
        await old.register(name="old", engine="")
        await old.connect()
        assert await asked(old) == (str(seeded.run_id), 0)
        later = await finished_run(fleet, generation=1)
        fleet.registry.clean_up(later.run_id, 1)
        fleet.registry.clean_up(later.run_id, 1)
        fleet.registry.clean_up(later.run_id, 0)
        assert await asked(old) == (str(later.run_id), 1)
        await settled_without_requests(old)
        await settled_without_requests(shell)
        await old.send(cleaned(later))
        await shell.send(cleaned(seeded))
        await settled(fleet, old)
        await settled(fleet, shell)
    rows = await fleet.db.fetch("SELECT id, services_cleaned FROM runs")
    assert {row["id"]: row["services_cleaned"] for row in rows} == {seeded.run_id: -1, later.run_id: 1}


async def test_clean_ups_that_wait_are_bounded(fleet: Fleet) -> None:
    async with fleet.agent() as client:
        await client.register(name="k8s", engine="kubernetes")
        await client.connect()
        for _ in range(MAX_CLEANUPS + 50):
            fleet.registry.clean_up(uuid4(), 0)
        (session,) = fleet.registry.sessions()
        assert len(session.cleanups) == MAX_CLEANUPS
        for _ in range(MAX_CLEANUPS):
            await asked(client)
        await settled_without_requests(client)
