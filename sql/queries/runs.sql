-- Statements that change runs. Reading for people is in runs_read.sql.

-- name: lock_pipeline
-- What the next run of a pipeline takes over, under the pipeline's row lock, which keeps its number.
SELECT
    p.definition_id,
    p.project_id,
    p.last_counter,
    pr.slug AS project_slug,
    pr.notifications::text AS notifications
FROM pipelines p
INNER JOIN projects pr ON pr.id = p.project_id
WHERE p.id = $1
FOR NO KEY UPDATE OF p;

-- name: definition
-- The text of one immutable definition; callers keep it.
SELECT definition::text FROM pipeline_definitions
WHERE id = $1;

-- name: insert_run
-- A whole run in one round trip, as its first dispatch pass left it: the pipeline's next number if that is still $4 and
-- its definition and (where $44 is given) its project's notifications are these; the run (of definition $45, where it is not
-- made from the pipeline's), its stages, jobs and gates, and word to every server where something of it waits ($12).
WITH numbered AS (
    UPDATE pipelines p
    SET last_counter = $4
    FROM projects pr
    WHERE
        p.id = $2
        AND p.last_counter = $4 - 1
        AND p.definition_id = $3
        AND pr.id = p.project_id
        AND ($44::text IS NULL OR pr.notifications = $44::text::jsonb)
    RETURNING p.id
),

run AS (
    INSERT INTO runs (
        id, pipeline_id, definition_id, counter, cause, cause_detail, revisions, ref, triggered_by, has_services,
        service_names, notifications, upstream_run_id, created_at, status, queue_reason, started_at, finished_at
    )
    SELECT
        $1,
        numbered.id,
        coalesce($45, $3),
        $4,
        $5,
        $6,
        $7,
        $8,
        $9,
        cardinality($10::text []) > 0,
        $10,
        $11::text::jsonb,
        $13,
        $14,
        $15,
        $16,
        $17,
        $18
    FROM numbered
    RETURNING id, created_at
),

stages AS (
    INSERT INTO stage_runs (id, run_id, name, ordinal, status, started_at, finished_at)
    SELECT
        s.id,
        run.id,
        s.name,
        s.ordinal - 1,
        s.status,
        s.started_at,
        s.finished_at
    FROM
        run,
        unnest($19::uuid [], $20::text [], $21::text [], $22::timestamptz [], $23::timestamptz [])
        WITH ORDINALITY AS s (id, name, status, started_at, finished_at, ordinal)
    RETURNING id
),

jobs AS (
    INSERT INTO job_runs (
        id, run_id, stage_run_id, name, matrix_key, image, status, needs, retry_unsafe, timeout_seconds, agent_id,
        error, started_at, finished_at
    )
    SELECT
        j.id,
        run.id,
        j.stage_run_id,
        j.name,
        j.matrix_key,
        nullif(j.image, ''),
        j.status,
        ARRAY(SELECT jsonb_array_elements_text(j.needs::jsonb)),
        j.retry_unsafe,
        j.timeout_seconds,
        j.agent_id,
        j.error,
        j.started_at,
        j.finished_at
    FROM
        run,
        unnest(
            $24::uuid [], $25::uuid [], $26::text [], $27::text [], $28::text [], $29::text [], $30::text [],
            $31::boolean [], $32::integer [], $33::uuid [], $34::text [], $35::timestamptz [], $36::timestamptz []
        ) AS j (
            id, stage_run_id, name, matrix_key, image, status, needs, retry_unsafe, timeout_seconds, agent_id, error,
            started_at, finished_at
        )
    RETURNING id
),

gates AS (
    INSERT INTO job_gates (
        job_run_id, awaiting_since, window_seconds, required, quorum_label, approvers, approver_groups, description
    )
    SELECT
        g.job_run_id,
        run.created_at,
        g.window_seconds,
        g.required,
        g.quorum_label,
        ARRAY(SELECT jsonb_array_elements_text(g.approvers::jsonb)),
        ARRAY(SELECT jsonb_array_elements_text(g.approver_groups::jsonb)),
        g.description
    FROM
        run,
        unnest(
            $37::uuid [], $38::bigint [], $39::integer [], $40::text [], $41::text [], $42::text [], $43::text []
        ) AS g (job_run_id, window_seconds, required, quorum_label, approvers, approver_groups, description)
    RETURNING job_run_id
)

SELECT
    CASE WHEN $12::boolean THEN pg_notify('run_queued', run.id::text) END AS told,
    (SELECT count(*) FROM stages) AS stages,
    (SELECT count(*) FROM jobs) AS jobs,
    (SELECT count(*) FROM gates) AS gates
FROM run;

-- name: lock_run
-- Takes the run's row lock, after the advisory locks it is under: freezes of its project (shared), then its lane.
-- Says which version the run has, and whether another transaction held a lane in which runs give way.
WITH freezes AS MATERIALIZED (
    SELECT pg_advisory_xact_lock_shared(hashtextextended('gocdnext.freeze:' || p.project_id::text, 0))
    FROM runs r
    INNER JOIN pipeline_definitions d ON d.id = r.definition_id
    INNER JOIN pipelines p ON p.id = r.pipeline_id
    WHERE r.id = $1 AND d.governed
),

lane AS MATERIALIZED (
    SELECT
        d.supersede,
        CASE
            WHEN pg_try_advisory_xact_lock(hashtextextended('gocdnext.lane:' || r.pipeline_id::text, 0)) THEN false
            ELSE (pg_advisory_xact_lock(hashtextextended('gocdnext.lane:' || r.pipeline_id::text, 0)) IS NULL) IS NOT NULL
        END AS waited
    FROM runs r
    INNER JOIN pipeline_definitions d ON d.id = r.definition_id
    CROSS JOIN (SELECT count(*) FROM freezes) AS taken
    WHERE r.id = $1 AND (d.serial OR d.supersede <> '')
)

SELECT
    r.version,
    taken.busy AS lane_busy
FROM runs r
CROSS JOIN (SELECT bool_or(waited AND supersede <> '') AS busy FROM lane) AS taken
WHERE r.id = $1
FOR NO KEY UPDATE OF r;

-- name: lock_lane
-- The lane lock of a pipeline whose runs take turns, for whoever makes a run of it: whether it had to be waited for.
SELECT
    CASE
        WHEN pg_try_advisory_xact_lock(hashtextextended('gocdnext.lane:' || $1::uuid::text, 0)) THEN false
        ELSE (pg_advisory_xact_lock(hashtextextended('gocdnext.lane:' || $1::uuid::text, 0)) IS NULL) IS NOT NULL
    END AS busy;

-- name: load_runs
-- Runs with their stages and jobs as seen after a lock was taken, and what other runs and people hold them by.
SELECT
    r.id,
    r.version,
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
    r.superseded_by,
    r.triggered_by,
    r.ref,
    r.notifications::text AS notifications,
    r.revisions,
    r.service_generation,
    r.created_at,
    r.started_at,
    r.finished_at,
    ARRAY(SELECT f.name FROM environment_freezes f WHERE f.project_id = p.project_id) AS frozen,
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
                j.id, j.stage_run_id, j.name, j.matrix_key, j.status, to_jsonb(j.needs), j.attempt, j.losses,
                j.retries, j.timeout_seconds, j.retry_unsafe, j.rollback, j.agent_id, j.exit_code, j.error, j.outputs,
                j.cancel_requested_at, j.cancel_origin, j.started_at, j.finished_at
            ) ORDER BY s.ordinal, j.name, j.matrix_key
        )
        FROM job_runs j
        INNER JOIN stage_runs s ON s.id = j.stage_run_id
        WHERE j.run_id = r.id
    ) AS jobs,
    (
        SELECT jsonb_object_agg(
            g.job_run_id,
            jsonb_build_array(
                g.awaiting_since, g.required, g.quorum_label, to_jsonb(g.approvers), to_jsonb(g.approver_groups),
                g.description, g.decision, g.decided_by, g.decided_at, (
                    SELECT jsonb_agg(
                        jsonb_build_array(v.voter, v.label, v.decision, v.comment, v.decided_at) ORDER BY v.decided_at
                    )
                    FROM gate_votes v
                    WHERE v.job_run_id = g.job_run_id
                )
            )
        )
        FROM job_gates g
        INNER JOIN job_runs j ON j.id = g.job_run_id
        WHERE j.run_id = r.id
    ) AS gates,
    CASE
        WHEN r.status = 'queued' AND d.serial THEN (
            SELECT o.id FROM runs o
            WHERE o.pipeline_id = r.pipeline_id AND o.status = 'running' AND o.id <> r.id
            ORDER BY o.counter
            LIMIT 1
        )
    END AS serial_holder,
    CASE
        WHEN d.supersede <> '' THEN ARRAY(
            SELECT DISTINCT gp.environment FROM run_gate_passes gp
            WHERE
                gp.pipeline_id = r.pipeline_id
                AND gp.counter > r.counter
                AND (d.supersede = 'pipeline' OR gp.ref = r.ref)
        )
    END AS passed_by_newer,
    CASE
        WHEN d.fetches THEN (
            SELECT jsonb_agg(
                jsonb_build_array(
                    j.name, a.path, a.storage_key, a.content_sha256, CASE WHEN a.run_id = r.id THEN '' ELSE ap.name END
                ) ORDER BY j.name, j.matrix_key, a.path
            )
            FROM artifacts a
            INNER JOIN job_runs j ON j.id = a.job_run_id
            INNER JOIN runs ar ON ar.id = a.run_id
            INNER JOIN pipelines ap ON ap.id = ar.pipeline_id
            WHERE a.status = 'ready' AND a.run_id IN (r.id, (r.cause_detail ->> 'upstream_run_id')::uuid)
        )
    END AS artifacts
FROM runs r
INNER JOIN pipelines p ON p.id = r.pipeline_id
INNER JOIN projects pr ON pr.id = p.project_id
INNER JOIN pipeline_definitions d ON d.id = r.definition_id
WHERE r.id = ANY($1::uuid []);

-- name: save_run
-- Writes what a transition changed, if the run still has the version it was decided on ($28): the run, its stages and
-- jobs; lines, artifacts and reports of discarded attempts go.
WITH run AS (
    UPDATE runs
    SET
        version = version + 1,
        status = $2,
        queue_reason = $3,
        cancel_reason = $4,
        superseded_by = $5,
        service_generation = $6,
        started_at = $7,
        finished_at = $8
    WHERE id = $1 AND version = $28
    RETURNING id
),

stages AS (
    UPDATE stage_runs s
    SET status = v.status, started_at = v.started_at, finished_at = v.finished_at
    FROM run, unnest($9::uuid [], $10::text [], $11::timestamptz [], $12::timestamptz [])
        AS v (id, status, started_at, finished_at)
    WHERE s.id = v.id AND s.run_id = run.id
    RETURNING s.id
),

jobs AS (
    UPDATE job_runs j
    SET
        status = v.status,
        attempt = v.attempt,
        log_lines_live = j.log_lines_live OR v.attempt <> j.attempt,
        losses = v.losses,
        retries = v.retries,
        rollback = v.rollback,
        agent_id = v.agent_id,
        exit_code = v.exit_code,
        error = v.error,
        outputs = v.outputs,
        cancel_requested_at = v.cancel_requested_at,
        cancel_origin = v.cancel_origin,
        started_at = v.started_at,
        finished_at = v.finished_at
    FROM
        run,
        unnest(
            $13::uuid [], $14::text [], $15::integer [], $16::integer [], $17::integer [], $18::boolean [],
            $19::uuid [], $20::integer [], $21::text [], $22::jsonb [], $23::timestamptz [], $24::text [],
            $25::timestamptz [], $26::timestamptz []
        ) AS v (
            id, status, attempt, losses, retries, rollback, agent_id, exit_code, error, outputs, cancel_requested_at,
            cancel_origin, started_at, finished_at
        )
    WHERE j.id = v.id AND j.run_id = run.id
    RETURNING j.id
),

lines AS (
    DELETE FROM log_lines
    WHERE job_run_id = ANY($27::uuid []) AND EXISTS (SELECT 1 FROM run)
    RETURNING 1
),

archives AS (
    DELETE FROM log_archives
    WHERE job_run_id = ANY($27::uuid []) AND EXISTS (SELECT 1 FROM run)
    RETURNING 1
),

delivered AS (
    DELETE FROM artifacts
    WHERE job_run_id = ANY($27::uuid []) AND EXISTS (SELECT 1 FROM run)
    RETURNING 1
),

tests AS (
    DELETE FROM test_results
    WHERE job_run_id = ANY($27::uuid []) AND EXISTS (SELECT 1 FROM run)
    RETURNING 1
),

coverage AS (
    DELETE FROM coverage_reports
    WHERE job_run_id = ANY($27::uuid []) AND EXISTS (SELECT 1 FROM run)
    RETURNING 1
)

SELECT
    (SELECT count(*) FROM run) AS runs,
    (SELECT count(*) FROM stages) AS stages,
    (SELECT count(*) FROM jobs) AS jobs,
    (SELECT count(*) FROM lines) AS lines,
    (SELECT count(*) FROM delivered) AS delivered;

-- name: save_gates
-- Decisions and clocks of gates that changed.
UPDATE job_gates g
SET
    awaiting_since = v.awaiting_since,
    decision = v.decision,
    decided_by = v.decided_by,
    decided_at = v.decided_at
FROM unnest($1::uuid [], $2::timestamptz [], $3::text [], $4::text [], $5::timestamptz [])
    AS v (job_run_id, awaiting_since, decision, decided_by, decided_at)
WHERE g.job_run_id = v.job_run_id;

-- name: clear_votes
-- Gates that are armed anew forget what was said.
DELETE FROM gate_votes
WHERE job_run_id = ANY($1::uuid []);

-- name: add_votes
-- Votes that are new; the first vote of a person stays.
INSERT INTO gate_votes (job_run_id, voter, label, decision, comment, decided_at)
SELECT v.* FROM unnest($1::uuid [], $2::text [], $3::text [], $4::text [], $5::text [], $6::timestamptz []) AS v
ON CONFLICT DO NOTHING;

-- name: run_of_job
-- The run a job belongs to.
SELECT run_id FROM job_runs
WHERE id = $1;

-- name: open_runs
-- Runs that a scheduler should look at, oldest first: open ones, and finished ones whose notifications still wait.
SELECT o.id FROM (
    SELECT
        r.id,
        r.created_at
    FROM runs r
    WHERE r.status IN ('queued', 'running')
    UNION
    SELECT
        r.id,
        r.created_at
    FROM job_runs j
    INNER JOIN runs r ON r.id = j.run_id
    WHERE j.status IN ('queued', 'running', 'awaiting_approval')
) o
ORDER BY o.created_at, o.id
LIMIT $1;

-- name: queued_runs_of_pipeline
-- Runs of one pipeline that may have waited for its serial slot, oldest first.
SELECT id FROM runs
WHERE pipeline_id = $1 AND status = 'queued'
ORDER BY counter
LIMIT $2;

-- name: notify_run_queued
-- Tells the other servers that runs have work that this one could not place.
SELECT pg_notify('run_queued', r.id::text) FROM unnest($1::uuid []) AS r (id);

-- name: notify_run_superseded
-- Tells every server that this run gave way to a newer one of its lane.
SELECT pg_notify('run_superseded', $1::uuid::text);

-- name: notify_stop_job
-- Tells the other servers that jobs are to be stopped whose agents have no session here.
SELECT pg_notify('stop_job', s.agent_id::text || ' ' || s.run_id::text || ' ' || s.job_id::text)
FROM unnest($1::uuid [], $2::uuid [], $3::uuid []) AS s (agent_id, run_id, job_id);

-- name: notify_services_over
-- Tells every server that the services of finished runs may go, up to a generation each.
SELECT pg_notify('services_over', s.run_id::text || ' ' || s.generation::text)
FROM unnest($1::uuid [], $2::bigint []) AS s (run_id, generation);

-- name: running_jobs_of_agent
-- What an agent that registers again had been given.
SELECT run_id, id, attempt, cancel_requested_at IS NOT NULL AS cancel_requested
FROM job_runs
WHERE agent_id = $1 AND status = 'running'
ORDER BY run_id, id;

-- name: running_jobs_of_agents
-- What agents have been given, for the look whether their sessions know of it.
SELECT agent_id, run_id, id, attempt
FROM job_runs
WHERE agent_id = any($1::uuid []) AND status = 'running'
ORDER BY run_id, id;

-- name: stale_jobs
-- Running jobs whose agent is missing, silent for $2 at the time $1, or offline. One that is offline with a lease may
-- come back to its jobs: it has the lease and $3 on top.
SELECT j.run_id, j.id, j.agent_id, j.attempt
FROM job_runs j
LEFT JOIN agents a ON a.id = j.agent_id
WHERE
    j.status = 'running'
    AND j.agent_id IS NOT NULL
    AND (
        a.id IS NULL
        OR a.last_seen_at IS NULL
        OR (a.status = 'offline' AND a.lease_hash = '')
        OR a.last_seen_at < $1::timestamptz - greatest($2::interval, make_interval(secs => a.lease_seconds) + $3::interval)
    )
ORDER BY j.run_id, j.id
LIMIT $4;

-- name: downstream_pipelines
-- Pipelines of the run's project with an upstream material on this pipeline and stage, for success; by name.
SELECT
    p.id,
    jsonb_object_agg(m.fingerprint, m.id) AS materials,
    max(m.id::text) FILTER (
        WHERE m.type = 'upstream' AND m.config ->> 'pipeline' = $2 AND m.config ->> 'stage' = $3
    ) AS upstream_material
FROM pipelines p
INNER JOIN materials m ON m.pipeline_id = p.id
WHERE p.project_id = $1
GROUP BY p.id, p.name
HAVING
    count(*) FILTER (
        WHERE
        m.type = 'upstream'
        AND m.config ->> 'pipeline' = $2
        AND m.config ->> 'stage' = $3
        AND m.config ->> 'status' = 'success'
    ) > 0
ORDER BY p.name;

-- name: started_by_upstream
-- Whether this upstream run has started a run of this pipeline before.
SELECT EXISTS (SELECT 1 FROM runs WHERE pipeline_id = $1 AND upstream_run_id = $2);

-- name: older_waiting_runs
-- Older open runs of the lane ($3 its mode, $4 its ref) with a gate that waits, newest first.
SELECT r.id
FROM runs r
WHERE
    r.pipeline_id = $1
    AND r.counter < $2
    AND r.status IN ('queued', 'running')
    AND ($3::text = 'pipeline' OR r.ref = $4)
    AND EXISTS (SELECT 1 FROM job_runs j WHERE j.run_id = r.id AND j.status = 'awaiting_approval')
ORDER BY r.counter DESC;

-- name: mark_gates_passed
-- Environments behind whose gates this run has passed.
INSERT INTO run_gate_passes (run_id, environment, pipeline_id, ref, counter, passed_at)
SELECT $1, e.name, $3, $4, $5, $6 FROM unnest($2::text []) AS e (name)
ON CONFLICT DO NOTHING;

-- name: void_gate_passes
-- Gates of this run wait again in front of these environments.
DELETE FROM run_gate_passes
WHERE run_id = $1 AND environment = ANY($2::text []);

-- name: overdue_jobs
-- Running jobs that are past their time limit by more than the agent's share of grace ($2, seconds).
SELECT run_id, id, attempt, timeout_seconds FROM job_runs
WHERE
    status = 'running' AND timeout_seconds > 0
    AND started_at < $1::timestamptz - make_interval(secs => timeout_seconds + $2::integer)
ORDER BY started_at
LIMIT $3;

-- name: expired_gates
-- Waiting gates past their window; $2 is the server's default in seconds, null when gates wait for ever by default.
SELECT
    j.run_id,
    g.job_run_id,
    g.awaiting_since,
    coalesce(nullif(g.window_seconds, -1), $2::bigint) AS window_seconds
FROM job_gates g
INNER JOIN job_runs j ON j.id = g.job_run_id
WHERE
    g.decision IS NULL
    AND j.status = 'awaiting_approval'
    AND g.window_seconds IS NOT NULL
    AND g.awaiting_since < $1::timestamptz - make_interval(secs => coalesce(nullif(g.window_seconds, -1), $2::bigint))
ORDER BY g.awaiting_since
LIMIT $3;
