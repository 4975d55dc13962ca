"""Runs a plan in one directory on an engine of the agent, one step after the other, up to the first that fails."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import trio

from gocdnext.agent import outputs
from gocdnext.agent.engines import Engine, EngineError
from gocdnext.agent.failures import DeliveryError
from gocdnext.agent.joblog import STDOUT, LogSink
from gocdnext.agent.masks import Masker
from gocdnext.durations import format_duration
from gocdnext.local.delivery import hand_out, take_in
from gocdnext.local.plan import Stage, Step
from gocdnext.local.report import Report
from gocdnext.pipeline.environment import BuiltinFacts, JobEnvironment, build_environment
from gocdnext.pipeline.model import Job, Pipeline
from gocdnext.pipeline.substitution import NeededJob, OutputValue, SubstitutionError
from gocdnext.proto.agent_pb2 import JobAssignment, PluginSpec, ResourceRequirements, ServiceSpec, TaskSpec

SERVICES = "services"
"""What lines about the services stand under."""


@dataclass(frozen=True)
class Request:
    """All that a run needs to know. `secrets` is kept out of the repr."""

    pipeline: Pipeline
    stages: Sequence[Stage]
    workspace: str
    event: str = "manual"
    revision: str = ""
    branch: str = ""
    secrets: dict[str, str] = field(default_factory=dict, repr=False)


class StepError(Exception):
    """The step failed; `code` is -1 when it was no exit code."""

    def __init__(self, error: str, code: int = -1) -> None:
        super().__init__(error)
        self.code = code


class LocalLog:
    """A TaskLog that prints."""

    def __init__(self, step: str, masks: Sequence[str], report: Report) -> None:
        self.mask = Masker(masks)
        self._step = step
        self._report = report

    async def line(self, text: str, stream: str = STDOUT) -> None:
        await self.write(stream, self.mask(text.replace("\0", "")).split("\n"))

    async def write(self, stream: str, lines: Sequence[str]) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if lines:
            self._report.lines(self._step, stream, lines)

    def sink(self, stream: str) -> LogSink:
        return LogSink(self, stream)


class Runner:
    """One run. Services are started once, before the first stage, and shared by all jobs."""

    def __init__(self, request: Request, engine: Engine, report: Report) -> None:
        self._request = request
        self._engine = engine
        self._report = report
        self._run_id = str(uuid.uuid4())
        self._outputs: dict[str, dict[str, dict[str, OutputValue]]] = {}
        self._count = 0

    async def run(self) -> bool:
        """Whether everything succeeded. Cancelled: what runs is killed and everything is removed."""
        began = trio.current_time()
        stages = self._request.stages
        failed, done = "", 0
        try:
            async with self._services() as network:
                for done, stage in enumerate(stages, 1):  # noqa: B007
                    failed = await self._stage(stage, network)
                    if failed:
                        break
        except EngineError as error:
            failed = SERVICES
            self._report.finished(SERVICES, str(error), -1, trio.current_time() - began)
        skipped = [stage.name for stage in stages[done:]]
        self._report.end(self._count, failed, skipped, trio.current_time() - began)
        return not failed

    @contextlib.asynccontextmanager
    async def _services(self) -> AsyncIterator[str]:
        specs = self._specs()
        assignment = JobAssignment(run_id=self._run_id, job_id=self._run_id, services=specs)
        if not specs or not any(
            step.job.kind in {"script", "plugin"} for s in self._request.stages for step in s.steps
        ):
            yield ""
            return
        refusal = await self._engine.refusal(assignment)
        if refusal is not None:
            raise EngineError(refusal)
        log = LocalLog(SERVICES, tuple(self._request.secrets.values()), self._report)
        async with self._engine.services(assignment, log) as network:
            for spec in specs:
                self._report.service(spec.name, spec.image)
            yield network

    def _specs(self) -> list[ServiceSpec]:
        return [
            ServiceSpec(name=service.name, image=service.image, env=service.env, command=service.command)
            for service in self._request.pipeline.services
        ]

    async def _stage(self, stage: Stage, network: str) -> str:
        """The name of the step that failed; empty when all went well."""
        self._report.stage(stage.name)
        for step in stage.steps:
            if step.job.kind == "gate":
                self._report.notice(step.name, "approval gate skipped: nobody is asked in a local run")
                continue
            if step.job.kind == "noop":
                self._report.notice(step.name, "skipped: it has nothing to execute here")
                continue
            began = trio.current_time()
            error, code = "", 0
            try:
                await self._step(step, network)
            except StepError as failure:
                error, code = str(failure), failure.code
            self._report.finished(step.name, error, code, trio.current_time() - began)
            if error:
                return step.name
            self._count += 1
        return ""

    async def _step(self, step: Step, network: str) -> None:
        job = step.job
        try:
            environment = self._environment(step)
        except SubstitutionError as error:
            raise StepError(str(error)) from error
        log = LocalLog(step.name, environment.masks, self._report)
        assignment = self._assignment(step, environment)
        # Without its services, since those run already; with them, it could not do without an image.
        asked = JobAssignment()
        asked.CopyFrom(assignment)
        asked.services.extend(self._specs() if network else [])
        try:
            refusal = await self._engine.refusal(asked)
            if refusal is not None:
                raise StepError(log.mask(refusal))
            with trio.move_on_after(job.timeout_seconds or float("inf")) as limit:
                async with self._engine.services(assignment, log):
                    await take_in(job, self._request.pipeline, self._request.workspace, log)
                    await self._execute(step, assignment, environment, log, network)
        except EngineError as error:
            raise StepError(log.mask(str(error))) from error
        except DeliveryError as error:
            raise StepError(log.mask(str(error)), 1) from error
        except outputs.OutputsError as error:
            raise StepError(f"outputs: {error}", 1) from error
        except OSError as error:  # of files in the workspace
            raise StepError(log.mask(str(error))) from error
        if limit.cancelled_caught:
            raise StepError(f"timed out after {format_duration(job.timeout_seconds)}")

    async def _execute(
        self, step: Step, assignment: JobAssignment, environment: JobEnvironment, log: LocalLog, network: str
    ) -> None:
        tasks = self._engine.tasks(assignment, self._request.workspace, log, network)
        env = {**environment.env, "GOCDNEXT_LOCAL": "true"}
        async with self._output_file(assignment.job_id, step.job) as path:
            if path:
                env["GOCDNEXT_OUTPUT_FILE"] = tasks.seen(path)
            task = assignment.tasks[0]
            run = (
                tasks.run_plugin(task.plugin, env) if step.job.kind == "plugin" else tasks.run_script(task.script, env)
            )
            try:
                code = await run
            finally:
                await tasks.close()
            await hand_out(step.job, self._request.workspace, log, failed=code != 0)
            if code != 0:
                raise StepError(f"exited with {code}", code)
            if path:
                keys = {alias: output.env for alias, output in step.job.outputs.items()}
                values = await trio.to_thread.run_sync(outputs.collect, path, keys)
                self._outputs.setdefault(step.job.name, {})[step.key] = {
                    alias: OutputValue(value, masked=step.job.outputs[alias].masked) for alias, value in values.items()
                }

    @contextlib.asynccontextmanager
    async def _output_file(self, job_id: str, job: Job) -> AsyncIterator[str]:
        """The file for the job's outputs, taken away afterwards: the workspace is the user's own."""
        if not job.outputs:
            yield ""
            return
        path = await trio.to_thread.run_sync(outputs.prepare, self._request.workspace, job_id)
        try:
            yield path
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)
                os.rmdir(os.path.dirname(path))
                os.rmdir(os.path.dirname(os.path.dirname(path)))  # only when there was none before

    def _assignment(self, step: Step, environment: JobEnvironment) -> JobAssignment:
        """As a server would send it."""
        job, limits = step.job, step.job.resources.limits
        if job.plugin is not None:
            task = TaskSpec(plugin=PluginSpec(image=job.plugin.image, settings=environment.settings))
        else:
            task = TaskSpec(script=job.script)
        return JobAssignment(
            run_id=self._run_id,
            job_id=str(uuid.uuid4()),
            name=step.name,
            image=job.image,
            docker=job.docker,
            tasks=[task],
            resources=ResourceRequirements(cpu_limit=limits.cpu, memory_limit=limits.memory),
        )

    def _environment(self, step: Step) -> JobEnvironment:
        request = self._request
        name = request.pipeline.name
        facts = BuiltinFacts(
            run_id=self._run_id,
            run_counter=0,
            pipeline_id="local",
            pipeline_name=name,
            project_id="local",
            project_slug="local",
            cause=request.event,
            revision=request.revision,
            branch=request.branch,
        )
        return build_environment(
            step.job,
            facts,
            pipeline_variables=request.pipeline.variables,
            matrix_key=step.key,
            secrets=request.secrets,
            needs={need: self._needed(need) for need in step.job.needs},
        )

    def _needed(self, name: str) -> NeededJob:
        job = self._request.pipeline.job(name)
        keys = job.instances if job is not None else ()
        dimensions = tuple(pair.partition("=")[0] for pair in keys[0].split(",")) if keys else ()
        return NeededJob(instances=self._outputs.get(name, {}), dimensions=dimensions)
