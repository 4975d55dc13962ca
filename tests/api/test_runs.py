"""Runs, jobs, pipelines, agents and projects as clients read them (contract-runs 2, 3, 4.1, 5, 8.2)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import trio
from httpx_sse import aconnect_sse

from tests.api.test_conventions import error
from tests.api.world import PIPELINE, World, partitioned, pipeline

UNKNOWN = str(uuid4())


async def get(world: World, path: str, **params: Any) -> Any:
    answer = await world.http.get(path, params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


async def log(world: World, run_id: str, job_id: str, *lines: str) -> None:
    """Stores lines of a job, as ingest does: cursor under the lock of the run's row."""
    now = datetime.now(UTC)
    for number, line in enumerate(lines, 1):
        cursor = await world.db.fetchval(
            "INSERT INTO log_cursors (run_id, last) VALUES ($1, 1)"
            " ON CONFLICT (run_id) DO UPDATE SET last = log_cursors.last + 1 RETURNING last",
            UUID(run_id),
        )
        await world.db.execute(
            "INSERT INTO log_lines (job_run_id, run_id, cursor, seq, at, stream, text)"
            " VALUES ($1, $2, $3, $4, $5, 'stdout', $6)",
            UUID(job_id),
            UUID(run_id),
            cursor,
            number,
            now,
            line,
        )


async def one_run(world: World) -> tuple[str, str]:
    """A project with one pipeline and a queued run: (pipeline id, run id)."""
    made = await world.apply()
    pipeline_id = made["pipelines"][0]["pipeline_id"]
    return pipeline_id, await world.trigger(pipeline_id)


async def test_life_of_a_run(world: World) -> None:
    pipeline_id, run_id = await one_run(world)
    detail = await get(world, f"/api/v1/runs/{run_id}")
    assert detail == {
        "id": run_id,
        "pipeline_id": pipeline_id,
        "pipeline_name": "ci",
        "counter": 1,
        "cause": "manual",
        "status": "queued",
        "has_services": False,
        "service_names": [],
        "created_at": "2026-04-28T13:00:00Z",
        "triggered_by": "manual",
        "project_slug": "billing",
        "check_reporting_mode": "both",
        "revisions": {},
        "cause_detail": {"provider": "api", "delivery": f"manual-{pipeline_id}"},
        "stages": [
            {
                "id": detail["stages"][place]["id"],
                "name": stage,
                "ordinal": place,
                "status": "queued",
                "jobs": [
                    {
                        "id": detail["stages"][place]["jobs"][0]["id"],
                        "stage_run_id": detail["stages"][place]["id"],
                        "name": job,
                        "status": "queued",
                        "attempt": 0,
                        "approval_required": 1,
                        "waiting": reason,
                    }
                ],
            }
            for place, (stage, job, reason) in enumerate(
                [
                    ("build", "compile", {"code": "no_agent", "text": "no agent is connected"}),
                    ("test", "unit", {"code": "stage", "text": "waits for the stage build", "detail": "build"}),
                ]
            )
        ],
        "waiting": {"code": "no_agent", "text": "no agent is connected"},
    }
    agent = await world.agent_online("runner")
    world.now += timedelta(milliseconds=1500)
    await world.runs.dispatch(UUID(run_id))
    detail = await get(world, f"/api/v1/runs/{run_id}")
    assert (detail["status"], detail["started_at"]) == ("running", "2026-04-28T13:00:01.5Z")
    assert detail["stages"][0]["jobs"][0]["agent_id"] == str(agent.id)
    project = (await get(world, "/api/v1/projects"))["projects"][0]
    assert project["status"] == "running"
    world.now += timedelta(seconds=10)
    await world.finish_jobs(agent, run_id)
    detail = await get(world, f"/api/v1/runs/{run_id}")
    assert detail["status"] == "success"
    assert detail["stages"][1]["jobs"][0]["exit_code"] == 0

    project = (await get(world, "/api/v1/projects"))["projects"][0]
    assert project["status"] == "success"
    assert project["run_count"] == 1
    assert project["pipeline_count"] == 1
    assert project["labels"] == []
    assert project["latest_run_at"] == "2026-04-28T13:00:00Z"
    assert project["metrics"] == {
        "window_days": 7,
        "runs_considered": 1,
        "success_rate": 1.0,
        "lead_time_p50_seconds": 10.0,
        "process_time_p50_seconds": 10.0,
    }
    (preview,) = project["top_pipelines"]
    assert preview["latest_run_status"] == "success"
    assert preview["definition_stages"] == ["build", "test"]
    assert [stage["name"] for stage in preview["latest_run_stages"]] == ["build", "test"]
    assert preview["latest_run_stages"][0]["jobs"][0]["name"] == "compile"
    assert preview["latest_run_stages"][0]["started_at"] == "2026-04-28T13:00:01.5Z"

    shown = await get(world, "/api/v1/projects/billing")
    assert shown["project"]["status"] == "success"
    (summary,) = shown["pipelines"]
    assert summary["definition_jobs"] == [{"name": "compile", "stage": "build"}, {"name": "unit", "stage": "test"}]
    assert summary["latest_run"]["id"] == run_id
    assert summary["latest_run"]["pipeline_id"] == pipeline_id
    assert summary["latest_run"]["pipeline_name"] == "ci"
    assert [stat["name"] for stat in summary["metrics"]["stage_stats"]] == ["build", "test"]
    assert summary["metrics"]["stage_stats"][0]["duration_p50_seconds"] == 10.0
    assert [run["id"] for run in shown["runs"]] == [run_id]
    assert "edges" not in shown

    fleet = await get(world, "/api/v1/agents")
    assert fleet["agents"][0]["tags"] == []
    assert fleet["agents"][0]["health_state"] == "online"
    world.now += timedelta(seconds=200)
    one = await get(world, f"/api/v1/agents/{agent.id}")
    assert one["agent"]["health_state"] == "stale"
    assert one["agent"]["running_jobs"] == 0
    assert [job["job_name"] for job in one["jobs"]] == ["unit", "compile"]
    assert one["jobs"][0]["run_counter"] == 1
    assert len((await get(world, f"/api/v1/agents/{agent.id}", jobs=1))["jobs"]) == 1

    # How its project tells providers of runs: as it is set now, also in an answer that was kept.
    changed = await world.http.put("/api/v1/projects/billing/check-reporting", json={"mode": "check_run"})
    assert changed.status_code == 200, changed.text
    assert (await get(world, f"/api/v1/runs/{run_id}"))["check_reporting_mode"] == "check_run"


async def test_failing_and_canceled_projects(world: World) -> None:
    made = await world.apply(files={"a.yaml": pipeline("a"), "b.yaml": pipeline("b")})
    assert (await get(world, "/api/v1/projects"))["projects"][0]["status"] == "never_run"
    agent = await world.agent_online()
    failed = await world.trigger(made["pipelines"][0]["pipeline_id"])
    await world.finish_jobs(agent, failed, "failed")
    world.now += timedelta(seconds=1)
    canceled = await world.trigger(made["pipelines"][1]["pipeline_id"])
    assert (await world.http.post(f"/api/v1/runs/{canceled}/cancel")).status_code == 204
    project = (await get(world, "/api/v1/projects"))["projects"][0]
    assert project["status"] == "failing"
    assert [preview["name"] for preview in project["top_pipelines"]] == ["a", "b"]
    await world.apply("other")
    assert [p["slug"] for p in (await get(world, "/api/v1/projects"))["projects"]] == ["other", "billing"]
    assert [p["slug"] for p in (await get(world, "/api/v1/projects", limit=1, offset=1))["projects"]] == ["billing"]
    for query in ({"limit": 0}, {"limit": "x"}, {"offset": -1}, {"limit": 2**31}, {"offset": 2**63}):
        error(await world.http.get("/api/v1/projects", params=query), 400)


async def test_feed(world: World) -> None:
    made = await world.apply(files={"a.yaml": pipeline("a"), "b.yaml": pipeline("b")})
    ids = []
    for place in (0, 1, 0):
        ids.append(await world.trigger(made["pipelines"][place]["pipeline_id"]))
        world.now += timedelta(seconds=1)
    other = await world.apply("other", files={"a.yaml": pipeline("a")})
    ids.append(await world.trigger(other["pipelines"][0]["pipeline_id"]))
    await world.http.post(f"/api/v1/runs/{ids[1]}/cancel")

    page = await get(world, "/api/v1/runs")
    assert [run["id"] for run in page["runs"]] == ids[::-1]
    assert (page["total"], page["limit"], page["offset"]) == (4, 20, 0)
    assert page["runs"][0]["project_slug"] == "other"
    assert page["runs"][0]["project_name"] == "other"
    page = await get(world, "/api/v1/runs", limit=2, offset=1)
    assert [run["id"] for run in page["runs"]] == [ids[2], ids[1]]
    assert (page["total"], page["limit"], page["offset"]) == (4, 2, 1)
    assert (await get(world, "/api/v1/runs", limit=1000))["limit"] == 200
    assert (await get(world, "/api/v1/runs", offset=2**63 - 1))["runs"] == []
    for query, expected in (
        ({"status": "canceled"}, [1]),
        ({"status": "nonsense"}, []),
        ({"cause": "manual"}, [3, 2, 1, 0]),
        ({"cause": "poll"}, []),
        ({"project": "billing"}, [2, 1, 0]),
        ({"project": "nope"}, []),
        ({"pipeline": "a"}, [3, 2, 0]),
        ({"pipeline": made["pipelines"][0]["pipeline_id"]}, [2, 0]),
        ({"project": "billing", "pipeline": "a", "status": "queued"}, [2, 0]),
        ({"status": "", "limit": ""}, [3, 2, 1, 0]),
    ):
        page = await get(world, "/api/v1/runs", **query)
        assert [run["id"] for run in page["runs"]] == [ids[place] for place in expected], query
        assert page["total"] == len(expected), query
    page = await get(world, "/api/v1/runs", pipeline="a", limit=1, offset=1)
    assert [run["id"] for run in page["runs"]] == [ids[2]]
    for name, values in (
        ("limit", ("0", "-1", "x", "1.5", "0x1", "2147483648", "1e3", "١")),
        ("offset", ("-1", "x", str(2**63))),
    ):
        for value in values:
            answer = await world.http.get("/api/v1/runs", params={name: value})
            assert error(answer, 400) == f"invalid '{name}' query"


async def test_spellings_of_ids(world: World) -> None:
    _, run_id = await one_run(world)
    plain = run_id.replace("-", "")
    for spelling in (plain, run_id.upper(), f"urn:uuid:{run_id}", f"URN:UUID:{run_id}", f"{{{run_id}}}"):
        assert (await get(world, f"/api/v1/runs/{spelling}"))["id"] == run_id
    for path, message in (
        ("runs/{}", "invalid id"),
        ("runs/{}/logs/stream", "invalid id"),
        ("runs/{}/jobs/" + UNKNOWN + "/log.txt", "invalid run id"),
        ("runs/" + UNKNOWN + "/jobs/{}/log.txt", "invalid job id"),
        ("pipelines/{}/yaml", "invalid id"),
        ("agents/{}", "invalid id"),
    ):
        for bad in (
            "x",
            run_id[:-1],
            run_id + "0",
            plain[:8] + "-" + plain[8:],
            f"{{{plain}}}",
            "%20" + run_id,
            "-" * 36,
        ):
            assert error(await world.http.get("/api/v1/" + path.format(bad)), 400) == message
    for path, message in (
        ("runs/x/cancel", "invalid run id"),
        ("job_runs/x/cancel", "invalid job_run id"),
        ("pipelines/x/trigger", "invalid pipeline id"),
    ):
        assert error(await world.http.post(f"/api/v1/{path}"), 400) == message


async def test_unknown_ids(world: World) -> None:
    for path, message in (
        ("projects/nope", "project not found"),
        (f"runs/{UNKNOWN}", "run not found"),
        (f"runs/{UNKNOWN}/logs/stream", "not found"),
        (f"runs/{UNKNOWN}/jobs/{UNKNOWN}/log.txt", "not found"),
        (f"pipelines/{UNKNOWN}/yaml", "not found"),
        (f"agents/{UNKNOWN}", "agent not found"),
    ):
        assert error(await world.http.get(f"/api/v1/{path}"), 404) == message
    for path, message in (
        (f"runs/{UNKNOWN}/cancel", "run not found"),
        (f"job_runs/{UNKNOWN}/cancel", "job_run not found"),
        (f"pipelines/{UNKNOWN}/trigger", "pipeline not found"),
    ):
        assert error(await world.http.post(f"/api/v1/{path}"), 404) == message


async def test_bad_numbers(world: World) -> None:
    _, run_id = await one_run(world)
    for name in ("logs", "head"):
        for value in ("-1", "x", "99999999999"):
            answer = await world.http.get(f"/api/v1/runs/{run_id}", params={name: value})
            assert error(answer, 400) == f"invalid '{name}' query"
    assert (await world.http.get(f"/api/v1/runs/{run_id}", params={"logs": 2001, "head": 2001})).status_code == 200
    for value in ("0", "-1", "x"):
        assert (
            error(await world.http.get("/api/v1/projects/billing", params={"runs": value}), 400)
            == "invalid 'runs' query"
        )
        answer = await world.http.get(f"/api/v1/agents/{UNKNOWN}", params={"jobs": value})
        assert error(answer, 400) == "invalid 'jobs' query"
    assert (await world.http.get("/api/v1/projects/billing", params={"runs": 1000})).status_code == 200


async def test_log_windows_and_text(world: World) -> None:
    await partitioned(world.db)
    _, run_id = await one_run(world)
    job = (await get(world, f"/api/v1/runs/{run_id}"))["stages"][0]["jobs"][0]["id"]
    await log(world, run_id, job, *(f"line {number}" for number in range(1, 11)))

    async def shown(**params: Any) -> dict[str, Any]:
        found: dict[str, Any] = (await get(world, f"/api/v1/runs/{run_id}", **params))["stages"][0]["jobs"][0]
        return found

    plain = await shown()
    assert [line["seq"] for line in plain["logs"]] == list(range(1, 11))
    assert plain["logs_total"] == 10
    assert "logs_head" not in plain
    assert "logs_omitted" not in plain
    assert set(plain["logs"][0]) == {"seq", "stream", "at", "text"}
    both = await shown(logs=3, head=4)
    assert [line["seq"] for line in both["logs"]] == [8, 9, 10]
    assert [line["seq"] for line in both["logs_head"]] == [1, 2, 3, 4]
    assert both["logs_omitted"] == 3
    overlapping = await shown(logs=8, head=4)
    assert [line["seq"] for line in overlapping["logs_head"]] == [1, 2]
    assert overlapping["logs_omitted"] == 0
    nothing = await shown(logs=0, head=5)
    assert not {"logs", "logs_head", "logs_total", "logs_omitted"} & set(nothing)
    since = await shown(logs=3, head=4, since=[f"{job}:5", "nonsense", f"{job}:-1", f"{job}:x", UNKNOWN + ":1"])
    assert [line["seq"] for line in since["logs"]] == [6, 7, 8]
    assert "logs_head" not in since

    answer = await world.http.get(f"/api/v1/runs/{run_id}/jobs/{job}/log.txt")
    assert answer.text == "".join(f"line {number}\n" for number in range(1, 11))
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="job-{job[:8]}.log"'
    other = (await get(world, f"/api/v1/runs/{run_id}"))["stages"][1]["jobs"][0]["id"]
    answer = await world.http.get(f"/api/v1/runs/{run_id}/jobs/{other}/log.txt")
    assert (answer.status_code, answer.text) == (200, "")
    _, second = await one_run(world)
    error(await world.http.get(f"/api/v1/runs/{second}/jobs/{job}/log.txt"), 404)


async def test_live_log(world: World) -> None:
    await partitioned(world.db)
    _, run_id = await one_run(world)
    job = (await get(world, f"/api/v1/runs/{run_id}"))["stages"][0]["jobs"][0]["id"]
    await log(world, run_id, job, "one", "two", "three")
    await world.http.post(f"/api/v1/runs/{run_id}/cancel")
    path = f"/api/v1/runs/{run_id}/logs/stream"
    with trio.fail_after(10):
        async with aconnect_sse(world.http, "GET", path, headers={"Last-Event-ID": "1"}) as source:
            headers = source.response.headers
            assert headers["content-type"] == "text/event-stream"
            assert headers["cache-control"] == "no-cache, no-transform"
            assert headers["x-accel-buffering"] == "no"
            events = [event async for event in source.aiter_sse()]
        assert [(event.event, event.id) for event in events] == [("log", "2"), ("log", "3"), ("end", "3")]
        assert events[0].json() == {**events[0].json(), "job_id": job, "seq": 2, "stream": "stdout", "text": "two"}
        assert events[-1].json() == {"run_id": run_id, "status": "canceled"}
        answer = await world.http.get(path, params={"last_event_id": 2})
        assert answer.text.startswith(": ready\n\nevent: log\nid: 3\n")
        answer = await world.http.get(path, headers={"Last-Event-ID": "nonsense"})
        assert answer.text.startswith(": ready\n\nevent: end\n")


async def test_reader_that_leaves_is_let_go(world: World) -> None:
    _, run_id = await one_run(world)
    async with await trio.open_tcp_stream("127.0.0.1", world.port) as stream:
        await stream.send_all(f"GET /api/v1/runs/{run_id}/logs/stream HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = b""
        while b": ready" not in received:
            received += await stream.receive_some()
        assert world.hub.readers() == 1
    with trio.fail_after(5):
        while world.hub.readers():
            await trio.lowlevel.checkpoint()


async def test_cancel(world: World) -> None:
    made = await world.apply()
    agent = await world.agent_online()
    run_id = await world.trigger(made["pipelines"][0]["pipeline_id"])
    await world.runs.dispatch(UUID(run_id))
    answer = await world.http.post(f"/api/v1/runs/{run_id}/cancel", content=b"ignored")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["x-gocdnext-signaled-jobs"] == "1"
    assert "content-type" not in answer.headers
    assert error(await world.http.post(f"/api/v1/runs/{run_id}/cancel"), 409) == "run already terminal"
    jobs = [stage["jobs"][0] for stage in (await get(world, f"/api/v1/runs/{run_id}"))["stages"]]
    assert jobs[0]["status"] == "running"
    assert jobs[0]["cancel_requested_at"] == "2026-04-28T13:00:00Z"
    assert jobs[1]["status"] == "canceled"
    assert len(world.fleet.cancels) == 1
    assert agent.jobs


async def test_cancel_of_a_job(world: World) -> None:
    await world.agent_online()
    _, run_id = await one_run(world)
    job = (await get(world, f"/api/v1/runs/{run_id}"))["stages"][0]["jobs"][0]["id"]
    answer = await world.http.post(f"/api/v1/job_runs/{job}/cancel")
    assert answer.status_code == 202
    expected = {"job_run_id": job, "run_id": run_id, "job_name": "compile", "status": "canceling", "signaled": True}
    assert answer.json() == expected
    world.fleet.agents.clear()
    _, queued_run = await one_run(world)
    queued = (await get(world, f"/api/v1/runs/{queued_run}"))["stages"][0]["jobs"][0]["id"]
    answer = await world.http.post(f"/api/v1/job_runs/{queued}/cancel")
    assert (answer.json()["status"], answer.json()["signaled"]) == ("canceled", False)
    assert error(await world.http.post(f"/api/v1/job_runs/{queued}/cancel"), 409) == "job_run already terminal"


async def test_gate_and_notification_in_the_detail(world: World) -> None:
    approval = {"required": 2, "approvers": ["ines", "max"], "description": "ship it?"}
    jobs = {"sign-off": {"stage": "build", "approval": approval}, "compile": {"stage": "build", "script": ["make"]}}
    notifications = [{"on": "always", "uses": "slack@v1"}]
    made = await world.apply(files={"ci.yaml": pipeline("ci", jobs=jobs, notifications=notifications)})
    run_id = await world.trigger(made["pipelines"][0]["pipeline_id"])
    detail = await get(world, f"/api/v1/runs/{run_id}")
    compiled, gate = detail["stages"][0]["jobs"]
    assert compiled["approval_required"] == 1
    assert "approval_gate" not in compiled
    shown = {
        "approval_gate": True,
        "approval_required": 2,
        "approvers": ["ines", "max"],
        "approval_description": "ship it?",
        "awaiting_since": "2026-04-28T13:00:00Z",
    }
    assert shown == {key: gate.get(key) for key in shown}
    assert not {"decision", "decided_by", "decided_at", "approvals", "approver_groups"} & set(gate)
    await world.db.execute(
        "INSERT INTO gate_votes (job_run_id, voter, label, decision, decided_at)"
        " VALUES ($1, 'i', 'Ines', 'approved', $2)",
        UUID(gate["id"]),
        world.now,
    )
    gate = (await get(world, f"/api/v1/runs/{run_id}"))["stages"][0]["jobs"][1]
    vote = {"user_label": "Ines", "decision": "approved", "decided_at": "2026-04-28T13:00:00Z"}
    assert gate["approvals"] == [vote]
    (notification,) = detail["stages"][-1]["jobs"]
    assert detail["stages"][-1]["name"] == "_notifications"
    assert (notification["notify_on"], notification["notify_uses"]) == ("always", "slack@v1")
    summary = (await get(world, "/api/v1/projects/billing"))["pipelines"][0]
    assert {"name": "sign-off", "stage": "build", "approval_gate": True} in summary["definition_jobs"]


async def test_yaml(world: World) -> None:
    made = await world.apply()
    path = f"/api/v1/pipelines/{made['pipelines'][0]['pipeline_id']}/yaml"
    answer = await world.http.get(path)
    assert answer.json() == {"yaml": PIPELINE, "reconstructed": False}
    assert answer.headers["cache-control"] == "no-store"
    for kind in ("text/yaml", "application/yaml", "text/plain"):
        answer = await world.http.get(path, headers={"Accept": f"{kind}, application/json;q=0.5"})
        assert answer.text == PIPELINE
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
    answer = await world.http.get(path, headers={"Accept": "application/json, text/yaml"})
    assert answer.json()["yaml"] == PIPELINE
