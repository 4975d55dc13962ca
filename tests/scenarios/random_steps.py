"""Random scenarios, drawn step by step from what a world is at that moment, and kept as a scenario file would have them.

Made for hypothesis: what fails is shrunk, and the smallest failure is written as a file that `--scenarios DIR` plays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from gocdnext.runs.state import AWAITING, OPEN, OPEN_JOB, RUNNING, Job, Run
from tests.scenarios.world import World

FAILURES = Path(__file__).parents[2] / ".build" / "scenarios"
"""Where failed scenarios are written; not under version control."""
AGENTS = ({"name": "a1", "tags": [], "capacity": 2}, {"name": "a2", "tags": ["big"], "capacity": 1})
ENVIRONMENTS = ("prod", "test")
PEOPLE = ("ann", "bob")
ROUNDS = 60
"""Rounds of work after which everything must have ended."""


@st.composite
def _jobs(draw: st.DrawFn, stage: str, known: list[str]) -> dict[str, dict[str, Any]]:
    jobs: dict[str, dict[str, Any]] = {}
    for number in range(draw(st.integers(0, 2))):
        job: dict[str, Any] = {"stage": stage}
        kind = draw(st.sampled_from(["script", "script", "script", "matrix", "gate", "deploy"]))
        if kind == "gate":
            job["approval"] = {"required": draw(st.sampled_from([1, 1, 2]))}
        else:
            job["script"] = ["x"]
            if draw(st.integers(0, 5)) == 0:
                job["tags"] = ["big"]
            if kind == "deploy":
                job["deploy"] = {"environment": draw(st.sampled_from(ENVIRONMENTS))}
            elif draw(st.integers(0, 3)) == 0:
                job["retry"] = 1
        if kind == "matrix":
            job["parallel"] = {"matrix": [{"X": ["1", "2"]}]}
        if known and draw(st.integers(0, 2)) == 0:
            job["needs"] = [draw(st.sampled_from(known))]
        jobs[f"{stage}{number}"] = job
    return jobs


@st.composite
def pipelines(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """`p` with up to two stages; sometimes `q` behind its first stage."""
    stages = ["s", "t"][: draw(st.integers(1, 2))]
    jobs: dict[str, dict[str, Any]] = {}
    for stage in stages:
        jobs |= draw(_jobs(stage, list(jobs)))
    first: dict[str, Any] = {"stages": stages, "jobs": jobs}
    mode = draw(st.sampled_from(["", "", "serial", "supersede"]))
    if mode == "serial":
        first["concurrency"] = "serial"
    elif mode == "supersede" and any("approval" in job for job in jobs.values()):
        first["supersede"] = "pipeline"
    if draw(st.integers(0, 3)) == 0:
        first["notifications"] = [{"on": "failure", "uses": "n/f"}, {"on": "always", "uses": "n/a"}]
    made = {"p": first}
    if draw(st.booleans()):
        made["q"] = {
            "materials": [{"upstream": {"pipeline": "p", "stage": "s", "status": "success"}}],
            "stages": ["u"],
            "jobs": {"u0": {"stage": "u", "script": ["x"]}},
        }
    return made


@dataclass
class Story:
    """A scenario as it comes about in a world."""

    world: World
    scenario: dict[str, Any] = field(default_factory=dict)

    async def begin(self, made: dict[str, dict[str, Any]]) -> None:
        """The set-up."""
        self.scenario = {"title": "Random", "pipelines": made, "agents": list(AGENTS), "steps": []}
        await self.world.set_up(self.scenario)

    async def take(self, step: dict[str, Any]) -> None:
        """One step, with what it answered, and the invariants after it."""
        self.scenario["steps"].append(step)
        refused = await self.world.attempt(step)
        if refused is not None:
            step["expect_error"] = refused
        await self.world.check()

    async def runs(self) -> list[Run]:
        """All runs, in the order of their names."""
        return [await self.world.run(name) for name in sorted(await self.world.run_names())]

    async def random_step(self, draw: Any) -> dict[str, Any]:
        """Any step that makes sense, or nearly."""
        runs = await self.runs()
        jobs = [(run, job) for run in runs for job in run.jobs]
        kinds = ["trigger"]
        if jobs:
            kinds += ["finish", "finish", "finish", "stale", "cancel_job", "cancel_run", "rerun_job", "rerun_run"]
            kinds += ["approve", "reject", "freeze", "unfreeze", "lost", "online", "reap", "advance", "sweep"]
        kind = draw(st.sampled_from(kinds))
        if kind == "trigger":
            return {"do": "trigger", "pipeline": "p", "revision": "1234567" * 5 + "12345"}
        if kind in ("lost", "online"):
            agent = draw(st.sampled_from(AGENTS))
            return (
                {"do": "agent_lost", "agent": agent["name"]}
                if kind == "lost"
                else {"do": "agent_online", "agent": agent}
            )
        if kind in ("freeze", "unfreeze"):
            return {"do": kind, "environment": draw(st.sampled_from(ENVIRONMENTS)), "reason": "because"}
        if kind == "advance":
            return {"do": "advance", "seconds": draw(st.sampled_from([1, 100, 100_000]))}
        if kind in ("reap", "sweep"):
            return {"do": "reap" if kind == "reap" else "sweep_approvals"}
        run, job = draw(st.sampled_from(jobs))
        if kind in ("finish", "stale"):
            result = draw(st.sampled_from(["success", "success", "failed", "disrupted"]))
            stale = {"attempt": max(0, job.attempt - 1), "agent": draw(st.sampled_from(AGENTS))["name"]}
            return {"do": "finish", "job": self._name(run, job), "result": result} | (stale if kind == "stale" else {})
        if kind in ("approve", "reject"):
            return {"do": kind, "gate": self._name(run, job), "user": draw(st.sampled_from(PEOPLE))}
        if kind.endswith("_run"):
            return {"do": kind, "run": self.world.names[run.id]}
        return {"do": kind, "job": self._name(run, job)}

    async def work_to_the_end(self) -> None:
        """Agents keep working and people answer, until nothing is open. Raises AssertionError when that never is."""
        for environment in ENVIRONMENTS:
            await self.take({"do": "unfreeze", "environment": environment})
        for _ in range(ROUNDS):
            for agent in AGENTS:
                if self.world.agent_ids[agent["name"]] not in self.world.fleet.agents:
                    await self.take({"do": "agent_online", "agent": agent})
            open_jobs = [(run, job) for run in await self.runs() for job in run.jobs if job.status in OPEN_JOB]
            if not open_jobs:
                break
            for run, job in open_jobs:
                if job.status == RUNNING and self.world.fleet.holder(job.id) is None:
                    await self.take({"do": "reap"})
                elif job.status == RUNNING:
                    await self.take({"do": "finish", "job": self._name(run, job), "result": "success"})
                elif job.status == AWAITING:
                    for person in PEOPLE:
                        await self.take({"do": "approve", "gate": self._name(run, job), "user": person})
        for run in await self.runs():
            assert run.status not in OPEN, f"{self.world.names[run.id]} never ends"
            assert not any(job.status in OPEN_JOB for job in run.jobs)

    async def expect_as_it_is(self) -> None:
        """Adds what all runs are now as an expectation, for another world to compare with."""
        runs = {}
        for run in await self.runs():
            runs[self.world.names[run.id]] = {
                "status": run.status,
                "cause": run.cause,
                "stages": {stage.name: stage.status for stage in run.stages},
                "jobs": {job.label: job.status for job in run.jobs},
                "attempts": {job.label: job.attempt for job in run.jobs},
                "errors": {job.label: job.error for job in run.jobs},
                "cancel_reason": run.cancel_reason,
                "queue_reason": self.world._named(run.queue_reason),
            }
        self.scenario["steps"].append({"expect": {"runs": runs}})

    def _name(self, run: Run, job: Job) -> str:
        return f"{self.world.names[run.id]}/{job.label}"


@contextmanager
def kept_when_it_fails(story: Story, name: str) -> Iterator[None]:
    """Writes the scenario of a failure. The last one that hypothesis tries is the smallest, and stays."""
    try:
        yield
    except BaseException:
        FAILURES.mkdir(parents=True, exist_ok=True)
        path = FAILURES / f"{name}.json"
        path.write_text(json.dumps(story.scenario, indent=1) + "\n")
        raise
