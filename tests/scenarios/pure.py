"""A scenario's world without a database: the pure core, and dictionaries where the product has tables.

`PureRuns` has the methods of `RunService` that scenarios use, so the same steps can be played on either. Everything
that decides is the product's own code; what is here is only the keeping.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec

from gocdnext.durations import format_duration
from gocdnext.errors import DomainError, NotFoundError, UnprocessableError
from gocdnext.materials.arrivals import Arrival, Key
from gocdnext.materials.webhooks import ladder
from gocdnext.materials.webhooks.events import Event, Nothing, TagPush
from gocdnext.materials.webhooks.events import Request as PullRequest
from gocdnext.materials.webhooks.ladder import Waiting
from gocdnext.materials.webhooks.trace import Trace
from gocdnext.pipeline import parse
from gocdnext.pipeline.fingerprints import normal_git_url
from gocdnext.pipeline.identity import material_id
from gocdnext.pipeline.implicit import with_implicit_material
from gocdnext.pipeline.model import Approval, GitMaterial, Notification, Pipeline, UpstreamMaterial
from gocdnext.runs import cascade, events, planning, transitions
from gocdnext.runs.consequences import concerned, inherited
from gocdnext.runs.creation import CreatedRun, NewRun
from gocdnext.runs.events import Consequence, Voter
from gocdnext.runs.expansion import expand, request_labels
from gocdnext.runs.replay import replay
from gocdnext.runs.service import _REFUSALS, JobReport, event_of
from gocdnext.runs.state import AWAITING, OPEN, OPEN_JOB, QUEUED, RUNNING, Artifact, Job, Revision, Run
from tests.scenarios.fleet import ScriptedFleet
from tests.scenarios.world import World


@dataclass
class StoredPipeline:
    """A pipeline as apply left it."""

    id: UUID
    definition: Pipeline
    counter: int = 0


@dataclass
class PureRuns:
    """Runs, pipelines, agents and freezes in memory."""

    fleet: ScriptedFleet
    wake: Callable[[UUID], None]
    clock: Callable[[], datetime]
    pipelines: dict[str, StoredPipeline] = field(default_factory=dict)
    runs: dict[UUID, Run] = field(default_factory=dict)
    upstream_of: dict[UUID, UUID] = field(default_factory=dict)
    passes: set[tuple[UUID, str]] = field(default_factory=set)
    frozen: set[str] = field(default_factory=set)
    artifacts: dict[tuple[UUID, int], list[str]] = field(default_factory=dict)
    """Job and attempt -> paths that it has delivered."""
    online: set[UUID] = field(default_factory=set)
    notifications: tuple[Notification, ...] = ()
    project_id: UUID = field(default_factory=uuid4)

    # ---- what the service does -------------------------------------------------------------------------

    async def create(self, new: NewRun) -> CreatedRun:
        stored = next((p for p in self.pipelines.values() if p.id == new.pipeline_id), None)
        if stored is None:
            raise NotFoundError("pipeline not found")
        definition = stored.definition
        if not definition.stages:
            raise UnprocessableError(f'pipeline "{definition.name}" has no stages: declare at least one')
        stored.counter += 1
        notifications = self.notifications if definition.notifications is None else definition.notifications
        labels = request_labels(new.cause, new.cause_detail)
        stages, jobs = expand(definition, notifications, labels=labels, now=self.clock(), new_id=uuid4)
        run = Run(
            id=uuid4(),
            pipeline_id=stored.id,
            project_id=self.project_id,
            project_slug="scenario",
            counter=stored.counter,
            cause=new.cause,
            cause_detail=new.cause_detail,
            definition=definition,
            revisions=new.revisions,
            ref=new.ref,
            triggered_by=new.triggered_by,
            notifications=notifications,
            created_at=self.clock(),
            stages=stages,
            jobs=jobs,
        )
        self.runs[run.id] = run
        if new.upstream_run_id is not None:
            self.upstream_of[run.id] = new.upstream_run_id
        await self._carry_out(run, cascade.supersede(run, cascade.ready_gates(run, 0)))
        self.wake(run.id)
        return CreatedRun(run.id, run.counter, stored.id)

    async def complete(self, report: JobReport) -> bool:
        return await self._change(report.run_id, event_of(report))

    async def cancel_run(self, run_id: UUID) -> None:
        await self._change(run_id, events.RunCancelRequested())

    async def cancel_job(self, job_id: UUID) -> None:
        await self._change(self._run_of(job_id), events.JobCancelRequested(job_id))

    async def vote(self, job_id: UUID, voter: Voter, *, approve: bool) -> None:
        await self._change(self._run_of(job_id), events.GateVoted(job_id, voter, approve))

    async def rerun_job(self, job_id: UUID) -> None:
        await self._change(self._run_of(job_id), events.JobRerunRequested(job_id))

    async def rerun(self, run_id: UUID) -> CreatedRun:
        return await self.create(replay(self.runs[run_id], ""))

    async def reclaim(self, agent_id: UUID) -> None:
        await self._lost((agent_id,), "agent re-registered")

    async def reap(self) -> None:
        held = {job.agent_id for run in self.runs.values() for job in run.jobs if job.status == RUNNING}
        await self._lost([agent for agent in held if agent and agent not in self.online], "agent lost")

    async def expire_gates(self, default_seconds: int | None) -> None:
        for run in list(self.runs.values()):
            for job in run.jobs:
                definition = run.definition_of(job)
                if job.status != AWAITING or job.gate is None or definition is None or definition.approval is None:
                    continue
                window = _window(definition.approval, default_seconds)
                if window is not None and job.gate.awaiting_since < self.clock() - timedelta(seconds=window):
                    event = events.GateExpired(job.id, job.gate.awaiting_since, format_duration(window))
                    await self._change(run.id, event)

    async def dispatch(self, run_id: UUID) -> None:
        done = planning.carry_out(self._seen(run_id), self.fleet.slots(), self.clock())
        self.runs[run_id] = done.run
        await self._carry_out(done.run, done.consequences)
        for sent in done.assignments:
            if not self.fleet.assign(sent.slot.session_id, sent.assignment):
                lost = events.AssignmentLost(sent.assignment.job_id, sent.slot.agent_id, sent.assignment.attempt)
                await self._change(run_id, lost)
        self._perform(done.effects)

    async def unfreeze(self, environment: str) -> None:
        """Ends a freeze and lets go what it held."""
        self.frozen.discard(environment)
        for run_id in self.open_runs():
            await self._change(run_id, events.EnvironmentReleased(environment))

    # ---- what tables are asked ---------------------------------------------------------------------------

    def open_runs(self) -> list[UUID]:
        """Runs a scheduler looks at, oldest first."""
        return [
            run.id
            for run in self.runs.values()
            if run.status in OPEN or any(job.status in OPEN_JOB for job in run.jobs)
        ]

    def _seen(self, run_id: UUID) -> Run:
        """The run with what others hold it by now."""
        run = self.runs[run_id]
        others = [other for other in self.runs.values() if other.pipeline_id == run.pipeline_id and other.id != run_id]
        holder = None
        if run.status == QUEUED and run.definition.concurrency == "serial":
            holder = next((other.id for other in others if other.status == RUNNING), None)
        newer = [o for o in others if o.counter > run.counter and self._one_lane(run, o)]
        passed = frozenset(env for other in newer for owner, env in self.passes if owner == other.id)
        return replace(
            run,
            serial_holder=holder,
            frozen=frozenset(self.frozen),
            passed_by_newer=passed,
            artifacts=self._delivered(run),
        )

    def _delivered(self, run: Run) -> tuple[Artifact, ...]:
        upstream = next((r for r in self.runs.values() if str(r.id) == run.cause_detail.get("upstream_run_id")), None)
        return tuple(
            Artifact(job.name, path, f"{job.id}/{path}", "", pipeline)
            for of, pipeline in ((run, ""), *([(upstream, upstream.definition.name)] if upstream else []))
            for job in of.jobs
            for path in self.artifacts.get((job.id, job.attempt), [])
        )

    def _one_lane(self, run: Run, other: Run) -> bool:
        mode = run.definition.supersede
        return mode == "pipeline" or (mode == "branch" and run.ref == other.ref)

    def _run_of(self, job_id: UUID) -> UUID:
        return next(run.id for run in self.runs.values() if run.job(job_id) is not None)

    async def _lost(self, agents: Iterable[UUID], reason: str) -> None:
        wanted = set(agents)
        for run in list(self.runs.values()):
            for job in run.jobs:
                if job.status == RUNNING and job.agent_id in wanted:
                    event = events.AgentLost(job.id, job.agent_id, job.attempt, f"{reason} before completion")
                    await self._change(run.id, event)

    async def _change(self, run_id: UUID, event: events.Event) -> bool:
        before = self._seen(run_id)
        outcome = transitions.apply(before, event, self.clock())
        if outcome.refused is not None:
            kind: type[DomainError] = _REFUSALS[outcome.refused.kind]
            raise kind(outcome.refused.text)
        self.runs[run_id] = outcome.run
        await self._carry_out(outcome.run, outcome.consequences)
        self._perform(outcome.effects)
        return outcome.run is not before

    def _perform(self, effects: Iterable[events.Effect]) -> None:
        for effect in effects:
            match effect:
                case events.StopJob(run_id, job_id, agent_id, reason):
                    self.fleet.cancel(agent_id, run_id, job_id, reason)
                case events.JobEnded(job, agent_id) if agent_id is not None:
                    self.fleet.release(agent_id, job.id)
                case events.LookAgain(run_id):
                    self.wake(run_id)

    async def _carry_out(self, run: Run, consequences: Iterable[Consequence]) -> None:
        for consequence in consequences:
            match consequence:
                case events.StartDownstream(stage):
                    await self._start_downstream(run, stage)
                case events.SupersedeOlder(environments):
                    await self._supersede(run, environments)
                case events.GatePassed(environment):
                    self.passes.add((run.id, environment))
                case events.GatesRearmed(environments):
                    self.passes -= {(run.id, environment) for environment in environments}

    async def _start_downstream(self, run: Run, stage: str) -> None:
        for _, stored in sorted(self.pipelines.items()):
            on = next((m for m in stored.definition.materials if _is_upstream(m, run.definition.name, stage)), None)
            if on is None or any(
                self.upstream_of.get(r.id) == run.id and r.pipeline_id == stored.id for r in self.runs.values()
            ):
                continue
            materials = {m.fingerprint: str(material_id(stored.id, m.fingerprint)) for m in stored.definition.materials}
            detail = {
                "upstream_run_id": str(run.id),
                "upstream_run_counter": run.counter,
                "upstream_pipeline": run.definition.name,
                "upstream_stage": stage,
                **({"from_fork": True} if run.from_fork else {}),
            }
            revisions = inherited(run, materials, materials[on.fingerprint])
            await self.create(
                NewRun(stored.id, "upstream", "system:upstream", revisions, detail, run.ref, upstream_run_id=run.id)
            )

    async def _supersede(self, run: Run, environments: frozenset[str]) -> None:
        older = [
            other
            for other in self.runs.values()
            if other.pipeline_id == run.pipeline_id and other.counter < run.counter and self._one_lane(run, other)
        ]
        for victim in sorted(older, key=lambda other: -other.counter):
            if concerned(victim, environments):
                await self._change(victim.id, events.RunSuperseded(run.id, run.counter))


def _is_upstream(material: Any, pipeline: str, stage: str) -> bool:
    return isinstance(material, UpstreamMaterial) and (material.pipeline, material.stage, material.status) == (
        pipeline,
        stage,
        "success",
    )


def _window(approval: Approval, default_seconds: int | None) -> int | None:
    if isinstance(approval.timeout, int):
        return approval.timeout
    return default_seconds if approval.timeout == "inherit" else None


@dataclass
class PureWorld(World):
    """The same steps and expectations on the pure core."""

    db: Any = None

    def __post_init__(self) -> None:
        self.pure = PureRuns(self.fleet, self.woken_by, lambda: self.now)
        self.runs: Any = self.pure
        self.arrived: dict[Key, Arrival] = {}

    def woken_by(self, run_id: UUID) -> None:
        """What the service tells its observer."""
        self.woken.add(run_id)

    async def do_apply(self, step: Mapping[str, Any]) -> None:
        kept = {}
        for name, body in step["pipelines"].items():
            definition = parse(json.dumps({"name": name, **body}), f"{name}.yaml")
            definition = with_implicit_material(definition, self.source_url, "main")
            old = self.pure.pipelines.get(name)
            kept[name] = StoredPipeline(old.id, definition, old.counter) if old else StoredPipeline(uuid4(), definition)
        self.pure.pipelines = kept
        ids = {stored.id for stored in kept.values()}
        self.pure.runs = {key: run for key, run in self.pure.runs.items() if run.pipeline_id in ids}

    async def arrive(self, event: Event) -> None:
        assert not isinstance(event, Nothing)
        self.pushed = True
        branch = event.base if isinstance(event, PullRequest) else "" if isinstance(event, TagPush) else event.branch
        waiting = [
            Waiting(
                stored.id, material_id(stored.id, m.fingerprint), name, m.events, m.paths, stored.definition.when.events
            )
            for name, stored in sorted(self.pure.pipelines.items())
            for m in stored.definition.materials
            if isinstance(m, GitMaterial)
            and normal_git_url(m.url) == normal_git_url(event.url)
            and (m.branch == branch or (isinstance(event, TagPush) and "tag" in m.events))
        ]
        for arrival in ladder.decide(event, waiting, "github", "", Trace()).arrivals:
            if arrival.key not in self.arrived:
                self.arrived[arrival.key] = arrival
                revisions = {str(arrival.material_id): Revision(arrival.revision, arrival.branch)}
                new = NewRun(arrival.pipeline_id, arrival.cause, arrival.triggered_by, revisions, arrival.detail)
                await self.pure.create(replace(new, ref=arrival.ref or arrival.branch))
        self.now += timedelta(seconds=1)

    async def start_by_hand(self, pipeline_id: UUID, definition: Pipeline) -> None:
        known = [a for a in self.arrived.values() if a.pipeline_id == pipeline_id and a.kind != "pull_request"]
        if not known:
            raise UnprocessableError("pipeline has no modifications yet")
        revisions = {str(known[-1].material_id): Revision(known[-1].revision, known[-1].branch)}
        await self.pure.create(NewRun(pipeline_id, "manual", "manual", revisions, {}, known[-1].branch))

    async def do_freeze(self, step: Mapping[str, Any]) -> None:
        self.pure.frozen.add(step["environment"])

    async def do_unfreeze(self, step: Mapping[str, Any]) -> None:
        await self.pure.unfreeze(step["environment"])

    async def keep_notifications(self, entries: list[Any]) -> None:
        self.pure.notifications = msgspec.convert(entries, tuple[Notification, ...])

    async def keep_agent(self, agent_id: UUID, name: str, *, online: bool) -> None:
        (self.pure.online.add if online else self.pure.online.discard)(agent_id)

    async def keep_modification(self, pipeline_id: UUID, material: str, revision: Revision) -> None:
        """The core alone knows no records of revisions."""

    async def keep_artifacts(self, run: Run, job: Job, paths: list[str]) -> None:
        self.pure.artifacts[job.id, job.attempt] = paths

    async def open_runs(self) -> list[UUID]:
        return self.pure.open_runs()

    async def pipeline(self, name: str) -> tuple[UUID, Pipeline]:
        stored = self.pure.pipelines[name]
        return stored.id, stored.definition

    async def find_run(self, pipeline: str, counter: int) -> Run | None:
        return next(
            (r for r in self.pure.runs.values() if r.definition.name == pipeline and r.counter == counter), None
        )

    async def run_names(self) -> list[str]:
        return [f"{run.definition.name}#{run.counter}" for run in self.pure.runs.values()]
