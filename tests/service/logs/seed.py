"""A run with running jobs, written straight into the tables: the tests of logs and fleet need no pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from gocdnext.db.pool import Connection, Database
from gocdnext.logs.ingest import Target

NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Seeded:
    """One run; `agent_id` runs all its jobs in attempt 0."""

    run_id: UUID
    agent_id: UUID
    job_ids: tuple[UUID, ...]

    def target(self, index: int = 0, attempt: int = 0) -> Target:
        """What log lines of one of the jobs belong to."""
        return Target(self.run_id, self.job_ids[index], attempt)


async def running_run(db: Database, jobs: int = 1, *, agent_id: UUID | None = None, token_hash: str = "") -> Seeded:
    """A running run of one stage whose jobs `job0`... are running. With `agent_id` the agent's row is there already."""
    run, stage, pipeline, definition, project = (uuid4() for _ in range(5))
    agent = agent_id or uuid4()
    job_ids = tuple(uuid4() for _ in range(jobs))

    async def work(conn: Connection) -> None:
        if agent_id is None:
            await conn.execute(
                "INSERT INTO agents (id, name, token_hash, registered_at) VALUES ($1, $2, $3, $4)",
                agent,
                f"agent-{agent}",
                token_hash,
                NOW,
            )
        await conn.execute(
            "INSERT INTO projects (id, slug, name, created_at, updated_at) VALUES ($1, $2, 'P', $3, $3)",
            project,
            f"p-{project}",
            NOW,
        )
        await conn.execute(
            "INSERT INTO pipelines (id, project_id, name, definition_id, source, source_file, created_at, updated_at)"
            " VALUES ($1, $2, 'main', $3, '', 'main.yaml', $4, $4)",
            pipeline,
            project,
            definition,
            NOW,
        )
        await conn.execute(
            "INSERT INTO pipeline_definitions (id, pipeline_id, version, definition, created_at)"
            " VALUES ($1, $2, 1, $3, $4)",
            definition,
            pipeline,
            {"name": "main", "stages": ["build"], "jobs": []},
            NOW,
        )
        await conn.execute(
            "INSERT INTO runs (id, pipeline_id, definition_id, counter, cause, status, created_at, started_at)"
            " VALUES ($1, $2, $3, 1, 'manual', 'running', $4, $4)",
            run,
            pipeline,
            definition,
            NOW,
        )
        await conn.execute(
            "INSERT INTO stage_runs (id, run_id, name, ordinal, status, started_at)"
            " VALUES ($1, $2, 'build', 0, 'running', $3)",
            stage,
            run,
            NOW,
        )
        for number, job in enumerate(job_ids):
            await conn.execute(
                "INSERT INTO job_runs (id, run_id, stage_run_id, name, status, agent_id, started_at)"
                " VALUES ($1, $2, $3, $4, 'running', $5, $6)",
                job,
                run,
                stage,
                f"job{number}",
                agent,
                NOW,
            )

    await db.transaction(work)
    return Seeded(run, agent, job_ids)


async def finish_run(db: Database, seeded: Seeded, status: str = "success") -> None:
    """All jobs and the run end with `status`."""

    async def work(conn: Connection) -> None:
        for statement in (
            "UPDATE job_runs SET status = $2, finished_at = now() WHERE run_id = $1",
            "UPDATE runs SET status = $2, finished_at = now() WHERE id = $1",
        ):
            await conn.execute(statement, seeded.run_id, status)

    await db.transaction(work)
