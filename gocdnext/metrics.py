"""Prometheus metrics of the server (contract-runs 10.1). Other rooms report through plain methods.

Gauges that only the database knows are read by one statement when somebody scrapes, at most once every few seconds.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from uuid import UUID

import trio
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from gocdnext.db import queries
from gocdnext.db.pool import Database, DatabaseUnavailableError
from gocdnext.runs.ports import Slot

DURATION_BUCKETS = (
    0.005,
    0.0109,
    0.0238,
    0.0519,
    0.1131,
    0.2466,
    0.5378,
    1.1729,
    2.5578,
    5.578,
    12.1644,
    26.5279,
    57.8516,
    126.1616,
    275.1308,
    600,
)
"""Seconds; 16 buckets, geometric from 0.005 to 600."""
HANDLING_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
RESOLUTION_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30)
DRAIN_BUCKETS = (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 420, 600)
"""Seconds."""
RPCS = (
    "Register",
    "Connect",
    "RequestCacheGet",
    "RequestCachePut",
    "MarkCacheReady",
    "RequestArtifactUpload",
)
ARCHIVE_RESULTS = (("success", "ArchivesReSubmitted"), ("failed", "ArchiveFailures"), ("skipped", "ArchivesSkipped"))
QUEUE_STATES = ("queued", "pending", "dispatchable")
FRESH = 2.0
"""Seconds that a reading of the queue is served from memory: several scrapers cost one statement."""

_SQL = queries.load("runs_read")


def rpc_label(method: str) -> str:
    """The value of `grpc_method` for an RPC of the agent service."""
    return f"/gocdnext.v1.AgentService/{method}"


class Metrics:
    """The registry and the events that feed it. All methods are immediate; labels of pipelines and projects are ids."""

    def __init__(self, sessions: Callable[[], Iterable[Slot]] = tuple) -> None:
        """`sessions` are the ready agent sessions of this process, asked at every scrape."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._sessions = sessions
        self.registry = registry = CollectorRegistry()
        self._scheduled = Counter(
            "gocdnext_jobs_scheduled", "Jobs handed to an agent", ("pipeline", "project"), registry=registry
        )
        self._running = Gauge("gocdnext_jobs_running", "Jobs that agents run for this process", registry=registry)
        self._with_agents = 0
        self._duration = Histogram(
            "gocdnext_job_duration_seconds",
            "From start to end of a job",
            ("pipeline", "project", "status"),
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self._started = Counter("gocdnext_grpc_server_started", "RPCs begun", ("grpc_method",), registry=registry)
        self._handling = Histogram(
            "gocdnext_grpc_server_handling_seconds",
            "From start to end of a unary RPC",
            ("grpc_method",),
            buckets=HANDLING_BUCKETS,
            registry=registry,
        )
        self._handled = Counter(
            "gocdnext_grpc_server_handled", "RPCs ended", ("grpc_method", "code"), registry=registry
        )
        self._depth = Gauge(
            "gocdnext_queue_depth",
            "Runs and jobs that wait; both labels carry the same value",
            ("stage", "stage_status"),
            registry=registry,
        )
        self._lines_dropped = Counter(
            "gocdnext_log_lines_dropped", "Log lines that belong to no attempt any more", ("reason",), registry=registry
        )
        self._logs_discarded = Counter(
            "gocdnext_log_batcher_session_discarded",
            "Sessions of agents that ended with log lines that were not stored",
            registry=registry,
        )
        self._sweeps = Counter("gocdnext_sweeps", "Passes of sweepers", ("sweeper", "outcome"), registry=registry)
        self._swept = Counter("gocdnext_swept", "What sweepers have changed", ("sweeper", "kind"), registry=registry)
        self._archived = Counter(
            "gocdnext_log_archive_jobs", "Logs that were to be archived", ("result",), registry=registry
        )
        self._partitions = Counter(
            "gocdnext_retention_dropped_log_partitions", "Monthly partitions of log lines dropped", registry=registry
        )
        self._drains = Counter("gocdnext_agent_drain", "Agents that drained", ("outcome",), registry=registry)
        self._drain_duration = Histogram(
            "gocdnext_agent_drain_duration_seconds",
            "From the start of an agent's drain to its end",
            ("outcome",),
            buckets=DRAIN_BUCKETS,
            registry=registry,
        )
        self._deliveries = Counter(
            "gocdnext_webhook_deliveries", "Deliveries of webhooks", ("provider", "outcome"), registry=registry
        )
        self._reports = Counter(
            "gocdnext_status_reports",
            "Tries to tell a provider how a run stands",
            ("provider", "outcome"),
            registry=registry,
        )
        self._results_invalid = Counter(
            "gocdnext_job_result_validation_failed",
            "Results that were not what they said",
            ("kind",),
            registry=registry,
        )
        self._reports_dropped = Counter(
            "gocdnext_agent_reports_dropped",
            "Reports of tests, coverage or services that were left out",
            ("kind", "reason"),
            registry=registry,
        )
        self._superseded = Counter(
            "gocdnext_runs_superseded", "Runs that gave way to a newer one of their lane", registry=registry
        )
        self._superseding_unfinished = Counter(
            "gocdnext_supersede_backstop_errors",
            "Superseded runs of which agents were not told, because the database went away after the commit",
            registry=registry,
        )
        self._lanes_busy = Counter(
            "gocdnext_supersede_lock_busy", "Waits for the lock of a lane in which runs give way", registry=registry
        )
        self._expired = Counter("gocdnext_approvals_expired", "Gates that nobody decided in time", registry=registry)
        self._reclaimed = Counter(
            "gocdnext_jobs_reclaimed", "Jobs taken back from their agents", ("reason", "outcome"), registry=registry
        )
        self._reclaim_sweeps = Counter(
            "gocdnext_job_reclaim_sweeps",
            "Passes over jobs that are to be taken back",
            ("reason", "outcome"),
            registry=registry,
        )
        self._disrupted = Counter(
            "gocdnext_jobs_disrupted", "Jobs whose agent's machine was taken away", ("outcome",), registry=registry
        )
        self._resolution = Histogram(
            "gocdnext_pr_head_resolution_seconds",
            "Reading the configuration that a pull request brings",
            ("outcome",),
            buckets=RESOLUTION_BUCKETS,
            registry=registry,
        )
        self._annotations_failed = Counter(
            "gocdnext_gate_freeze_annotation_errors",
            "Answers that do not say what runs and gates wait for, because it could not be found",
            ("surface", "kind"),
            registry=registry,
        )
        self._scrapes_failed = Counter(
            "promhttp_metric_handler_errors",
            "Answers of /metrics without the figures of the database",
            ("cause",),
            registry=registry,
        )
        for method in RPCS:
            self._started.labels(rpc_label(method))
            self._handled.labels(rpc_label(method), "OK")
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        registry.register(_AtScrape(lambda: self._sessions()))
        self._read_at = float("-inf")
        self._reading = trio.Lock()

    def watch(self, sessions: Callable[[], Iterable[Slot]]) -> None:
        """Says where the ready sessions are to be found, once the fleet exists."""
        self._sessions = sessions

    def status_reported(self, provider: str, outcome: str) -> None:
        """A provider was told how a run stands (told), or not (none, again, given_up)."""
        self._reports.labels(provider, outcome).inc()

    def job_scheduled(self, pipeline_id: UUID, project_id: UUID) -> None:
        """A job was handed to an agent (not a lost race)."""
        self._scheduled.labels(str(pipeline_id), str(project_id)).inc()
        self._with_agents += 1
        self._running.set(self._with_agents)

    def webhook_delivery(self, provider: str, outcome: str) -> None:
        """A delivery was answered."""
        self._deliveries.labels(provider, outcome).inc()

    def run_superseded(self) -> None:
        """A run gave way to a newer one."""
        self._superseded.inc()

    def superseding_unfinished(self) -> None:
        """Agents and other servers were not told of a superseded run; the reaper and their next Register repair it."""
        self._superseding_unfinished.inc()

    def lane_busy(self) -> None:
        """Somebody had to wait for the lock of a lane."""
        self._lanes_busy.inc()

    def approval_expired(self) -> None:
        """Nobody decided a gate within its window."""
        self._expired.inc()

    def job_reclaimed(self, reason: str, outcome: str) -> None:
        """A job was taken back from an agent; the outcomes of `runs.reclaiming`."""
        self._reclaimed.labels(reason, "failed_max" if outcome == "failed_capped" else outcome).inc()

    def reclaim_swept(self, reason: str, outcome: str) -> None:
        """A pass over such jobs: `success` or `error`."""
        self._reclaim_sweeps.labels(reason, outcome).inc()

    def job_disrupted(self, outcome: str) -> None:
        """An agent's machine was taken away with the job on it."""
        self._disrupted.labels(outcome).inc()

    def pr_head_resolved(self, outcome: str, seconds: float) -> None:
        """A pull request's own configuration was read: `ok`, `fetch_error` or `invalid`."""
        self._resolution.labels(outcome).observe(seconds)

    def annotation_failed(self, surface: str, kind: str) -> None:
        """An answer goes without what its runs wait for: `lookup` or `decode` failed."""
        self._annotations_failed.labels(surface, kind).inc()

    def job_left(self) -> None:
        """A job that was handed out is no longer with its agent and goes back to the queue."""
        # A job that an earlier process handed out may come back to this one.
        self._with_agents = max(0, self._with_agents - 1)
        self._running.set(self._with_agents)

    def job_ended(self, pipeline_id: UUID, project_id: UUID, status: str, seconds: float) -> None:
        """A job that was handed out reached a terminal status, `seconds` after it had started."""
        self.job_left()
        known = status if status in ("success", "failed", "canceled", "skipped") else "unknown"
        self._duration.labels(str(pipeline_id), str(project_id), known).observe(seconds)

    def rpc_started(self, method: str) -> None:
        """An RPC of the agent service began; `method` is its bare name."""
        self._started.labels(rpc_label(method)).inc()

    def rpc_handled(self, method: str, code: str, seconds: float | None) -> None:
        """An RPC ended with a gRPC status such as `OK` or `Canceled`; `seconds` of a unary one, None of a stream."""
        self._handled.labels(rpc_label(method), code).inc()
        if seconds is not None:
            self._handling.labels(rpc_label(method)).observe(seconds)

    def log_lines_dropped(self, reason: str, count: int) -> None:
        """Lines of an agent were dropped, for one of the reasons of the contract."""
        self._lines_dropped.labels(reason).inc(count)

    def log_session_discarded(self) -> None:
        """A session ended with lines that were not stored."""
        self._logs_discarded.inc()

    def swept(self, sweeper: str, outcome: str, changed: Mapping[str, int]) -> None:
        """A sweeper made a pass, `done` or `failed`, and changed so many things of each kind."""
        self._sweeps.labels(sweeper, outcome).inc()
        for kind, count in changed.items():
            if count:
                self._swept.labels(sweeper, kind).inc(count)
        self._partitions.inc(changed.get("LogPartitionsDropped", 0))
        for result, kind in ARCHIVE_RESULTS:
            self._archived.labels(result).inc(changed.get(kind, 0))

    def agent_drained(self, outcome: str, seconds: float) -> None:
        """An agent that had said it is draining has gone: `clean` with all its results stored, else `abandoned`."""
        self._drains.labels(outcome).inc()
        self._drain_duration.labels(outcome).observe(seconds)

    def report_dropped(self, kind: str, reason: str) -> None:
        """A report of an agent was left out, whole or in part (`cut`)."""
        self._reports_dropped.labels(kind, reason).inc()

    def result_invalid(self, kind: str) -> None:
        """A result's `artifacts` or `outputs` were not what it said."""
        self._results_invalid.labels(kind).inc()

    async def exposition(self, db: Database, accept: str) -> tuple[bytes, str]:
        """What `/metrics` answers and its content type. Without a database the queue gauges are absent, only they."""
        await self._read_queue(db)
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type

    async def _read_queue(self, db: Database) -> None:
        async with self._reading:
            now = trio.current_time()
            if now - self._read_at < FRESH:
                return
            try:
                row = await db.fetchrow(_SQL.queue_depth)
            except DatabaseUnavailableError:
                self._scrapes_failed.labels("gathering").inc()
                self._depth.clear()
                return
            assert row is not None
            for state in QUEUE_STATES:
                self._depth.labels(state, state).set(row[state])
            self._read_at = now


class _AtScrape:
    """Values that are asked for, not counted: the ready sessions, threads and tasks."""

    def __init__(self, sessions: Callable[[], Iterable[Slot]]) -> None:
        self._sessions = sessions

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        slots = tuple(self._sessions())
        yield GaugeMetricFamily("gocdnext_agents_online", "Ready agent sessions of this process", len(slots))
        running = GaugeMetricFamily("gocdnext_agent_jobs_running", "Jobs an agent runs", labels=("agent",))
        capacity = GaugeMetricFamily("gocdnext_agent_capacity", "Jobs an agent can run at once", labels=("agent",))
        for slot in slots:
            running.add_metric((str(slot.agent_id),), slot.capacity - slot.free)
            capacity.add_metric((str(slot.agent_id),), slot.capacity)
        yield running
        yield capacity
        # Boards ask for these three by the names that Go processes give them.
        runtime = GaugeMetricFamily("go_info", "What runs the process", labels=("version",))
        runtime.add_metric((f"python{platform.python_version()}",), 1)
        yield runtime
        yield GaugeMetricFamily("go_threads", "Threads of the process", threading.active_count())
        tasks = trio.lowlevel.current_statistics().tasks_living
        yield GaugeMetricFamily("go_goroutines", "Tasks of the process", tasks)
