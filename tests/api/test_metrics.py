"""`/metrics` (contract-runs 10.1): every name with its labels, content negotiation, and what only requests can show."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gocdnext.metrics import Metrics
from tests.api.test_told import LANE
from tests.api.world import World

CONTRACT = """
jobs_scheduled_total{pipeline,project}
jobs_running
job_duration_seconds_bucket{le,pipeline,project,status}
queue_depth{stage,stage_status}
grpc_server_handled_total{code,grpc_method}
log_archive_jobs_total{result}
retention_dropped_log_partitions_total
agents_online
agent_jobs_running{agent}
agent_capacity{agent}
log_lines_dropped_total{reason}
log_batcher_session_discarded_total
webhook_deliveries_total{outcome,provider}
runs_superseded_total
approvals_expired_total
supersede_backstop_errors_total
supersede_lock_busy_total
jobs_reclaimed_total{outcome,reason}
job_reclaim_sweeps_total{outcome,reason}
job_result_validation_failed_total{kind}
jobs_disrupted_total{outcome}
agent_drain_total{outcome}
agent_drain_duration_seconds_bucket{le,outcome}
grpc_server_started_total{grpc_method}
grpc_server_handling_seconds_bucket{grpc_method,le}
pr_head_resolution_seconds_bucket{le,outcome}
gate_freeze_annotation_errors_total{kind,surface}
"""
BUCKETS = {
    "job_duration_seconds": 17,
    "agent_drain_duration_seconds": 12,
    "grpc_server_handling_seconds": 12,
    "pr_head_resolution_seconds": 12,
}
OTHERS = {"process_resident_memory_bytes", "python_info", "go_info", "go_goroutines", "go_threads"}


def feed(metrics: Metrics) -> None:
    """Everything that is counted, once; who counts it where is shown beside what happens there."""
    metrics.job_ended(uuid4(), uuid4(), "success", 1.5)
    metrics.job_ended(uuid4(), uuid4(), "strange", 1.5)
    metrics.rpc_started("Connect")
    metrics.rpc_handled("Connect", "Canceled", None)
    metrics.rpc_handled("Register", "OK", 0.003)
    metrics.agent_drained("clean", 2.0)
    metrics.result_invalid("outputs")
    metrics.log_lines_dropped("flush_failed", 3)
    metrics.log_session_discarded()
    metrics.webhook_delivery("github", "accepted")
    metrics.run_superseded()
    metrics.superseding_unfinished()
    metrics.lane_busy()
    metrics.approval_expired()
    metrics.job_reclaimed("stale", "failed_capped")
    metrics.reclaim_swept("stale", "success")
    metrics.job_disrupted("failed_capped")
    metrics.pr_head_resolved("ok", 0.2)
    metrics.annotation_failed("run_detail", "lookup")
    metrics.swept("log archive", "done", {"ArchivesSkipped": 1})


async def test_every_figure_has_its_name_and_labels(world: World) -> None:
    made = await world.apply()
    run_id = await world.trigger(made["pipelines"][0]["pipeline_id"])
    agent = await world.agent_online()
    answer = await world.http.get("/metrics", headers={"Accept-Encoding": "identity"})
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "_created" not in answer.text
    feed(world.metrics)
    await world.runs.dispatch(UUID(run_id))
    answer = await world.http.get("/metrics", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["gocdnext_queue_depth", (("stage", "queued"), ("stage_status", "queued"))] == 1
    assert found["gocdnext_queue_depth", (("stage", "pending"), ("stage_status", "pending"))] == 2
    assert found["gocdnext_queue_depth", (("stage", "dispatchable"), ("stage_status", "dispatchable"))] == 1
    assert found["gocdnext_jobs_running", ()] == 1
    assert found["gocdnext_agents_online", ()] == 1
    assert found["gocdnext_agent_jobs_running", (("agent", str(agent.id)),)] == 1
    assert found["gocdnext_agent_capacity", (("agent", str(agent.id)),)] == 10
    project = made["project_id"]
    pipeline = made["pipelines"][0]["pipeline_id"]
    assert found["gocdnext_jobs_scheduled_total", (("pipeline", pipeline), ("project", project))] == 1
    rpc = "/gocdnext.v1.AgentService/"
    assert found["gocdnext_grpc_server_handled_total", (("code", "OK"), ("grpc_method", f"{rpc}MarkCacheReady"))] == 0
    assert found["gocdnext_grpc_server_handled_total", (("code", "Canceled"), ("grpc_method", f"{rpc}Connect"))] == 1
    assert found["gocdnext_grpc_server_started_total", (("grpc_method", f"{rpc}Connect"),)] == 1
    buckets = [
        key for key in found if key[0] == "gocdnext_job_duration_seconds_bucket" and ("status", "success") in key[1]
    ]
    assert len(buckets) == 17
    assert found["gocdnext_agent_drain_total", (("outcome", "clean"),)] == 1
    assert found["gocdnext_job_result_validation_failed_total", (("kind", "outputs"),)] == 1
    assert found["gocdnext_log_lines_dropped_total", (("reason", "flush_failed"),)] == 3
    assert found["gocdnext_runs_superseded_total", ()] == 1
    assert found["gocdnext_approvals_expired_total", ()] == 1
    assert any(name == "process_resident_memory_bytes" for name, _ in found)
    answer = await world.http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
    names = {name: {label for label, _ in labels} for name, labels in found}
    for line in CONTRACT.split():
        name, _, labels = line.rstrip("}").partition("{")
        assert names[f"gocdnext_{name}"] == set(filter(None, labels.split(","))), name
    for name, count in BUCKETS.items():
        series = [dict(labels) for key, labels in found if key == f"gocdnext_{name}_bucket"]
        assert len({labels["le"] for labels in series}) == count, name
    assert names.keys() >= OTHERS
    reclaimed = "gocdnext_jobs_reclaimed_total"
    assert found[reclaimed, (("outcome", "failed_max"), ("reason", "stale"))] == 1
    assert found["gocdnext_log_archive_jobs_total", (("result", "skipped"),)] == 1


@pytest.mark.parametrize("surface", ["run_detail", "project_detail", "feed", "vsm"])
async def test_what_cannot_be_explained_is_shown_all_the_same(world: World, surface: str) -> None:
    """A definition that this release cannot read any more (3.3): the run is shown, and the gap is counted."""
    made = await world.apply(files={"lane.yaml": LANE})
    run_id = await world.trigger(made["pipelines"][0]["pipeline_id"])
    paths = {
        "run_detail": f"/api/v1/runs/{run_id}",
        "project_detail": "/api/v1/projects/billing",
        "feed": "/api/v1/runs",
        "vsm": "/api/v1/projects/billing/vsm",
    }
    assert '"waiting"' in (await world.http.get(paths[surface])).text
    await world.db.execute("UPDATE pipeline_definitions SET definition = definition || '{\"variables\": 7}'")
    world.runs._changes._definitions._kept.clear()  # as if the server had been started anew
    answer = await world.http.get(paths[surface])
    assert answer.status_code == 200
    assert run_id in answer.text
    assert '"waiting"' not in answer.text
    labels = {"surface": surface, "kind": "decode"}
    assert world.metrics.registry.get_sample_value("gocdnext_gate_freeze_annotation_errors_total", labels) == 1
