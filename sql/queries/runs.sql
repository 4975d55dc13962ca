-- Statements that change runs. Reading for people is in runs_read.sql.

-- name: next_counter
-- Allots a run number under the pipeline's row lock and says what the pipeline is now.
UPDATE pipelines p
SET last_counter = p.last_counter + 1
FROM projects pr
WHERE p.id = $1 AND pr.id = p.project_id
RETURNING p.last_counter AS counter, p.definition_id, p.project_id, pr.slug AS project_slug;

-- name: definition
-- The text of one immutable definition; callers keep it.
SELECT definition::text FROM pipeline_definitions
WHERE id = $1;

-- name: insert_run
-- A whole run in one round trip: the run, its stages, its jobs, and word to every server.
WITH run AS (
    INSERT INTO runs (
        id, pipeline_id, definition_id, counter, cause, cause_detail, revisions, ref, triggered_by, has_services,
        service_names, created_at
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, cardinality($10::text []) > 0, $10, $11)
    RETURNING id
),

stages AS (
    INSERT INTO stage_runs (id, run_id, name, ordinal)
    SELECT
        s.id,
        run.id,
        s.name,
        s.ordinal - 1
    FROM run, unnest($12::uuid [], $13::text []) WITH ORDINALITY AS s (id, name, ordinal)
    RETURNING id
),

jobs AS (
    INSERT INTO job_runs (id, run_id, stage_run_id, name, matrix_key, image, needs, retry_unsafe)
    SELECT
        j.id,
        run.id,
        j.stage_run_id,
        j.name,
        j.matrix_key,
        nullif(j.image, ''),
        ARRAY(SELECT jsonb_array_elements_text(j.needs::jsonb)),
        j.retry_unsafe
    FROM
        run,
        unnest(
            $14::uuid [], $15::uuid [], $16::text [], $17::text [], $18::text [], $19::text [], $20::boolean []
        ) AS j (id, stage_run_id, name, matrix_key, image, needs, retry_unsafe)
    RETURNING id
)

SELECT
    pg_notify('run_queued', run.id::text),
    (SELECT count(*) FROM stages) AS stages,
    (SELECT count(*) FROM jobs) AS jobs
FROM run;

-- name: lock_run
-- Takes the run's row lock; for a serial pipeline its advisory lock first (lock order: advisory locks, then the run row).
WITH serial AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(hashtextextended('gocdnext.serial:' || r.pipeline_id::text, 0))
    FROM runs r
    INNER JOIN pipeline_definitions d ON d.id = r.definition_id
    WHERE r.id = $1 AND d.definition ->> 'concurrency' = 'serial'
)

SELECT r.id FROM runs r
CROSS JOIN (SELECT count(*) FROM serial) AS taken
WHERE r.id = $1
FOR NO KEY UPDATE OF r;

-- name: load_run
-- A run with its stages and jobs, as seen after its lock was taken, and the run that holds a serial pipeline's slot.
SELECT
    r.id,
    r.pipeline_id,
    r.definition_id,
    p.project_id,
    pr.slug AS project_slug,
    r.counter,
    r.cause,
    r.cause_detail,
    r.status,
    r.queue_reason,
    r.cancel_reason,
    r.revisions,
    r.service_generation,
    r.created_at,
    r.started_at,
    r.finished_at,
    (
        SELECT jsonb_agg(
            jsonb_build_array(s.id, s.name, s.ordinal, s.status, s.started_at, s.finished_at)
            ORDER BY s.ordinal
        )
        FROM stage_runs s
        WHERE s.run_id = r.id
    ) AS stages,
    (
        SELECT jsonb_agg(
            jsonb_build_array(
                j.id, j.stage_run_id, j.name, j.matrix_key, j.status, to_jsonb(j.needs), j.attempt, j.retry_unsafe,
                j.agent_id, j.exit_code, j.error, j.outputs, j.cancel_requested_at, j.cancel_origin, j.started_at,
                j.finished_at
            ) ORDER BY s.ordinal, j.name, j.matrix_key
        )
        FROM job_runs j
        INNER JOIN stage_runs s ON s.id = j.stage_run_id
        WHERE j.run_id = r.id
    ) AS jobs,
    CASE
        WHEN r.status = 'queued' AND d.definition ->> 'concurrency' = 'serial' THEN (
            SELECT o.id FROM runs o
            WHERE o.pipeline_id = r.pipeline_id AND o.status = 'running' AND o.id <> r.id
            ORDER BY o.counter
            LIMIT 1
        )
    END AS serial_holder
FROM runs r
INNER JOIN pipelines p ON p.id = r.pipeline_id
INNER JOIN projects pr ON pr.id = p.project_id
INNER JOIN pipeline_definitions d ON d.id = r.definition_id
WHERE r.id = $1;

-- name: save_run
-- Writes what a transition changed: the run ($2 says whether), stages, jobs; lines of discarded attempts go.
WITH run AS (
    UPDATE runs
    SET
        status = $3, queue_reason = $4, cancel_reason = $5, started_at = $6, finished_at = $7
    WHERE id = $1 AND $2
    RETURNING id
),

stages AS (
    UPDATE stage_runs s
    SET status = v.status, started_at = v.started_at, finished_at = v.finished_at
    FROM unnest($8::uuid [], $9::text [], $10::timestamptz [], $11::timestamptz [])
        AS v (id, status, started_at, finished_at)
    WHERE s.id = v.id AND s.run_id = $1
    RETURNING s.id
),

jobs AS (
    UPDATE job_runs j
    SET
        status = v.status,
        attempt = v.attempt,
        agent_id = v.agent_id,
        exit_code = v.exit_code,
        error = v.error,
        outputs = v.outputs,
        cancel_requested_at = v.cancel_requested_at,
        cancel_origin = v.cancel_origin,
        started_at = v.started_at,
        finished_at = v.finished_at
    FROM
        unnest(
            $12::uuid [], $13::text [], $14::integer [], $15::uuid [], $16::integer [], $17::text [], $18::jsonb [],
            $19::timestamptz [], $20::text [], $21::timestamptz [], $22::timestamptz []
        ) AS v (
            id, status, attempt, agent_id, exit_code, error, outputs, cancel_requested_at, cancel_origin, started_at,
            finished_at
        )
    WHERE j.id = v.id AND j.run_id = $1
    RETURNING j.id
),

lines AS (
    DELETE FROM log_lines
    WHERE job_run_id = ANY($23::uuid [])
    RETURNING 1
)

SELECT
    (SELECT count(*) FROM run) AS runs,
    (SELECT count(*) FROM stages) AS stages,
    (SELECT count(*) FROM jobs) AS jobs,
    (SELECT count(*) FROM lines) AS lines;

-- name: run_of_job
-- The run a job belongs to.
SELECT run_id FROM job_runs
WHERE id = $1;

-- name: open_runs
-- Runs that a scheduler should look at, oldest first. A cancelled run counts while jobs of it are still open.
SELECT id FROM runs
WHERE status IN ('queued', 'running')
ORDER BY created_at, id
LIMIT $1;

-- name: queued_runs_of_pipeline
-- Runs of one pipeline that may have waited for its serial slot, oldest first.
SELECT id FROM runs
WHERE pipeline_id = $1 AND status = 'queued'
ORDER BY counter
LIMIT $2;

-- name: notify_run_queued
-- Tells the other servers that a run has work that this one could not place.
SELECT pg_notify('run_queued', $1::uuid::text);

-- name: running_jobs_of_agent
-- What an agent that registers again had been given.
SELECT run_id, id, attempt, cancel_requested_at IS NOT NULL AS cancel_requested
FROM job_runs
WHERE agent_id = $1 AND status = 'running'
ORDER BY run_id, id;

-- name: stale_jobs
-- Running jobs whose agent is missing, offline, or silent since $1.
SELECT j.run_id, j.id, j.agent_id, j.attempt
FROM job_runs j
LEFT JOIN agents a ON a.id = j.agent_id
WHERE
    j.status = 'running'
    AND j.agent_id IS NOT NULL
    AND (a.id IS NULL OR a.status = 'offline' OR a.last_seen_at IS NULL OR a.last_seen_at < $1)
ORDER BY j.run_id, j.id
LIMIT $2;
