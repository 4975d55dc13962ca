"""Which gates stand in front of which environments (spec-execution 8, "gate governance").

Pure, on the definition alone. Gate G precedes job D if G's stage is earlier, or D needs G directly or through others.
Of the gates that precede D, those that precede another such gate are shadowed; the rest govern D.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from gocdnext.pipeline.model import Job, Pipeline


def governed_deploys(definition: Pipeline, gate: str) -> frozenset[str]:
    """Environments of the `deploy` jobs that this gate governs: what supersede compares."""
    return frozenset(j.deploy.environment for j in _governed(definition, gate) if j.deploy is not None)


def governed_environments(definition: Pipeline, gate: str) -> frozenset[str]:
    """The same and those of `environment` jobs: what a freeze holds."""
    return frozenset(filter(None, (environment_of(job) for job in _governed(definition, gate))))


def governing_gates(definition: Pipeline, environment: str) -> frozenset[str]:
    """The gates that govern any deploy job of this environment."""
    table = _table(definition)
    return frozenset(
        gate
        for job in definition.jobs
        if job.deploy is not None and job.deploy.environment == environment
        for gate in table.get(job.name, ())
    )


def environment_of(job: Job) -> str:
    """The environment a job acts on, empty when it acts on none."""
    return job.deploy.environment if job.deploy is not None else job.environment


def has_deploys(definition: Pipeline) -> bool:
    """Whether any job is a deployment."""
    return any(job.deploy is not None for job in definition.jobs)


def concerns_others(definition: Pipeline) -> bool:
    """Whether other runs or people decide with: a serial slot, a lane, environments that freeze, artifacts that are
    fetched. A run of any other pipeline is decided by its own rows."""
    return bool(
        definition.concurrency == "serial"
        or definition.supersede
        or any(environment_of(job) or job.needs_artifacts for job in definition.jobs)
    )


def _governed(definition: Pipeline, gate: str) -> list[Job]:
    table = _table(definition)
    return [job for job in definition.jobs if gate in table.get(job.name, ())]


def _table(definition: Pipeline) -> dict[str, frozenset[str]]:
    """Job with an environment -> names of the gates that govern it."""
    gates = [job for job in definition.jobs if job.kind == "gate"]
    if not gates:
        return {}
    precedes = _precedes(definition)
    table = {}
    for job in definition.jobs:
        if not environment_of(job):
            continue
        before = [gate for gate in gates if precedes(gate, job)]
        table[job.name] = frozenset(
            gate.name for gate in before if not any(other is not gate and precedes(gate, other) for other in before)
        )
    return table


def _precedes(definition: Pipeline) -> Callable[[Job, Job], bool]:
    position = {stage: number for number, stage in enumerate(definition.stages)}
    by_name = {job.name: job for job in definition.jobs}

    @functools.cache
    def ancestors(name: str) -> frozenset[str]:
        found: set[str] = set()
        waiting = list(by_name[name].needs) if name in by_name else []
        while waiting:
            need = waiting.pop()
            if need not in found and need in by_name:
                found.add(need)
                waiting.extend(by_name[need].needs)
        return frozenset(found)

    return lambda gate, job: position[gate.stage] < position[job.stage] or gate.name in ancestors(job.name)
