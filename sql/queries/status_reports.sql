-- Telling providers how runs stand: the queue of what is to be told.

-- name: try_lock
-- Whether this transaction is the one that looks for news; another server may be at it.
SELECT pg_try_advisory_xact_lock(hashtextextended('gocdnext.sweep.status_reports', 0));

-- name: noticed_until
-- Runs that were made until then have been noticed.
SELECT until FROM status_reports_noticed;

-- name: notice
-- Takes up the runs since $1 that a provider's event has started, and what repeats one of them; $2 is now.
INSERT INTO status_reports (
    run_id, project_id, pipeline_id, counter, provider, url, sha, mode, wanted, next_at, created_at, updated_at
)
SELECT
    r.id,
    pl.project_id,
    r.pipeline_id,
    r.counter,
    coalesce(first.provider, r.cause_detail ->> 'provider'),
    coalesce(first.url, m.config ->> 'url'),
    coalesce(first.sha, r.revisions -> m.id::text ->> 'revision'),
    pr.check_reporting_mode,
    r.status,
    $2,
    $2,
    $2
FROM runs r
INNER JOIN pipelines pl ON pl.id = r.pipeline_id
INNER JOIN projects pr ON pr.id = pl.project_id
LEFT JOIN materials m ON m.pipeline_id = r.pipeline_id AND m.id = (r.cause_detail ->> 'material_id')::uuid
LEFT JOIN status_reports first ON first.run_id = (r.cause_detail ->> 'rerun_of')::uuid
WHERE
    r.created_at > $1
    AND r.cause IN ('webhook', 'pull_request')
    AND coalesce(first.provider, r.cause_detail ->> 'provider') IN ('github', 'gitlab', 'bitbucket')
    AND coalesce(first.url, m.config ->> 'url') IS NOT NULL
    AND coalesce(first.sha, r.revisions -> m.id::text ->> 'revision') IS NOT NULL
ON CONFLICT (run_id) DO NOTHING;

-- name: set_noticed
-- Runs that were made until $1 have been noticed.
INSERT INTO status_reports_noticed (until)
VALUES ($1)
ON CONFLICT (only_row) DO UPDATE SET until = excluded.until;

-- name: follow
-- Takes up the changes of runs that are known: those that were open, and those that are open again. $1 is now.
WITH moved AS (
    SELECT
        c.run_id,
        r.status
    FROM status_reports c
    INNER JOIN runs r ON r.id = c.run_id
    WHERE c.wanted IN ('queued', 'running') AND r.status <> c.wanted
    UNION ALL
    SELECT
        c.run_id,
        r.status
    FROM runs r
    INNER JOIN status_reports c ON c.run_id = r.id
    WHERE r.status IN ('queued', 'running') AND c.wanted NOT IN ('queued', 'running')
)

UPDATE status_reports c
SET wanted = moved.status, state = 'pending', attempts = 0, next_at = $1, error = NULL, updated_at = $1
FROM moved
WHERE c.run_id = moved.run_id;

-- name: take
-- Takes up to $3 reports that are due at $1, until $2. A commit's older run of the same pipeline goes first; only the
-- newest one may speak for the commit.
WITH due AS (
    SELECT c.run_id
    FROM status_reports c
    WHERE
        c.state = 'pending'
        AND c.next_at <= $1
        AND (c.taken_until IS NULL OR c.taken_until <= $1)
        AND NOT EXISTS (
            SELECT 1 FROM status_reports o
            WHERE o.pipeline_id = c.pipeline_id AND o.sha = c.sha AND o.counter < c.counter AND o.state = 'pending'
        )
    ORDER BY c.next_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
),

taken AS (
    UPDATE status_reports c
    SET taken_until = $2
    FROM due
    WHERE c.run_id = due.run_id
    RETURNING c.*
)

SELECT
    taken.*,
    pr.slug,
    pl.name AS pipeline,
    r.created_at AS run_created_at,
    r.started_at,
    r.finished_at,
    s.auth_ref,
    s.url AS source_url,
    NOT EXISTS (
        SELECT 1 FROM status_reports n
        WHERE n.pipeline_id = taken.pipeline_id AND n.sha = taken.sha AND n.counter > taken.counter
    ) AS newest
FROM taken
INNER JOIN runs r ON r.id = taken.run_id
INNER JOIN pipelines pl ON pl.id = taken.pipeline_id
INNER JOIN projects pr ON pr.id = taken.project_id
LEFT JOIN scm_sources s ON s.project_id = taken.project_id
ORDER BY taken.counter;

-- name: told
-- The provider knows status $3 of run $1, taken until $2; $4 is now. What has changed meanwhile is told next.
UPDATE status_reports
SET
    told = $3,
    state = CASE WHEN wanted = $3 THEN 'told' ELSE 'pending' END,
    attempts = 0,
    next_at = $4,
    taken_until = NULL,
    error = NULL,
    check_run_id = coalesce($5, check_run_id),
    installation_id = coalesce($6, installation_id),
    updated_at = $4
WHERE run_id = $1 AND taken_until = $2;

-- name: failed
-- It could not be told ($3): again at $5, or never ($6: the state it is left in); $4 is now.
UPDATE status_reports
SET
    state = CASE WHEN wanted = $3 THEN $6 ELSE 'pending' END,
    attempts = CASE WHEN wanted = $3 THEN attempts + 1 ELSE 0 END,
    next_at = CASE WHEN wanted = $3 THEN $5::timestamptz ELSE $4 END,
    taken_until = NULL,
    error = $7,
    check_run_id = coalesce($8, check_run_id),
    installation_id = coalesce($9, installation_id),
    updated_at = $4
WHERE run_id = $1 AND taken_until = $2
RETURNING state;

-- name: given_up
-- The newest reports of a project that were given up.
SELECT
    c.run_id,
    pl.name AS pipeline,
    c.counter,
    c.wanted,
    c.attempts,
    c.error,
    c.updated_at
FROM status_reports c
INNER JOIN pipelines pl ON pl.id = c.pipeline_id
WHERE c.project_id = $1 AND c.state = 'given_up'
ORDER BY c.updated_at DESC
LIMIT $2;

-- name: check_of_run
-- What GitHub calls the check of a run.
SELECT
    check_run_id,
    installation_id,
    url
FROM status_reports
WHERE run_id = $1 AND check_run_id IS NOT NULL;

-- name: keep_app_delivery
-- Claims a delivery of a GitHub App; no row when it was here before.
INSERT INTO github_app_deliveries (delivery, received_at)
VALUES ($1, $2)
ON CONFLICT (delivery) DO NOTHING
RETURNING delivery;

-- name: app_delivery_started
-- The run that a delivery has started.
UPDATE github_app_deliveries SET run_id = $2
WHERE delivery = $1;

-- name: forget_app_deliveries
-- Deliveries that GitHub does not send again any more.
WITH gone AS (
    DELETE FROM github_app_deliveries WHERE received_at < $1
    RETURNING 1
)

SELECT count(*) FROM gone;

-- name: check_reporting
-- How a project's runs are told.
SELECT
    id,
    check_reporting_mode
FROM projects
WHERE slug = $1;

-- name: set_check_reporting
-- How a project's runs are told from now on.
UPDATE projects SET check_reporting_mode = $2
WHERE slug = $1
RETURNING id;
