"""What the fleet asks of other rooms, as protocols: the run service and the metrics. No I/O here."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol
from uuid import UUID

from gocdnext.logs.ingest import LogMetrics
from gocdnext.runs.service import HeldJob, JobReport


class Runs(Protocol):
    """The part of `runs.service.RunService` that agents cause. trio functions; all raise DatabaseUnavailableError."""

    async def complete(self, report: JobReport) -> bool:
        """Stores a result; False when it is stale or a duplicate and nothing changed."""

    async def complete_at_once(self, report: JobReport) -> bool:
        """The same as an asyncio function; False when nothing is stored and `complete` has to do it."""

    async def reclaim(self, agent_id: UUID) -> None:
        """Requeues or fails the running jobs of an agent that registered again."""

    async def resume(self, agent_id: UUID, has: Collection[tuple[UUID, int]]) -> list[HeldJob]:
        """What stays an agent's that came back with these attempts (job, attempt); the rest of its jobs is requeued."""

    async def running(self, agent_ids: Collection[UUID]) -> list[tuple[UUID, UUID, UUID, int]]:
        """(agent, run, job, attempt) of everything that runs at these agents."""

    async def forgotten(self, agent_id: UUID, run_id: UUID, job_id: UUID, attempt: int) -> None:
        """Requeues or fails a running attempt that its agent does not have."""

    async def pending_cancels(self, agent_id: UUID) -> list[tuple[UUID, UUID]]:
        """(run, job) of the agent's running jobs that were told to stop."""


class FleetMetrics(LogMetrics, Protocol):
    """What is counted here; the gauges are read from the registry when they are asked for."""

    def rpc_started(self, method: str) -> None:
        """`gocdnext_grpc_server_started_total{grpc_method}`; the method's bare name."""

    def rpc_handled(self, method: str, code: str, seconds: float | None) -> None:
        """`gocdnext_grpc_server_handled_total{grpc_method,code}`, codes as grpc-go writes them, and the histogram of
        unary calls; None for a stream."""

    def agent_drained(self, outcome: str, seconds: float) -> None:
        """`gocdnext_agent_drain_total{outcome}` and its histogram; `clean` or `abandoned`."""

    def report_dropped(self, kind: str, reason: str) -> None:
        """`gocdnext_agent_reports_dropped_total{kind,reason}`: a report that did not fit or is nobody's."""

    def result_invalid(self, kind: str) -> None:
        """`gocdnext_job_result_validation_failed_total{kind}`; `artifacts` or `outputs`."""
