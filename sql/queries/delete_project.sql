-- A project with all that hangs on it is removed. Everything else goes by the cascades of the tables; blobs are buried
-- by the triggers of their tables.

-- name: open_runs
-- Runs of a project that have not ended.
SELECT r.id FROM projects p
INNER JOIN pipelines pl ON pl.project_id = p.id
INNER JOIN runs r ON r.pipeline_id = pl.id AND r.status IN ('queued', 'running')
WHERE p.slug = $1
ORDER BY r.created_at, r.id;

-- name: lock_project
-- From here on nobody else changes the project or adds a pipeline to it.
SELECT id FROM projects
WHERE slug = $1
FOR UPDATE;

-- name: lock_pipelines
-- From here on no run of project $1 begins.
SELECT id FROM pipelines
WHERE project_id = $1
ORDER BY id
FOR UPDATE;

-- name: running_jobs
-- What agents still do for project $1.
SELECT
    j.id AS job_id,
    j.run_id,
    j.agent_id
FROM pipelines pl
INNER JOIN runs r ON r.pipeline_id = pl.id
INNER JOIN job_runs j ON j.run_id = r.id AND j.status = 'running' AND j.agent_id IS NOT NULL
WHERE pl.project_id = $1;

-- name: counts
-- How much goes with project $1.
SELECT
    (SELECT count(*) FROM pipelines WHERE project_id = $1)::integer AS pipelines,
    (
        SELECT count(*) FROM pipelines pl
        INNER JOIN runs r ON r.pipeline_id = pl.id
        WHERE pl.project_id = $1
    )::integer AS runs,
    (SELECT count(*) FROM secrets WHERE project_id = $1)::integer AS secrets,
    (SELECT count(*) FROM scm_sources WHERE project_id = $1)::integer AS scm_sources;

-- name: delete_project
-- Removes the project.
DELETE FROM projects
WHERE id = $1;
