"""One job from its assignment to its result (protocol-agent 3.3). It knows neither the stream nor other jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from gocdnext.agent import markers, outputs
from gocdnext.agent.calls import Calls
from gocdnext.agent.checkout import CheckoutError, check_out, script_directory, secrets_of
from gocdnext.agent.delivery import Delivery, open_delivery
from gocdnext.agent.disk import DiskFullError, explain
from gocdnext.agent.engines import Engine, EngineError, Tasks
from gocdnext.agent.failures import DeliveryError
from gocdnext.agent.joblog import STDERR, JobLog
from gocdnext.agent.mirrors import Mirrors
from gocdnext.agent.outbox import Channel, frame
from gocdnext.agent.room import make_room
from gocdnext.agent.workspace import Workspace, WorkspaceError, job_directory
from gocdnext.durations import format_duration
from gocdnext.proto import agent_pb2
from gocdnext.proto.agent_pb2 import AgentMessage, ArtifactRef, JobAssignment, JobResult

MAX_ERROR = 8 * 1024
"""Characters of a result's error text."""
AFTER = "after the tasks"
"""The phase of reports, caches and artifacts."""


@dataclass
class _FailedError(Exception):
    """Ends the job: the text and the exit code of its result."""

    error: str
    exit_code: int = -1


class _TaskFailedError(_FailedError):
    """A task did: its reports and what it is to deliver after a failure are still wanted."""


class Job:
    """`run` is the whole life of it; `cancel` ends it early, from any other task."""

    def __init__(
        self, assignment: JobAssignment, engine: Engine, workspace: Workspace, outbox: Channel, calls: Calls
    ) -> None:
        secrets = [*assignment.log_masks, *secrets_of(assignment.checkouts)]
        self._assignment = assignment
        self._engine = engine
        self._workspace = workspace
        self._root = workspace.root
        self._mirrors = Mirrors(workspace.root, workspace.mirror_limit)
        self._outbox = outbox
        self._calls = calls
        self._log = JobLog(assignment.run_id, assignment.job_id, secrets, outbox, assignment.attempt)
        self._scope = trio.CancelScope()
        self._canceled: str | None = None
        self._artifacts: Sequence[ArtifactRef] = ()
        self._phase = "waiting"
        self._began = 0.0
        self._task_index: int | None = None  # while tasks run

    @property
    def lines(self) -> int:
        """Lines of its log so far."""
        return self._log.lines

    def cancel(self, reason: str) -> None:
        """Kills what runs at once; there is no grace period. The first reason counts."""
        if self._canceled is None:
            self._canceled = reason
            self._scope.cancel()

    async def run(self, slots: trio.CapacityLimiter) -> JobResult:
        """Waits for a slot, does everything and says how it went. Never raises for what a job can do wrong."""
        try:
            with self._scope:
                async with slots:
                    return self._result("", 0, await self._work())
            if self._task_index is not None:
                await self._log.line(markers.tasks_failed(trio.current_time() - self._began, self._task_index, None))
            return self._result(self._why_ended(), -1)
        except _FailedError as failure:
            return self._result(failure.error, failure.exit_code)

    def _why_ended(self) -> str:
        """The error of a job that was cancelled or ran into its time limit (design decision 11)."""
        if self._canceled is None:
            return f"timed out after {format_duration(self._assignment.timeout_seconds)}"
        return f"{self._phase}: canceled ({self._canceled})" if self._canceled else f"{self._phase}: canceled"

    async def _work(self) -> dict[str, str]:
        """All phases; returns the outputs."""
        assignment = self._assignment
        if assignment.timeout_seconds > 0:
            self._scope.deadline = trio.current_time() + assignment.timeout_seconds
        self._phase = "workspace"
        await self._refuse()
        try:
            await make_room(self._workspace)
            async with job_directory(self._root, assignment.run_id, assignment.job_id) as directory:
                cwd = await self._checkouts(directory)
                async with open_delivery(assignment, cwd, directory, self._calls, self._log, self._send) as delivery:
                    self._artifacts = delivery.uploaded
                    return await self._between(delivery, cwd)
        except EngineError as error:
            raise _FailedError(f"{self._phase}: {error}") from error
        except (WorkspaceError, DiskFullError) as error:
            raise _FailedError(f"workspace: {error}") from error
        except DeliveryError as error:
            raise _FailedError(str(error), 1 if self._phase == AFTER else -1) from error
        except OSError as error:  # e.g. a full disk
            raise _FailedError(f"{self._phase}: {explain(error, self._root)}") from error

    async def _between(self, delivery: Delivery, cwd: str) -> dict[str, str]:
        """What comes in, the tasks, what goes out; returns the outputs."""
        self._phase = "artifacts"
        await delivery.download()
        self._phase = "services"
        try:
            async with self._engine.services(self._assignment, self._log) as network:
                self._phase = "caches"
                await delivery.fetch_caches()
                self._phase = "engine"
                tasks = self._engine.tasks(self._assignment, cwd, self._log, network)
                env = dict(self._assignment.env)
                output_file = await self._prepare_outputs(cwd)
                if output_file:
                    env["GOCDNEXT_OUTPUT_FILE"] = tasks.seen(output_file)
                try:
                    await self._tasks(tasks, env)
                finally:
                    await tasks.close()
        except _TaskFailedError:
            self._phase = AFTER
            await delivery.after_failure()
            raise
        self._phase = AFTER
        await delivery.after_success()
        return await self._collect_outputs(output_file)

    async def _refuse(self) -> None:
        """What this agent cannot do ends the job before anything is done, with a sentence that says so."""
        refusal = await self._engine.refusal(self._assignment)
        if refusal is not None:
            raise _FailedError(refusal)

    async def _send(self, message: AgentMessage) -> None:
        """Reports, in their order among the lines of the log."""
        await self._outbox.room()
        self._outbox.put(frame(message))

    async def _checkouts(self, directory: str) -> str:
        """Returns the directory for the tasks."""
        try:
            for number, checkout in enumerate(self._assignment.checkouts):
                self._phase = f"checkout {number}"
                credentials = f"{directory}.git-credentials-{number}"
                await check_out(checkout, directory, credentials, self._log, self._mirrors)
            return script_directory(directory, self._assignment.checkouts)
        except CheckoutError as error:
            raise _FailedError(str(error)) from error

    async def _tasks(self, tasks: Tasks, env: dict[str, str]) -> None:
        """One after the other, up to the first that fails."""
        self._began = trio.current_time()
        for index, task in enumerate(self._assignment.tasks):
            self._phase, self._task_index = f"task {index}", index
            code: int | None = None
            failure = _TaskFailedError("")
            try:
                code = await self._task(index, task, tasks, env)
                failure = _TaskFailedError(f"task {index} exited with {code}", code)
            except EngineError as error:
                failure = _TaskFailedError(f"task {index}: {error}")
            if code != 0:
                self._task_index = None
                await self._log.line(markers.tasks_failed(trio.current_time() - self._began, index, code))
                raise failure
        self._task_index = None
        await self._log.line(markers.tasks_completed(trio.current_time() - self._began))

    async def _task(self, index: int, task: agent_pb2.TaskSpec, tasks: Tasks, env: dict[str, str]) -> int:
        kind = task.WhichOneof("kind")
        if kind == "script":
            await self._log.line(markers.script(task.script))
            return await tasks.run_script(task.script, env)
        if kind == "plugin":
            await self._log.line(markers.plugin(task.plugin.image))
            return await tasks.run_plugin(task.plugin, env)
        await self._log.line(f"task {index} is neither a script nor a plugin; skipped", STDERR)
        return 0

    async def _prepare_outputs(self, cwd: str) -> str:
        """The path of the outputs file; empty when the job declares no outputs."""
        if not self._assignment.outputs:
            return ""
        self._phase = "outputs"
        try:
            return await trio.to_thread.run_sync(outputs.prepare, cwd, self._assignment.job_id)
        except outputs.OutputsError as error:
            raise _FailedError(f"outputs: {error}") from error

    async def _collect_outputs(self, path: str) -> dict[str, str]:
        if not path:
            return {}
        self._phase = "outputs"
        try:
            return await trio.to_thread.run_sync(outputs.collect, path, dict(self._assignment.outputs))
        except outputs.OutputsError as error:
            raise _FailedError(f"outputs: {error}", 1) from error

    def _result(self, error: str, exit_code: int, values: dict[str, str] | None = None) -> JobResult:
        """FAILED whenever there is an error: a server of the field ignores any other failing status (2.6)."""
        return JobResult(
            run_id=self._assignment.run_id,
            job_id=self._assignment.job_id,
            status=agent_pb2.RUN_STATUS_FAILED if error else agent_pb2.RUN_STATUS_SUCCESS,
            exit_code=exit_code,
            error=self._log.mask(error.replace("\0", ""))[:MAX_ERROR],
            artifacts=self._artifacts,
            outputs=values or {},
            attempt=self._assignment.attempt,
        )
