-- The figures of the whole server at a glance. Changes nothing.

-- name: figures
-- Runs since the day began ($1), runs that ended since $2 and how, and what waits or runs now.
SELECT
    (SELECT count(*) FROM runs r WHERE r.created_at >= $1)::integer AS runs_today,
    e.successes,
    e.failures,
    e.canceled,
    e.p50_seconds,
    (SELECT count(*) FROM runs r WHERE r.status = 'queued')::integer AS queued_runs,
    (
        SELECT count(*) FROM runs r
        INNER JOIN job_runs j ON j.run_id = r.id AND j.status IN ('queued', 'running')
        WHERE r.status IN ('queued', 'running')
    )::integer AS pending_jobs
FROM (
    SELECT
        count(*) FILTER (WHERE status = 'success')::integer AS successes,
        count(*) FILTER (WHERE status = 'failed')::integer AS failures,
        count(*) FILTER (WHERE status = 'canceled')::integer AS canceled,
        percentile_cont(0.5) WITHIN GROUP (
            ORDER BY extract(EPOCH FROM finished_at - started_at)::double precision
        ) AS p50_seconds
    FROM runs
    WHERE finished_at >= $2
) e;
