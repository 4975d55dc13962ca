"""What a job takes in before its tasks and hands out after them, in the order of protocol-agent 3.3.

Artifacts, caches, test reports and coverage each are a module of their own, imported only by jobs that have them; here
is what comes when, and what a failure of the one means for the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from gocdnext.agent.calls import Calls
from gocdnext.agent.engines import TaskLog
from gocdnext.agent.failures import DeliveryError
from gocdnext.agent.masks import Masker
from gocdnext.proto.agent_pb2 import AgentMessage, ArtifactRef, JobAssignment, TestResultBatch

if TYPE_CHECKING:
    from gocdnext.agent.artifacts import Artifacts
    from gocdnext.agent.caches import Caches

Send = Callable[[AgentMessage], Awaitable[None]]


class MaskingLog(TaskLog, Protocol):
    """A log that knows the job's secrets: reports may hold them as well."""

    mask: Masker


class Delivery:
    """Of one job: `download`, `fetch_caches`, and in the end one of the other two. What a method raises is a
    DeliveryError that fails the job."""

    def __init__(
        self,
        assignment: JobAssignment,
        root: str,
        log: MaskingLog,
        send: Send,
        artifacts: Artifacts | None = None,
        caches: Caches | None = None,
    ) -> None:
        self._assignment = assignment
        self._root = root
        self._log = log
        self._send = send
        self._artifacts = artifacts
        self._caches = caches

    @property
    def uploaded(self) -> Sequence[ArtifactRef]:
        """The artifacts that lie in the store; more may come."""
        return self._artifacts.uploaded if self._artifacts is not None else ()

    async def download(self) -> None:
        """The artifacts of other jobs."""
        if self._artifacts is not None:
            await self._artifacts.download()

    async def fetch_caches(self) -> None:
        """Restores caches. Only a key can fail the job."""
        if self._caches is not None:
            await self._caches.expand()
            await self._caches.fetch()

    async def after_failure(self) -> None:
        """Reports of a job whose tasks failed, and the artifacts that it wants all the same. Never fails."""
        with contextlib.suppress(DeliveryError):  # a threshold does not matter any more
            await self._report()
        await self._upload(failed=True)

    async def after_success(self) -> None:
        """Everything of a job whose tasks succeeded. With its coverage too low it is treated as failed."""
        try:
            await self._report()
        except DeliveryError:
            await self._upload(failed=True)
            raise
        if self._caches is not None:
            await self._caches.store()
        await self._upload(failed=False)

    async def _report(self) -> None:
        ids = {"run_id": self._assignment.run_id, "job_id": self._assignment.job_id}
        if self._assignment.test_reports:
            from gocdnext.agent import test_reports

            results = await test_reports.collect(self._assignment.test_reports, self._root, self._log.mask, self._log)
            if results:
                await self._send(AgentMessage(test_results=TestResultBatch(**ids, results=results)))
        if self._assignment.coverage_report.path:
            from gocdnext.agent import coverage_report

            spec = self._assignment.coverage_report
            summary = await coverage_report.collect(spec, self._root, self._log)
            if summary is not None:
                summary.run_id, summary.job_id = ids["run_id"], ids["job_id"]
                await self._send(AgentMessage(coverage=summary))
            coverage_report.check(spec, summary)

    async def _upload(self, *, failed: bool) -> None:
        if self._artifacts is not None:
            await self._artifacts.upload(failed=failed)


@contextlib.asynccontextmanager
async def open_delivery(
    assignment: JobAssignment, root: str, beside: str, calls: Calls, log: MaskingLog, send: Send
) -> AsyncIterator[Delivery]:
    """The delivery of a job whose tasks run in `root`. Archives on their way are files whose names begin with `beside`."""
    if not (
        assignment.artifact_paths
        or assignment.optional_artifact_paths
        or assignment.artifact_downloads
        or assignment.caches
    ):
        yield Delivery(assignment, root, log, send)
        return
    from gocdnext.agent.artifacts import Artifacts
    from gocdnext.agent.caches import Caches
    from gocdnext.agent.parcels import Parcels

    async with Parcels(root, beside) as parcels:
        yield Delivery(
            assignment,
            root,
            log,
            send,
            Artifacts(assignment, parcels, calls, log),
            Caches(assignment, parcels, calls, log),
        )
