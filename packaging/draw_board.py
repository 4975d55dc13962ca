"""Writes the Grafana board from the table below: `python packaging/draw_board.py`. A test holds the file against it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

TARGET = Path(__file__).parent / "grafana" / "gocdnext.json"
ACROSS, HEIGHT = 3, 8


class Panel(NamedTuple):
    """One graph: title, unit of Grafana, and (query, legend) pairs."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


P95_JOB = "histogram_quantile(0.95, sum by (le, status) (rate(gocdnext_job_duration_seconds_bucket[$__rate_interval])))"
P95_CALL = (
    "histogram_quantile(0.95, sum by (le, grpc_method)"
    " (rate(gocdnext_grpc_server_handling_seconds_bucket[$__rate_interval])))"
)
PROPOSALS = "rate(gocdnext_pr_head_resolution_seconds_bucket[$__rate_interval])"
P95_PROPOSAL = f"histogram_quantile(0.95, sum by (le, outcome) ({PROPOSALS}))"
P95_DRAIN = (
    'histogram_quantile(0.95, sum by (le) (rate(gocdnext_agent_drain_duration_seconds_bucket{outcome="clean"}[1h])))'
)


def _rate(name: str, by: str) -> str:
    return f"sum by ({by}) (rate({name}[$__rate_interval]))"


PANELS = (
    Panel("Waiting", "short", (("max by (stage_status) (gocdnext_queue_depth)", "{{stage_status}}"),)),
    Panel("Agents", "short", (("sum(gocdnext_agents_online)", "online"),)),
    Panel(
        "Use of agents",
        "percentunit",
        (("sum(gocdnext_agent_jobs_running) / sum(gocdnext_agent_capacity)", "jobs / capacity"),),
    ),
    Panel("Jobs running", "short", (("sum(gocdnext_jobs_running)", "running"),)),
    Panel("Jobs handed out", "ops", ((_rate("gocdnext_jobs_scheduled_total", "pipeline"), "{{pipeline}}"),)),
    Panel("Duration of jobs (p95)", "s", ((P95_JOB, "{{status}}"),)),
    Panel(
        "Webhooks",
        "ops",
        ((_rate("gocdnext_webhook_deliveries_total", "provider, outcome"), "{{provider}} {{outcome}}"),),
    ),
    Panel(
        "Told to providers",
        "ops",
        ((_rate("gocdnext_status_reports_total", "provider, outcome"), "{{provider}} {{outcome}}"),),
    ),
    Panel(
        "Runs that gave way, gates that expired",
        "ops",
        (
            ("sum(rate(gocdnext_runs_superseded_total[$__rate_interval]))", "superseded"),
            ("sum(rate(gocdnext_approvals_expired_total[$__rate_interval]))", "expired"),
        ),
    ),
    Panel("Calls of agents", "ops", ((_rate("gocdnext_grpc_server_started_total", "grpc_method"), "{{grpc_method}}"),)),
    Panel(
        "Failed calls of agents",
        "ops",
        (
            (
                'sum by (grpc_method, code) (rate(gocdnext_grpc_server_handled_total{code!="OK"}[$__rate_interval]))',
                "{{code}}",
            ),
        ),
    ),
    Panel(
        "What agents sent and was not kept",
        "ops",
        (
            (_rate("gocdnext_log_lines_dropped_total", "reason"), "lines {{reason}}"),
            (_rate("gocdnext_agent_reports_dropped_total", "kind, reason"), "{{kind}} {{reason}}"),
            (_rate("gocdnext_job_result_validation_failed_total", "kind"), "results {{kind}}"),
        ),
    ),
    Panel(
        "Jobs taken back from agents",
        "ops",
        (
            (_rate("gocdnext_jobs_reclaimed_total", "reason, outcome"), "{{reason}} {{outcome}}"),
            (_rate("gocdnext_jobs_disrupted_total", "outcome"), "disrupted {{outcome}}"),
        ),
    ),
    Panel(
        "Looks for jobs to take back",
        "ops",
        ((_rate("gocdnext_job_reclaim_sweeps_total", "reason, outcome"), "{{reason}} {{outcome}}"),),
    ),
    Panel("Duration of agents' calls (p95)", "s", ((P95_CALL, "{{grpc_method}}"),)),
    Panel("Configurations of pull requests (p95)", "s", ((P95_PROPOSAL, "{{outcome}}"),)),
    Panel(
        "Lanes in which runs give way",
        "ops",
        (
            ("sum(rate(gocdnext_supersede_lock_busy_total[$__rate_interval]))", "waited for"),
            ("sum(rate(gocdnext_supersede_backstop_errors_total[$__rate_interval]))", "not told to all"),
        ),
    ),
    Panel(
        "Left out",
        "ops",
        (
            (_rate("gocdnext_gate_freeze_annotation_errors_total", "surface, kind"), "reasons {{surface}} {{kind}}"),
            ("sum(rate(gocdnext_log_batcher_session_discarded_total[$__rate_interval]))", "sessions cut off"),
        ),
    ),
    Panel("Drains", "short", (("sum by (outcome) (increase(gocdnext_agent_drain_total[1h]))", "{{outcome}}"),)),
    Panel("Duration of drains (p95)", "s", ((P95_DRAIN, "clean"),)),
    Panel(
        "Passes of sweepers", "ops", ((_rate("gocdnext_sweeps_total", "sweeper, outcome"), "{{sweeper}} {{outcome}}"),)
    ),
    Panel("Swept", "ops", ((_rate("gocdnext_swept_total", "sweeper, kind"), "{{sweeper}} {{kind}}"),)),
    Panel(
        "Logs archived, months dropped",
        "short",
        (
            ("sum by (result) (increase(gocdnext_log_archive_jobs_total[1h]))", "archived {{result}}"),
            ("sum(increase(gocdnext_retention_dropped_log_partitions_total[1h]))", "months dropped"),
        ),
    ),
    Panel("Memory", "bytes", (("process_resident_memory_bytes", "{{instance}}"),)),
    Panel("CPU", "percentunit", (("rate(process_cpu_seconds_total[$__rate_interval])", "{{instance}}"),)),
    Panel(
        "Open files",
        "short",
        (("process_open_fds", "{{instance}}"), ("process_max_fds", "limit of {{instance}}")),
    ),
    Panel(
        "Tasks and threads",
        "short",
        (("go_goroutines", "tasks of {{instance}}"), ("go_threads", "threads of {{instance}}")),
    ),
)


def board() -> dict[str, Any]:
    """The board as Grafana imports it (schema 38, Grafana 10 or later)."""
    return {
        "uid": "gocdnext",
        "title": "gocdnext",
        "tags": ["gocdnext"],
        "schemaVersion": 38,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": [_drawn(number, panel) for number, panel in enumerate(PANELS)],
    }


def _drawn(number: int, panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    width = 24 // ACROSS
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {"x": number % ACROSS * width, "y": number // ACROSS * HEIGHT, "w": width, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend, "datasource": source}
            for index, (expression, legend) in enumerate(panel.queries)
        ],
    }


def text() -> str:
    """The file."""
    return json.dumps(board(), indent=2) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
