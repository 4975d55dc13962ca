-- Environments: freezes and what waits behind them.

-- name: lock_freezes
-- Alone with the freezes of a project: every claim of a job that they concern holds this lock shared.
SELECT pg_advisory_xact_lock(hashtextextended('gocdnext.freeze:' || p.id::text, 0)) FROM projects p
WHERE p.slug = $1;

-- name: freeze
-- Freezes an environment of a project, or changes why it is frozen.
INSERT INTO environment_freezes (project_id, name, reason, frozen_by, frozen_at)
SELECT p.id, $2, $3, $4, $5 FROM projects p
WHERE p.slug = $1
ON CONFLICT (project_id, name) DO UPDATE SET reason = excluded.reason, frozen_by = excluded.frozen_by
RETURNING project_id;

-- name: unfreeze
-- Ends a freeze and says of which project.
DELETE FROM environment_freezes f
USING projects p
WHERE p.slug = $1 AND f.project_id = p.id AND f.name = $2
RETURNING f.project_id;

-- name: held_runs
-- Open runs of a project that an environment holds or that wait at a gate, oldest first.
SELECT r.id FROM runs r
INNER JOIN pipelines p ON p.id = r.pipeline_id
WHERE
    p.project_id = $1
    AND r.status IN ('queued', 'running')
    AND (
        r.queue_reason = 'frozen-deploy:' || $2::text
        OR EXISTS (SELECT 1 FROM job_runs j WHERE j.run_id = r.id AND j.status = 'awaiting_approval')
    )
ORDER BY r.created_at, r.id;

-- name: deploy_started
-- Records a deployment that an agent was given; makes the environment when it is the first.
WITH environment AS (
    INSERT INTO environments (id, project_id, name, total_deploys, created_at)
    VALUES ($1, $2, $3, 1, $10)
    ON CONFLICT (project_id, name) DO UPDATE SET total_deploys = environments.total_deploys + 1
    RETURNING id
)

INSERT INTO deployment_revisions (
    id, environment_id, run_id, job_run_id, attempt, version, revision, status, is_rollback, deployed_by, created_at
)
SELECT $4, environment.id, $5, $6, $7, $8, $9, 'in_progress', $11, $12, $10 FROM environment;

-- name: deploy_undone
-- A deployment that was never sent is not one.
WITH gone AS (
    DELETE FROM deployment_revisions
    WHERE job_run_id = $1 AND attempt = $2 AND status = 'in_progress'
    RETURNING environment_id
)

UPDATE environments e
SET total_deploys = e.total_deploys - 1
FROM gone
WHERE e.id = gone.environment_id;

-- name: deploys_ended
-- Deployments end with their jobs.
UPDATE deployment_revisions d
SET status = v.status, finished_at = $4
FROM unnest($1::uuid [], $2::integer [], $3::text []) AS v (job_run_id, attempt, status)
WHERE d.job_run_id = v.job_run_id AND d.attempt = v.attempt AND d.status = 'in_progress';
