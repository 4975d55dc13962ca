-- Reports of agents: test cases, coverage and services, how they are kept and how they are read.

-- name: replace_tests
-- The cases of a job in place of earlier ones, if the agent ($2) still has this attempt ($3); how many jobs that were.
WITH job AS MATERIALIZED (
    SELECT j.id FROM job_runs j
    WHERE j.id = $1 AND j.agent_id = $2 AND j.attempt = $3 AND j.status = 'running'
    FOR NO KEY UPDATE
),

earlier AS (
    DELETE FROM test_results t
    USING job
    WHERE t.job_run_id = job.id
),

cases AS (
    INSERT INTO test_results (
        job_run_id, attempt, suite, classname, name, status, duration_ms, failure_type, failure_message, failure_detail,
        system_out, system_err, created_at
    )
    SELECT
        job.id,
        $3,
        c.suite,
        c.classname,
        c.name,
        c.status,
        c.duration_ms,
        c.failure_type,
        c.failure_message,
        c.failure_detail,
        c.system_out,
        c.system_err,
        $4
    FROM
        job,
        unnest(
            $5::text [], $6::text [], $7::text [], $8::text [], $9::bigint [], $10::text [], $11::text [], $12::text [],
            $13::text [], $14::text []
        ) AS c (
            suite, classname, name, status, duration_ms, failure_type, failure_message, failure_detail, system_out,
            system_err
        )
)

SELECT count(*) FROM job;

-- name: replace_coverage
-- The coverage of a job in place of an earlier one, if the agent ($2) still has this attempt ($3).
WITH job AS MATERIALIZED (
    SELECT
        j.id,
        j.run_id,
        j.name,
        j.matrix_key
    FROM job_runs j
    WHERE j.id = $1 AND j.agent_id = $2 AND j.attempt = $3 AND j.status = 'running'
    FOR NO KEY UPDATE
)

INSERT INTO coverage_reports (
    job_run_id, attempt, run_id, pipeline_id, job_name, matrix_key, format, lines_covered, lines_total, packages,
    created_at
)
SELECT job.id, $3, job.run_id, r.pipeline_id, job.name, job.matrix_key, $5, $6, $7, $8, $4
FROM job
INNER JOIN runs r ON r.id = job.run_id
ON CONFLICT (job_run_id) DO UPDATE SET
    attempt = excluded.attempt,
    format = excluded.format,
    lines_covered = excluded.lines_covered,
    lines_total = excluded.lines_total,
    packages = excluded.packages,
    created_at = excluded.created_at
RETURNING 1;

-- name: test_summaries
-- How the cases of each job of a run ended; only jobs with cases.
SELECT
    j.id AS job_run_id,
    count(*) AS total,
    count(*) FILTER (WHERE t.status = 'passed') AS passed,
    count(*) FILTER (WHERE t.status = 'failed') AS failed,
    count(*) FILTER (WHERE t.status = 'skipped') AS skipped,
    count(*) FILTER (WHERE t.status = 'errored') AS errored,
    sum(t.duration_ms)::bigint AS duration_ms
FROM job_runs j
INNER JOIN test_results t ON t.job_run_id = j.id AND t.attempt = j.attempt
WHERE j.run_id = $1
GROUP BY j.id
ORDER BY j.id;

-- name: test_cases
-- The cases of a run by suite, class and name ($2 limit or null, $3 offset).
SELECT
    t.id,
    t.job_run_id,
    t.suite,
    t.classname,
    t.name,
    t.status,
    t.duration_ms,
    t.failure_type,
    t.failure_message,
    t.failure_detail
FROM job_runs j
INNER JOIN test_results t ON t.job_run_id = j.id AND t.attempt = j.attempt
WHERE j.run_id = $1
ORDER BY t.suite, t.classname, t.name, t.id
LIMIT $2 OFFSET $3;

-- name: test_history
-- How one case ended lately, newest first, in all projects.
SELECT
    t.id,
    j.run_id,
    r.counter AS run_counter,
    p.name AS pipeline_name,
    pr.slug AS project_slug,
    t.status,
    t.duration_ms,
    t.failure_message,
    t.created_at
FROM test_results t
INNER JOIN job_runs j ON j.id = t.job_run_id AND j.attempt = t.attempt
INNER JOIN runs r ON r.id = j.run_id
INNER JOIN pipelines p ON p.id = r.pipeline_id
INNER JOIN projects pr ON pr.id = p.project_id
WHERE
    hashtextextended(t.name, hashtextextended(t.classname, 0))
    = hashtextextended($1::text, hashtextextended($2::text, 0))
    AND t.name = $1
    AND t.classname = $2
ORDER BY t.created_at DESC, t.id
LIMIT $3;

-- name: coverage_of_run
-- The coverage of a run's jobs, each with the newest one of the same job in another run that a push or a poll started.
SELECT
    c.job_run_id,
    c.job_name,
    c.matrix_key,
    c.format,
    c.lines_covered,
    c.lines_total,
    c.packages,
    c.created_at,
    b.run_id AS baseline_run_id,
    b.lines_covered AS baseline_covered,
    b.lines_total AS baseline_total
FROM coverage_reports c
INNER JOIN job_runs j ON j.id = c.job_run_id AND j.attempt = c.attempt
LEFT JOIN LATERAL (
    SELECT
        o.run_id,
        o.lines_covered,
        o.lines_total
    FROM coverage_reports o
    INNER JOIN job_runs oj ON oj.id = o.job_run_id AND oj.attempt = o.attempt
    INNER JOIN runs r ON r.id = o.run_id
    WHERE
        o.pipeline_id = c.pipeline_id
        AND o.job_name = c.job_name
        AND o.matrix_key = c.matrix_key
        AND o.run_id <> c.run_id
        AND r.cause IN ('webhook', 'poll')
    ORDER BY o.created_at DESC
    LIMIT 1
) b ON TRUE
WHERE c.run_id = $1
ORDER BY c.job_name, c.matrix_key
LIMIT $2 OFFSET $3;

-- name: coverage_trend
-- The newest $2 points of every series (job, matrix key) of a pipeline, newest first. The series are found by skipping
-- through the index, not by reading all points.
WITH RECURSIVE series AS (
    (
        SELECT c.job_name, c.matrix_key
        FROM coverage_reports c
        WHERE c.pipeline_id = $1
        ORDER BY c.job_name, c.matrix_key
        LIMIT 1
    )
    UNION ALL
    SELECT following.job_name, following.matrix_key
    FROM series s
    CROSS JOIN LATERAL (
        SELECT c.job_name, c.matrix_key
        FROM coverage_reports c
        WHERE c.pipeline_id = $1 AND (c.job_name, c.matrix_key) > (s.job_name, s.matrix_key)
        ORDER BY c.job_name, c.matrix_key
        LIMIT 1
    ) following
)

SELECT point.*
FROM series s
CROSS JOIN LATERAL (
    SELECT
        c.run_id,
        c.job_name,
        c.matrix_key,
        c.lines_covered,
        c.lines_total,
        c.created_at
    FROM coverage_reports c
    INNER JOIN job_runs j ON j.id = c.job_run_id AND j.attempt = c.attempt
    WHERE c.pipeline_id = $1 AND c.job_name = s.job_name AND c.matrix_key = s.matrix_key
    ORDER BY c.created_at DESC
    LIMIT $2
) point
ORDER BY point.created_at DESC, point.job_name, point.matrix_key;

-- name: service_changed
-- What an agent says of a service of a run. Only an agent that has ($10) or had a job of the run may say that one
-- runs. The first time of each kind stays, a failed service stays failed.
INSERT INTO service_runs AS s (
    id, run_id, name, image, pod_name, status, error, started_at, ready_at, stopped_at
)
SELECT
    $1,
    r.id,
    $4,
    $5,
    $6,
    $7,
    $8,
    CASE WHEN $7 IN ('starting', 'ready') THEN $9::timestamptz END,
    CASE WHEN $7 = 'ready' THEN $9::timestamptz END,
    CASE WHEN $7 IN ('stopped', 'failed') THEN $9::timestamptz END
FROM runs r
WHERE
    r.id = $2
    AND ($7 = 'stopped' OR $10 OR EXISTS (SELECT FROM job_runs j WHERE j.run_id = r.id AND j.agent_id = $3))
ON CONFLICT (run_id, name) DO UPDATE SET
    status = CASE WHEN s.status = 'failed' THEN s.status ELSE excluded.status END,
    image = coalesce(nullif(excluded.image, ''), s.image),
    pod_name = coalesce(nullif(excluded.pod_name, ''), s.pod_name),
    error = coalesce(nullif(excluded.error, ''), s.error),
    started_at = coalesce(s.started_at, excluded.started_at),
    ready_at = coalesce(s.ready_at, excluded.ready_at),
    stopped_at = coalesce(s.stopped_at, excluded.stopped_at)
RETURNING 1;

-- name: services_of_run
-- The services of a run by name.
SELECT
    id,
    name,
    image,
    pod_name,
    status,
    error,
    started_at,
    ready_at,
    stopped_at
FROM service_runs
WHERE run_id = $1
ORDER BY name;

-- name: services_left
-- Runs finished since $1 whose services no agent has confirmed to be gone, oldest first.
SELECT
    id,
    service_generation
FROM runs
WHERE has_services AND finished_at IS NOT NULL AND services_cleaned < service_generation AND finished_at > $1
ORDER BY finished_at
LIMIT $2;

-- name: services_cleaned
-- An agent has confirmed the clean-up of a run's services up to a generation.
UPDATE runs
SET services_cleaned = greatest(services_cleaned, $2)
WHERE id = $1 AND services_cleaned < $2;
