-- How the server is, for its administrators.

-- name: agents
-- How agents are: heard of since $1, silent though connected, away.
SELECT
    count(*) FILTER (WHERE status = 'online' AND last_seen_at >= $1)::integer AS online,
    count(*) FILTER (WHERE status = 'online' AND (last_seen_at IS NULL OR last_seen_at < $1))::integer AS stale,
    count(*) FILTER (WHERE status <> 'online')::integer AS offline
FROM agents;

-- name: runs
-- Runs and jobs that wait or run, and how runs ended since $1.
SELECT
    (SELECT count(*) FROM runs q WHERE q.status = 'queued')::integer AS queued_runs,
    (
        SELECT count(*) FROM runs r
        INNER JOIN job_runs j ON j.run_id = r.id AND j.status IN ('queued', 'running')
        WHERE r.status IN ('queued', 'running')
    )::integer AS pending_jobs,
    e.successes,
    e.failures
FROM (
    SELECT
        count(*) FILTER (WHERE status = 'success')::integer AS successes,
        count(*) FILTER (WHERE status = 'failed')::integer AS failures
    FROM runs
    WHERE finished_at >= $1
) e;
