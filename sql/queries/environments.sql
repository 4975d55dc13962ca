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

-- name: environments_of_project
-- The environments of a project by name, those that are only frozen among them, each with its newest success and what is
-- under way.
SELECT
    coalesce(e.name, f.name) AS name,
    coalesce(e.total_deploys, 0) AS total_deploys,
    f.reason AS frozen_reason,
    f.frozen_by,
    f.frozen_at,
    now_there.id AS current_id,
    now_there.version AS current_version,
    now_there.finished_at AS current_since,
    under_way.id AS pending_id,
    under_way.version AS pending_version
FROM (SELECT * FROM environments WHERE project_id = $1) e
FULL JOIN (SELECT * FROM environment_freezes WHERE project_id = $1) f ON f.name = e.name
LEFT JOIN LATERAL (
    SELECT
        d.id,
        d.version,
        d.finished_at
    FROM deployment_revisions d
    WHERE d.environment_id = e.id AND d.status = 'success'
    ORDER BY d.created_at DESC, d.id DESC
    LIMIT 1
) now_there ON TRUE
LEFT JOIN LATERAL (
    SELECT
        d.id,
        d.version
    FROM deployment_revisions d
    WHERE d.environment_id = e.id AND d.status = 'in_progress'
    ORDER BY d.created_at DESC, d.id DESC
    LIMIT 1
) under_way ON TRUE
ORDER BY name;

-- name: deployments_of_environment
-- Deployments to an environment, newest first, one page of them.
SELECT
    d.id,
    d.version,
    d.revision,
    d.status,
    d.is_rollback,
    d.deployed_by,
    d.created_at,
    d.finished_at,
    d.run_id,
    d.job_run_id,
    d.attempt,
    p.name AS pipeline_name,
    r.counter
FROM deployment_revisions d
INNER JOIN environments e ON e.id = d.environment_id
LEFT JOIN runs r ON r.id = d.run_id
LEFT JOIN pipelines p ON p.id = r.pipeline_id
WHERE e.project_id = $1 AND e.name = $2
ORDER BY d.created_at DESC, d.id DESC
LIMIT $3 OFFSET $4;

-- name: deployment_to_repeat
-- A deployment of an environment ($3; null: its newest success), what became of it, and whether it is what is there now.
SELECT
    d.id,
    d.status,
    d.job_run_id,
    EXISTS (SELECT 1 FROM environment_freezes f WHERE f.project_id = e.project_id AND f.name = e.name) AS frozen,
    NOT EXISTS (
        SELECT 1 FROM deployment_revisions o
        WHERE o.environment_id = e.id AND o.status = 'success' AND (o.created_at, o.id) > (d.created_at, d.id)
    ) AS newest
FROM deployment_revisions d
INNER JOIN environments e ON e.id = d.environment_id
WHERE
    e.project_id = $1
    AND e.name = $2
    AND (d.id = $3 OR ($3::uuid IS NULL AND d.status = 'success'))
ORDER BY d.created_at DESC, d.id DESC
LIMIT 1;
