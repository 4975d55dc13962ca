"""A scenario's world: the real run service on a real PostgreSQL, with scripted agents and a clock of its own.

Format of the files: the README beside the scenario vectors. A step that this version cannot do raises KeyError.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import asyncpg

from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.errors import DomainError
from gocdnext.materials.trigger import trigger
from gocdnext.materials.webhooks.deliveries import Delivery
from gocdnext.materials.webhooks.events import BranchPush, Event, TagPush
from gocdnext.materials.webhooks.events import Request as PullRequest
from gocdnext.materials.webhooks.github import GITHUB
from gocdnext.materials.webhooks.intake import Webhooks
from gocdnext.metrics import Metrics
from gocdnext.pipeline.identity import material_id
from gocdnext.pipeline.model import GitMaterial, Pipeline, decode
from gocdnext.projects.apply import apply
from gocdnext.projects.request import ApplyRequest, ScmSource, SourceText
from gocdnext.runs import store
from gocdnext.runs.assignment import primary_revision
from gocdnext.runs.creation import NewRun
from gocdnext.runs.definitions import Definitions
from gocdnext.runs.environments import Environments
from gocdnext.runs.events import Voter
from gocdnext.runs.governance import has_deploys
from gocdnext.runs.ports import Wanted
from gocdnext.runs.service import JobReport, RunService
from gocdnext.runs.state import Job, Revision, Run
from tests.scenarios.fleet import ScriptedAgent, ScriptedFleet
from tests.scenarios.invariants import check
from tests.secrets_room import KEYRING, secrets_of

_SQL = queries.load("runs")
SLUG = "scenario"
ASSUMED_COMMIT = "5ca1ab1e" * 5
SETTLED_AFTER = 200
"""Scheduler passes after which a world that still moves is a bug."""


@dataclass
class World:
    """What a scenario acts on."""

    db: Database
    fleet: ScriptedFleet = field(default_factory=ScriptedFleet)
    now: datetime = datetime(2026, 4, 28, 13, 0, tzinfo=UTC)
    woken: set[UUID] = field(default_factory=set)
    names: dict[UUID, str] = field(default_factory=dict)
    agent_ids: dict[str, UUID] = field(default_factory=dict)
    default_window: int = 0
    figures: Metrics = field(default_factory=Metrics)
    pushed: bool = False
    source_url: str = ""
    """The repository that the project is bound to."""
    _dispatched: int = 0
    _cancelled: int = 0

    def __post_init__(self) -> None:
        self.secrets = secrets_of(self.db, lambda: self.now)
        self.runs = RunService(self.db, self.fleet, self, secrets=self.secrets, clock=lambda: self.now, new_id=uuid4)
        self.webhooks = Webhooks(self.db, self.runs, KEYRING, clock=lambda: self.now)
        self.environments = Environments(self.db, self.runs, clock=lambda: self.now)
        self._definitions = Definitions()

    # ---- the observer of the run service -----------------------------------------------------------

    def wake(self, run_id: UUID) -> None:
        self.woken.add(run_id)

    def announced(self, run_id: UUID) -> None:
        """Nobody listens here."""

    def waits(self, run_id: UUID, wanted: Wanted) -> None:
        """Settling looks at every open run anyway."""

    def wake_pipeline(self, pipeline_id: UUID) -> None:
        """Settling looks at every open run anyway."""

    def job_started(self, run: Run, job: Job) -> None:
        """Nobody counts here."""

    def job_ended(self, run: Run, job: Job) -> None:
        """Nobody counts here."""

    def run_ended(self, run_id: UUID, status: str) -> None:
        """Nobody reads here."""

    # ---- set-up ------------------------------------------------------------------------------------

    async def set_up(self, scenario: Mapping[str, Any]) -> None:
        """Applies the scenario's pipelines and connects its agents."""
        source = scenario.get("project", {}).get("scm_source", "")
        self.source_url = source if isinstance(source, str) else source["url"]
        await self.do_apply({"pipelines": scenario["pipelines"]})
        self.default_window = scenario.get("config", {}).get("approval_default_seconds", 0)
        inherited = scenario.get("project", {}).get("notifications", [])
        await self.keep_notifications(inherited)
        for agent in scenario.get("agents", [{"name": "any", "tags": [], "capacity": 100}]):
            await self.do_agent_online({"agent": agent})

    async def settle(self) -> None:
        """Scheduler passes over what was woken and every open run, until nothing changes."""
        for _ in range(SETTLED_AFTER):
            before = len(self.fleet.sent)
            woken, self.woken = self.woken, set()
            for run_id in dict.fromkeys([*await self.open_runs(), *woken]):
                await self.runs.dispatch(run_id)
            if not self.woken and len(self.fleet.sent) == before:
                return
        raise AssertionError("the world does not settle")

    # ---- what is kept in the database ----------------------------------------------------------------

    async def keep_notifications(self, entries: list[Any]) -> None:
        """The project's own list."""
        await self.db.execute("UPDATE projects SET notifications = $1", entries)

    async def keep_agent(self, agent_id: UUID, name: str, *, online: bool) -> None:
        """The agent's row; one that is online is never silent."""
        await self.db.execute(
            "INSERT INTO agents (id, name, token_hash, status, last_seen_at, registered_at) "
            "VALUES ($1, $2, '', $3, $4, $4) ON CONFLICT (id) DO UPDATE SET status = $3, last_seen_at = $4",
            agent_id,
            name,
            "online" if online else "offline",
            self.now + timedelta(days=365),
        )

    async def keep_artifacts(self, run: Run, job: Job, paths: list[str]) -> None:
        """What the job has delivered, ready."""
        await self.db.execute(
            "INSERT INTO artifacts (id, run_id, job_run_id, path, storage_key, status, size_bytes, content_sha256,"
            " created_at, expires_at) SELECT gen_random_uuid(), $1, $2::uuid, p, $2 || '/' || p, 'ready', 1, '', $4,"
            " $4::timestamptz + interval '30 days' FROM unnest($3::text[]) AS p",
            run.id,
            job.id,
            paths,
            self.now,
        )

    async def open_runs(self) -> list[UUID]:
        """What a scheduler looks at on its tick."""
        return [row["id"] for row in await self.db.fetch(_SQL.open_runs, 1000)]

    async def pipeline(self, name: str) -> tuple[UUID, Pipeline]:
        """A pipeline and what it means now."""
        row = await self.db.fetchrow(
            "SELECT p.id, d.definition::text AS definition FROM pipelines p "
            "JOIN pipeline_definitions d ON d.id = p.definition_id WHERE p.name = $1",
            name,
        )
        assert row is not None
        return row["id"], decode(row["definition"])

    async def find_run(self, pipeline: str, counter: int) -> Run | None:
        """A run by its name, or None."""
        run_id = await self.db.fetchval(
            "SELECT r.id FROM runs r JOIN pipelines p ON p.id = r.pipeline_id WHERE p.name = $1 AND r.counter = $2",
            pipeline,
            counter,
        )
        if run_id is None:
            return None

        async def load(conn: asyncpg.Connection[asyncpg.Record]) -> Run | None:
            return await store.load(conn, run_id, self._definitions)

        return await self.db.run(load)

    async def run_names(self) -> list[str]:
        """The names of all runs."""
        rows = await self.db.fetch(
            "SELECT p.name || '#' || r.counter AS name FROM runs r JOIN pipelines p ON p.id = r.pipeline_id"
        )
        return [row["name"] for row in rows]

    # ---- steps -------------------------------------------------------------------------------------

    async def step(self, step: Mapping[str, Any]) -> None:
        """Does one step and settles."""
        if "expect" in step:
            await self.expect(step["expect"])
            return
        refusal = step.get("expect_error") or (step["expect_http"] if step.get("expect_http", 200) >= 400 else None)
        refused = await self.attempt(step)
        if refusal is None:
            assert refused is None, f"{step}: refused with {refused}"
        else:
            assert refused is not None, f"{step}: should have been refused"
            assert isinstance(refusal, int) or refusal in refused

    async def attempt(self, step: Mapping[str, Any]) -> str | None:
        """Does what a step says and settles; the text of a refusal."""
        actions = {name.removeprefix("do_"): getattr(self, name) for name in dir(self) if name.startswith("do_")}
        refused = None
        try:
            await actions[step["do"]](step)
        except DomainError as error:
            refused = str(error)
        await self.settle()
        return refused

    async def do_apply(self, step: Mapping[str, Any]) -> None:
        files = tuple(
            SourceText(f"{name}.yaml", json.dumps({"name": name, **body})) for name, body in step["pipelines"].items()
        )
        source = ScmSource("github", self.source_url, "main", "", "") if self.source_url else None
        request = ApplyRequest(slug=SLUG, name="Scenario", files=files, scm_source=source)
        await apply(self.db, request, now=self.now, new_id=uuid4)

    async def do_push(self, step: Mapping[str, Any]) -> None:
        files = step.get("files")
        await self.arrive(
            BranchPush(
                url=step.get("url", self.source_url),
                branch=step.get("branch", "main"),
                revision=step["revision"],
                author="",
                message=step.get("message", ""),
                committed_at=None,
                changed=None if files is None else frozenset(files),
            )
        )

    async def do_pull_request(self, step: Mapping[str, Any]) -> None:
        number = step["number"]
        await self.arrive(
            PullRequest(
                url=step.get("url", self.source_url),
                number=number,
                title=f"request {number}",
                author="",
                page="",
                base=step.get("base", "main"),
                head=step["head"],
                revision=step["revision"],
                action=step.get("action", "opened"),
                labels=tuple(step.get("labels", ())),
                from_fork=step.get("fork", False),
            )
        )

    async def do_tag(self, step: Mapping[str, Any]) -> None:
        url = step.get("url", self.source_url)
        await self.arrive(TagPush(url, step["name"], step["revision"], "", "", "", None))

    async def arrive(self, event: Event) -> None:
        """A delivery that says this comes from its provider."""
        self.pushed = True
        await self.webhooks.carry_out(Delivery(GITHUB, "event", "", {}, self.now, verified=True), [event])
        self.now += timedelta(seconds=1)

    async def start_by_hand(self, pipeline_id: UUID, definition: Pipeline) -> None:
        """A start that takes what is known of the pipeline's repository."""
        await trigger(self.db, self.runs, pipeline_id, "", clock=lambda: self.now)

    async def do_trigger(self, step: Mapping[str, Any]) -> None:
        pipeline_id, definition = await self.pipeline(step["pipeline"])
        git = next((m for m in definition.materials if isinstance(m, GitMaterial)), None)
        # Where pushes are a part of the story, a start by hand is one of the product; elsewhere it makes a run directly.
        told = step.keys() & {"revision", "branch", "cause", "labels"}
        if git is not None and not told and (self.pushed or "expect_http" in step):
            await self.start_by_hand(pipeline_id, definition)
            self.now += timedelta(seconds=1)
            return
        # Without a git material of its own the pipeline is treated as if it had one.
        key = str(uuid5(pipeline_id, "assumed") if git is None else material_id(pipeline_id, git.fingerprint))
        # Without any commit a deployment has no version and fails (pipelines 8.2): such a run gets one.
        revision = step.get("revision") or (ASSUMED_COMMIT if has_deploys(definition) else "")
        branch = step.get("branch", "main")
        revisions = {key: Revision(revision, branch)} if revision else {}
        detail = {"pr_labels": step["labels"]} if "labels" in step else {}
        cause = step.get("cause", "manual")
        await self.runs.create(NewRun(pipeline_id, cause, "manual", revisions, detail, ref=branch if revisions else ""))
        self.now += timedelta(seconds=1)

    async def do_finish(self, step: Mapping[str, Any]) -> None:
        run, job = await self.job(step["job"])
        holder = self.fleet.holder(job.id)
        assignment = holder.jobs[job.id] if holder else None
        agent_id = self.agent_ids[step["agent"]] if "agent" in step else holder.id if holder else uuid4()
        attempt = step.get("attempt", assignment.attempt if assignment else job.attempt)
        status, error, outputs = _as_agent(step, assignment.definition.outputs if assignment else {})
        code = step.get("exit_code", 0 if status == "success" else 1)
        await self.keep_artifacts(run, job, step.get("artifacts", []))
        await self.runs.complete(JobReport(run.id, job.id, agent_id, attempt, status, code, error, outputs))

    async def do_cancel_run(self, step: Mapping[str, Any]) -> None:
        await self.runs.cancel_run((await self.run(step["run"])).id)

    async def do_cancel_job(self, step: Mapping[str, Any]) -> None:
        _, job = await self.job(step["job"])
        await self.runs.cancel_job(job.id)

    async def do_rerun_job(self, step: Mapping[str, Any]) -> None:
        _, job = await self.job(step["job"])
        await self.runs.rerun_job(job.id)

    async def do_rerun_run(self, step: Mapping[str, Any]) -> None:
        await self.runs.rerun((await self.run(step["run"])).id)

    async def do_approve(self, step: Mapping[str, Any]) -> None:
        await self._vote(step, approve=True)

    async def do_reject(self, step: Mapping[str, Any]) -> None:
        await self._vote(step, approve=False)

    async def _vote(self, step: Mapping[str, Any], *, approve: bool) -> None:
        _, job = await self.job(step["gate"])
        user = step.get("user", "")
        voter = Voter(user, user, frozenset({user} - {""}), frozenset(step.get("groups", ())))
        await self.runs.vote(job.id, voter, approve=approve)

    async def do_freeze(self, step: Mapping[str, Any]) -> None:
        await self.environments.freeze(SLUG, step["environment"], step.get("reason", "because"), "ann")

    async def do_unfreeze(self, step: Mapping[str, Any]) -> None:
        await self.environments.unfreeze(SLUG, step["environment"])

    async def do_sweep_approvals(self, step: Mapping[str, Any]) -> None:
        await self.runs.expire_gates(self.default_window or None)

    async def do_agent_lost(self, step: Mapping[str, Any]) -> None:
        agent_id = self.agent_ids[step["agent"]]
        self.fleet.agents.pop(agent_id, None)
        await self.keep_agent(agent_id, step["agent"], online=False)

    async def do_agent_online(self, step: Mapping[str, Any]) -> None:
        agent = step["agent"]
        agent_id = self.agent_ids.setdefault(agent["name"], uuid4())
        await self.keep_agent(agent_id, agent["name"], online=True)
        await self.runs.reclaim(agent_id)
        self.fleet.agents[agent_id] = ScriptedAgent(
            agent_id, agent["name"], frozenset(agent.get("tags", [])), agent.get("capacity", 1)
        )

    async def do_reap(self, step: Mapping[str, Any]) -> None:
        await self.runs.reap()

    async def do_advance(self, step: Mapping[str, Any]) -> None:
        self.now += timedelta(seconds=step["seconds"])

    # ---- looking -----------------------------------------------------------------------------------

    async def run(self, name: str) -> Run:
        """The run `pipeline#counter`. Raises LookupError."""
        pipeline, _, counter = name.partition("#")
        run = await self.find_run(pipeline, int(counter))
        if run is None:
            raise LookupError(name)
        self.names[run.id] = name
        self.names |= {job.id: f"{name}/{job.label}" for job in run.jobs}
        return run

    async def job(self, name: str) -> tuple[Run, Job]:
        """The job `pipeline#counter/label` and its run."""
        run_name, _, label = name.partition("/")
        run = await self.run(run_name)
        return run, next(job for job in run.jobs if job.label == label)

    async def check(self) -> None:
        """The invariants of all runs, and what has no slot or lane of its own twice."""
        for name in await self.run_names():
            check(await self.run(name))
        held = [job_id for agent in self.fleet.agents.values() for job_id in agent.jobs]
        assert len(held) == len(set(held)), "no job is with two agents"
        assert all(len(agent.jobs) <= agent.capacity for agent in self.fleet.agents.values())

    async def expect(self, expected: Mapping[str, Any]) -> None:
        """Compares what is listed, and only that."""
        await self._learn_names()
        if "dispatched" in expected:
            sent = [self.names[a.job_id] for a in self.fleet.sent[self._dispatched :]]
            self._dispatched = len(self.fleet.sent)
            assert Counter(sent) == Counter(expected["dispatched"]), f"dispatched {sent}"
        if "cancel_frames" in expected:
            told = [self.names[job_id] for job_id in self.fleet.cancels[self._cancelled :]]
            self._cancelled = len(self.fleet.cancels)
            assert Counter(told) == Counter(expected["cancel_frames"])
        for name, parts in expected.get("assignments", {}).items():
            self._expect_assignment(name, parts)
        for name, fields in expected.get("runs", {}).items():
            await self._expect_run(name, fields)

    async def _learn_names(self) -> None:
        for name in await self.run_names():
            await self.run(name)

    def _expect_assignment(self, name: str, parts: Mapping[str, Any]) -> None:
        newest = next(a for a in reversed(self.fleet.sent) if self.names[a.job_id] == name)
        assert parts.get("env", {}).items() <= dict(newest.env).items()
        assert parts.get("settings", {}).items() <= dict(newest.settings).items()
        if "script" in parts:
            assert [newest.definition.script] == parts["script"]
        assert set(parts.get("masks_include", ())) <= set(newest.masks)
        assert not set(parts.get("masks_exclude", ())) & set(newest.masks)

    async def _expect_run(self, name: str, fields: Mapping[str, Any] | None) -> None:
        if fields is None:
            try:
                await self.run(name)
            except LookupError:
                return
            raise AssertionError(f"{name} should not exist")
        run = await self.run(name)
        for key, wanted in fields.items():
            got = self._field(run, key, wanted)
            assert got == wanted, f"{name} {key}: {got!r}, expected {wanted!r}"

    def _field(self, run: Run, key: str, wanted: Any) -> Any:
        """The value of one expectation's field, cut to what is asked for."""
        by_label = {job.label: job for job in run.jobs}
        per_job: dict[str, Callable[[Any], Any]] = {
            "attempts": lambda job: job.attempt,
            "errors": lambda job: job.error,
            "exit_codes": lambda job: job.exit_code,
            "cancel_origins": lambda job: job.cancel_origin,
            "job_outputs": lambda job: dict(job.outputs),
            "decisions": lambda job: job.gate.decision,
            "votes": lambda job: len(job.gate.votes),
            "quorum": lambda job: [job.gate.required, job.gate.quorum_label],
        }
        if key in per_job:
            return {label: per_job[key](by_label[label]) for label in wanted}
        if key == "jobs":
            return {label: by_label[label].status if label in by_label else None for label in wanted}
        if key == "stages":
            statuses = {stage.name: stage.status for stage in run.stages}
            return {stage: statuses.get(stage) for stage in wanted}
        if key == "error_prefix":
            return {label: (by_label[label].error or "")[: len(text)] for label, text in wanted.items()}
        if key == "queue_reason":
            return self._named(run.queue_reason)
        if key in ("revision", "branch"):
            return getattr(primary_revision(run.revisions), key)
        if key == "revisions":
            return {k: {"revision": r.revision, "branch": r.branch} for k, r in run.revisions.items()}
        if key == "cause_detail":
            return {name: self._run_name(run.cause_detail.get(name)) for name in wanted}
        if key == "superseded_by":
            return self._run_name(run.superseded_by)
        if key in ("status", "cause", "cancel_reason", "ref", "triggered_by"):
            return getattr(run, key)
        raise KeyError(key)

    def _run_name(self, value: Any) -> Any:
        """Run ids written as names, everything else as it is."""
        known = {str(run_id): name for run_id, name in self.names.items()}
        return known.get(str(value), value)

    def _named(self, reason: str | None) -> str | None:
        if reason is None:
            return None
        key, _, detail = reason.partition(":")
        known = {str(run_id): name for run_id, name in self.names.items()}
        return f"{key}:{known.get(detail, detail)}"


def _as_agent(step: Mapping[str, Any], declared: Mapping[str, Any]) -> tuple[str, str, dict[str, str]]:
    """What an agent makes of a job's end: declared outputs that were not written fail it (protocol-agent 3.11)."""
    written = step.get("outputs", {})
    if step["result"] != "success":
        return step["result"], step.get("error", ""), {}
    missing = [output.env for output in declared.values() if output.env not in written]
    if missing:
        return "failed", f"outputs: {missing[0]} was not written", {}
    return "success", "", {alias: written[output.env] for alias, output in declared.items()}
