-- Reading runs and agents for people. Nothing here locks or changes anything.

-- name: feed
-- Runs of all pipelines, newest first ($1 status, $2 cause, both optional; $3 limit, $4 offset).
SELECT
    r.id,
    r.pipeline_id,
    pl.name AS pipeline_name,
    r.counter,
    r.cause,
    r.status,
    r.has_services,
    r.service_names,
    r.queue_reason,
    r.cancel_reason,
    r.superseded_by,
    r.created_at,
    r.started_at,
    r.finished_at,
    r.triggered_by,
    CASE
        WHEN r.status IN ('queued', 'running') THEN (SELECT count(*) FROM job_runs jr WHERE jr.run_id = r.id)
    END AS open_jobs,
    p.id AS project_id,
    p.slug AS project_slug,
    p.name AS project_name
FROM (
    SELECT * FROM runs
    WHERE ($1::text IS NULL OR runs.status = $1) AND ($2::text IS NULL OR runs.cause = $2)
    ORDER BY runs.created_at DESC, runs.id DESC
    LIMIT $3 OFFSET $4
) r
INNER JOIN pipelines pl ON pl.id = r.pipeline_id
INNER JOIN projects p ON p.id = pl.project_id
ORDER BY r.created_at DESC, r.id DESC;

-- name: feed_total
-- How many runs the feed has in all. Counters are allotted without gaps, so without a filter their sum is the number.
SELECT CASE
    WHEN $1::text IS NULL AND $2::text IS NULL
        THEN (SELECT coalesce(sum(pl.last_counter), 0)::bigint FROM pipelines pl)
    ELSE (
        SELECT count(*) FROM runs r
        WHERE ($1::text IS NULL OR r.status = $1) AND ($2::text IS NULL OR r.cause = $2)
    )
END;

-- name: feed_of_pipelines
-- The same for the pipelines of project $5 and/or the pipelines with name or id $6: newest of each, then newest of all.
WITH chosen AS (
    SELECT
        pl.id,
        pl.name,
        p.id AS project_id,
        p.slug AS project_slug,
        p.name AS project_name
    FROM pipelines pl
    INNER JOIN projects p ON p.id = pl.project_id
    WHERE ($5::text IS NULL OR p.slug = $5) AND ($6::text IS NULL OR pl.name = $6 OR pl.id = $7::uuid)
)

SELECT
    r.id,
    r.pipeline_id,
    c.name AS pipeline_name,
    r.counter,
    r.cause,
    r.status,
    r.has_services,
    r.service_names,
    r.queue_reason,
    r.cancel_reason,
    r.superseded_by,
    r.created_at,
    r.started_at,
    r.finished_at,
    r.triggered_by,
    CASE
        WHEN r.status IN ('queued', 'running') THEN (SELECT count(*) FROM job_runs jr WHERE jr.run_id = r.id)
    END AS open_jobs,
    c.project_id,
    c.project_slug,
    c.project_name
FROM chosen c
CROSS JOIN LATERAL (
    SELECT * FROM runs
    WHERE
        runs.pipeline_id = c.id
        AND ($1::text IS NULL OR runs.status = $1)
        AND ($2::text IS NULL OR runs.cause = $2)
    ORDER BY runs.created_at DESC, runs.id DESC
    LIMIT ($3::bigint + $4::bigint)
) r
ORDER BY r.created_at DESC, r.id DESC
LIMIT $3 OFFSET $4;

-- name: feed_of_pipelines_total
-- How many runs `feed_of_pipelines` has in all.
SELECT coalesce(sum(CASE
    WHEN $1::text IS NULL AND $2::text IS NULL THEN pl.last_counter
    ELSE (
        SELECT count(*) FROM runs r
        WHERE
            r.pipeline_id = pl.id
            AND ($1::text IS NULL OR r.status = $1)
            AND ($2::text IS NULL OR r.cause = $2)
    )
END), 0)::bigint
FROM pipelines pl
INNER JOIN projects p ON p.id = pl.project_id
WHERE ($3::text IS NULL OR p.slug = $3) AND ($4::text IS NULL OR pl.name = $4 OR pl.id = $5::uuid);

-- name: detail
-- One run with its stages and jobs as JSON. A job that is no gate has the default quorum of one (contract-runs 13, 17).
SELECT
    r.id,
    r.pipeline_id,
    pl.name AS pipeline_name,
    r.counter,
    r.cause,
    r.status,
    r.has_services,
    r.service_names,
    r.queue_reason,
    r.cancel_reason,
    r.superseded_by,
    r.created_at,
    r.started_at,
    r.finished_at,
    r.triggered_by,
    p.slug AS project_slug,
    r.cause_detail,
    r.revisions,
    (
        SELECT json_agg(
            json_build_object(
                'id', s.id, 'name', s.name, 'ordinal', s.ordinal, 'status', s.status,
                'started_at', utc_text(s.started_at), 'finished_at', utc_text(s.finished_at),
                'jobs', coalesce(j.jobs, '[]')
            ) ORDER BY s.ordinal
        )
        FROM stage_runs s
        CROSS JOIN LATERAL (
            SELECT json_agg(
                json_build_object(
                    'id', jr.id, 'stage_run_id', jr.stage_run_id, 'name', jr.name, 'matrix_key', jr.matrix_key,
                    'image', jr.image, 'status', jr.status, 'exit_code', jr.exit_code,
                    'error', nullif(jr.error, ''),
                    'started_at', utc_text(jr.started_at), 'finished_at', utc_text(jr.finished_at),
                    'agent_id', jr.agent_id, 'attempt', jr.attempt,
                    'cancel_requested_at', utc_text(jr.cancel_requested_at),
                    'approval_gate', ga.job_run_id IS NOT NULL, 'approval_required', coalesce(ga.required, 1),
                    'approvers', nullif(ga.approvers, '{}'), 'approver_groups', nullif(ga.approver_groups, '{}'),
                    'approval_description', nullif(ga.description, ''),
                    'approval_quorum_label', ga.quorum_label, 'awaiting_since', utc_text(ga.awaiting_since),
                    'decision', ga.decision, 'decided_by', ga.decided_by, 'decided_at', utc_text(ga.decided_at),
                    'approvals', (
                        SELECT json_agg(
                            json_build_object(
                                'user_label', v.label, 'decision', v.decision, 'comment', nullif(v.comment, ''),
                                'decided_at', utc_text(v.decided_at)
                            ) ORDER BY v.decided_at, v.voter
                        )
                        FROM gate_votes v
                        WHERE v.job_run_id = ga.job_run_id
                    ),
                    'notify_on', n.notification ->> 'on', 'notify_uses', n.notification ->> 'uses'
                ) ORDER BY jr.name, jr.matrix_key
            ) AS jobs
            FROM job_runs jr
            LEFT JOIN job_gates ga ON ga.job_run_id = jr.id
            CROSS JOIN LATERAL (
                SELECT CASE
                    WHEN s.name = '_notifications' AND jr.name ~ '^_notify_[0-9]{1,6}$'
                        THEN r.notifications -> substr(jr.name, 9)::integer
                END AS notification
            ) n
            WHERE jr.stage_run_id = s.id
        ) j
        WHERE s.run_id = r.id
    ) AS stages
FROM runs r
INNER JOIN pipelines pl ON pl.id = r.pipeline_id
INNER JOIN projects p ON p.id = pl.project_id
WHERE r.id = $1;

-- name: run_exists
-- Whether there is such a run.
SELECT EXISTS (SELECT FROM runs WHERE id = $1);

-- name: job_of_run_exists
-- Whether the job is one of that run.
SELECT EXISTS (SELECT FROM job_runs WHERE id = $1 AND run_id = $2);

-- name: agents
-- Agents by name with the number of jobs they run now ($1 one id or null, $2 limit, $3 offset).
SELECT
    a.id,
    a.name,
    a.version,
    a.os,
    a.arch,
    a.tags,
    a.capacity,
    a.status,
    a.last_seen_at,
    a.registered_at,
    (SELECT count(*) FROM job_runs j WHERE j.agent_id = a.id AND j.status = 'running')::integer AS running_jobs
FROM agents a
WHERE $1::uuid IS NULL OR a.id = $1
ORDER BY a.name
LIMIT $2 OFFSET $3;

-- name: jobs_of_agent
-- The $2 newest jobs of an agent, newest start first, those never started last.
WITH started AS (
    SELECT * FROM job_runs
    WHERE agent_id = $1 AND started_at IS NOT NULL
    ORDER BY started_at DESC, id DESC
    LIMIT $2
),

waiting AS (
    SELECT * FROM job_runs
    WHERE agent_id = $1 AND started_at IS NULL
    ORDER BY id DESC
    LIMIT $2
)

SELECT
    j.id,
    j.name,
    j.status,
    j.started_at,
    j.finished_at,
    j.exit_code,
    r.id AS run_id,
    r.counter,
    pl.name AS pipeline_name,
    p.id AS project_id,
    p.slug AS project_slug,
    p.name AS project_name
FROM (
    SELECT * FROM started
    UNION ALL
    SELECT * FROM waiting
) j
INNER JOIN runs r ON r.id = j.run_id
INNER JOIN pipelines pl ON pl.id = r.pipeline_id
INNER JOIN projects p ON p.id = pl.project_id
ORDER BY j.started_at DESC NULLS LAST, j.id DESC
LIMIT $2;

-- name: queue_depth
-- The gauges of the queue: queued runs, open jobs of active runs, and jobs that an agent could take now.
SELECT
    (SELECT count(*) FROM runs WHERE status = 'queued') AS queued,
    (
        SELECT count(*) FROM runs r
        INNER JOIN job_runs j ON j.run_id = r.id AND j.status IN ('queued', 'running')
        WHERE r.status IN ('queued', 'running')
    ) AS pending,
    (
        SELECT count(*) FROM runs r
        CROSS JOIN LATERAL (
            SELECT s.id FROM stage_runs s
            WHERE s.run_id = r.id AND s.status IN ('queued', 'running')
            ORDER BY s.ordinal
            LIMIT 1
        ) active
        INNER JOIN job_runs j ON j.run_id = r.id AND j.stage_run_id = active.id AND j.status = 'queued'
        WHERE
            r.status IN ('queued', 'running')
            AND NOT EXISTS (
                SELECT FROM job_runs needed
                WHERE needed.run_id = r.id AND needed.name = ANY(j.needs) AND needed.status <> 'success'
            )
    ) AS dispatchable;
