"""What an agent says, message by message and strictly in order (protocol-agent 2.5, 2.6). asyncio side.

Identity comes from the session, never from a message: what speaks of a job that the session does not hold is dropped.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

import structlog
import tenacity
import trio
import trio_asyncio
from google.protobuf.message import DecodeError
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from gocdnext.blobs.artifacts import Attempt, Claimed
from gocdnext.db.pool import DatabaseUnavailableError
from gocdnext.fleet import frames
from gocdnext.fleet.ports import FleetMetrics, Runs
from gocdnext.fleet.reports import Reports
from gocdnext.fleet.session import Held, Session
from gocdnext.fleet.wire import MessageBuffer
from gocdnext.logs import batches
from gocdnext.logs.ingest import LogWriter
from gocdnext.proto import agent_pb2 as pb
from gocdnext.runs import state
from gocdnext.runs.service import JobReport
from gocdnext.tracing import doing

DRAIN_MESSAGES = 512
"""Messages handled before others get their turn."""
COMPLETE_SECONDS = 5.0
"""Bound of one try to store a result."""
REPORT_SECONDS = 30.0
"""Bound of one try to keep a report, which may be a batch of 8 MiB."""
MAX_OUTPUTS = 64
MAX_OUTPUT_BYTES = 64 * 1024

Confirm = Callable[[Attempt, Sequence[Claimed]], Awaitable[list[Claimed]]]
"""`blobs.artifacts.confirm`: what of a result's artifacts is not as it says. A trio function."""

_ALIAS = re.compile(r"[a-z][a-zA-Z0-9_-]*")
_log = structlog.get_logger(__name__)


class Receiver:
    """Handles the messages of one session."""

    def __init__(
        self,
        session: Session,
        log: LogWriter,
        runs: Runs,
        metrics: FleetMetrics,
        *,
        confirm: Confirm,
        reports: Reports,
        clock: Callable[[], datetime],
        finished: Callable[[Session, Held], None],
    ) -> None:
        self._session = session
        self._log = log
        self._runs = runs
        self._metrics = metrics
        self._confirm = confirm
        self._reports = reports
        self._clock = clock
        self._finished = finished
        self._ignored: Counter[str] = Counter()

    async def run(self, buffer: MessageBuffer) -> None:
        """Until the agent closes its side; then everything received is finished: lines stored, results completed.

        Raises GRPCError for what is not a message.
        """
        while (messages := await buffer.messages(DRAIN_MESSAGES)) is not None:
            await self._handle(messages)
            # Never more than a turn's worth at a time, however fast the agent sends.
            await asyncio.sleep(0)
        await self._log.flush()
        if self._ignored:
            _log.info("messages ignored", agent=self._session.name, **self._ignored)

    async def _handle(self, messages: list[bytes]) -> None:
        now = self._session.seen = self._clock()
        micros = int(now.timestamp() * 1_000_000)
        parse = pb.AgentMessage.FromString
        for data in messages:
            try:
                message = parse(data)
            except DecodeError:
                raise GRPCError(Status.INVALID_ARGUMENT, "not an AgentMessage") from None
            kind = message.WhichOneof("kind")
            if kind == "log":
                self._line(message.log, micros)
                if self._log.full:
                    await self._log.room()
            elif kind == "log_batch" and self._session.log_batches:
                self._batch(message.log_batch, micros)
                if self._log.full:
                    await self._log.room()
            elif kind == "mark" and self._session.leased:
                self._log.mark(message.mark.number)
            elif kind == "heartbeat":
                self._session.outbox.offer(_pong(now))
            elif kind == "result":
                await self._result(message.result)
            elif kind == "draining":
                if not self._session.draining:
                    self._session.draining_since = time.monotonic()
            elif self._reports.is_report(kind):
                if (keep := self._reports.keeping(self._session, kind, message)) is not None:
                    await self._persistently(keep, REPORT_SECONDS)
            else:
                # Progress is never sent by agents.
                self._ignored[kind or "unknown"] += 1

    def _line(self, line: pb.LogLine, now: int) -> None:
        held = self._session.owns(line.run_id, line.job_id)
        if held is None:
            self._metrics.log_lines_dropped("snapshot_stale", 1)
            return
        at = line.at
        self._log.add(held.target, line.seq, at.seconds * 1_000_000 + at.nanos // 1000, line.stream, line.text, now)

    def _batch(self, batch: pb.LogBatch, now: int) -> None:
        texts: list[str] = []
        runs: list[batches.Run] = []
        if max(len(batch.texts), len(batch.runs)) <= batches.MAX_LINES:
            texts, runs = list(batch.texts), [(run.lines, run.at_micros, run.stream) for run in batch.runs]
        if (problem := batches.problem(batch.first_seq, texts, runs)) is not None:
            raise GRPCError(Status.INVALID_ARGUMENT, problem)
        held = self._session.owns(batch.run_id, batch.job_id, batch.attempt)
        if held is None:
            self._metrics.log_lines_dropped("snapshot_stale", len(texts))
            self._session.refuse(batch.run_id, batch.job_id, batch.attempt)
            return
        self._log.add_batch(held.target, batches.after(held.stored, batch.first_seq, texts, runs), now)

    async def _result(self, result: pb.JobResult) -> None:
        held = self._session.owns(result.run_id, result.job_id, result.attempt)
        status = frames.STATUS.get(result.status)
        if held is None or status is None:
            _log.info("result ignored", agent=self._session.name, job_id=result.job_id[:64], status=result.status)
            return
        with doing("agent.result", run_id=held.target.run_id, job_id=held.target.job_id, attempt=held.target.attempt):
            await self._ended(held, status, result)

    async def _ended(self, held: Held, status: str, result: pb.JobResult) -> None:
        # The barrier: whoever sees the job finished sees all its lines.
        await self._log.flush()
        undelivered = "" if status == frames.DISRUPTED else await self._undelivered(held, result)
        report = self._validated(
            JobReport(
                run_id=held.target.run_id,
                job_id=held.target.job_id,
                agent_id=self._session.agent_id,
                attempt=held.target.attempt,
                status=status,
                exit_code=result.exit_code,
                error=result.error,
                outputs=dict(result.outputs),
            ),
            undelivered,
        )
        if self._session.superseded:
            return
        await self._complete(held, report)

    async def _undelivered(self, held: Held, result: pb.JobResult) -> str:
        """Makes the result's artifacts ready; what is wrong with them, or nothing (protocol-agent 2.6, step 4)."""
        claimed = [Claimed(ref.path, ref.storage_key, ref.size, ref.content_sha256) for ref in result.artifacts]
        if not claimed:
            return ""
        wrong: list[Claimed] = []

        async def confirm() -> None:
            target = held.target
            attempt = Attempt(target.run_id, target.job_id, self._session.agent_id, target.attempt)
            wrong[:] = await self._confirm(attempt, claimed)

        await self._persistently(confirm)
        if not wrong:
            return ""
        self._metrics.result_invalid("artifacts")
        return f"artifact reconciliation: {wrong[0].path[:256]!r} is not in the store as it was reported"

    def _validated(self, report: JobReport, undelivered: str) -> JobReport:
        """Steps 4 and 5 of protocol-agent 2.6: a success with bad artifacts or outputs is a failure."""
        problem = undelivered
        if not problem and report.status == state.SUCCESS and (problem := _outputs_problem(report.outputs)):
            self._metrics.result_invalid("outputs")
        if not problem or report.status != state.SUCCESS:
            return report
        return replace(report, status=state.FAILED, error=report.error or problem, outputs={})

    async def _complete(self, held: Held, report: JobReport) -> None:
        if not await self._at_once(report):
            await self._persistently(partial(self._complete_once, report))
        self._finished(self._session, held)

    async def _at_once(self, report: JobReport) -> bool:
        """Nearly every result is one statement on this side. What was under way when the database went is told again."""
        try:
            async with asyncio.timeout(COMPLETE_SECONDS):
                return await self._runs.complete_at_once(report)
        except (DatabaseUnavailableError, TimeoutError):
            return False

    async def _persistently(self, work: Callable[[], Awaitable[None]], within: float = COMPLETE_SECONDS) -> None:
        """Does the trio function `work`, in tries of `within` seconds, until the database has taken it."""

        async def once() -> None:
            with trio.fail_after(within):
                await work()

        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type((DatabaseUnavailableError, trio.TooSlowError)),
            wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=5.0),
            sleep=asyncio.sleep,
        ):
            with attempt:
                await trio_asyncio.trio_as_aio(once)()

    async def _complete_once(self, report: JobReport) -> None:
        if not await self._runs.complete(report):
            _log.info("result was late or repeated", run_id=report.run_id, job_id=report.job_id, attempt=report.attempt)


def _pong(now: datetime) -> pb.ServerMessage:
    message = pb.ServerMessage()
    message.pong.at.FromDatetime(now)
    return message


def _outputs_problem(outputs: object) -> str:
    assert isinstance(outputs, dict)
    if len(outputs) > MAX_OUTPUTS:
        return f"{len(outputs)} outputs: the limit is {MAX_OUTPUTS}"
    for alias in outputs:
        if _ALIAS.fullmatch(alias) is None:
            return f"output name {alias[:64]!r} is not allowed"
    if sum(len(key.encode()) + len(value.encode()) for key, value in outputs.items()) > MAX_OUTPUT_BYTES:
        return f"outputs are larger than {MAX_OUTPUT_BYTES} bytes together"
    return ""
