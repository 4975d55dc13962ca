-- Polling of git materials: which repositories are to be asked, and what they said.

-- name: try_poll_lock
-- Whether this transaction is the one that takes repositories; another server may be at it.
SELECT pg_try_advisory_xact_lock(hashtextextended('gocdnext.sweep.poll', 0));

-- name: polled_repositories
-- Every repository with a material that is polled: its most impatient material's interval, and the last time.
WITH wanted AS (
    SELECT
        m.config ->> 'url' AS url,
        min(coalesce((m.config ->> 'poll_seconds')::double precision, s.poll_interval_ns / 1e9)) AS seconds
    FROM materials m
    INNER JOIN pipelines p ON p.id = m.pipeline_id
    LEFT JOIN scm_sources s ON s.project_id = p.project_id
    WHERE
        m.type = 'git'
        AND m.config -> 'events' ? 'push'
        AND coalesce((m.config ->> 'poll_seconds')::double precision, s.poll_interval_ns / 1e9) > 0
    GROUP BY m.config ->> 'url'
)

SELECT
    wanted.url,
    wanted.seconds,
    r.asked_at,
    r.failures,
    r.jitter
FROM wanted
LEFT JOIN repository_polls r ON r.repository = sha256(convert_to(wanted.url, 'UTF8'))
ORDER BY r.asked_at NULLS FIRST, wanted.url;

-- name: take_repositories
-- These repositories are asked now ($3); they are asked that much of their interval earlier the next time.
INSERT INTO repository_polls (repository, asked_at, jitter)
SELECT
    sha256(convert_to(n.url, 'UTF8')),
    $3,
    n.jitter
FROM unnest($1::text [], $2::real []) AS n (url, jitter)
ON CONFLICT (repository) DO UPDATE SET asked_at = excluded.asked_at, jitter = excluded.jitter;

-- name: forget_repositories
-- Repositories that nobody polls any more.
DELETE FROM repository_polls
WHERE asked_at < $1;

-- name: polled_materials
-- The materials of these repositories that are polled and may start a run at a push, with what was found there last.
SELECT
    m.id,
    m.pipeline_id,
    p.project_id,
    m.config ->> 'url' AS url,
    m.config ->> 'branch' AS branch,
    coalesce((m.config ->> 'poll_seconds')::bigint * 1000000000, s.poll_interval_ns) AS interval_ns,
    CASE WHEN s.clone_url = m.config ->> 'url' THEN s.provider ELSE 'manual' END AS provider,
    o.last_head_sha
FROM materials m
INNER JOIN pipelines p ON p.id = m.pipeline_id
INNER JOIN pipeline_definitions d ON d.id = p.definition_id
LEFT JOIN scm_sources s ON s.project_id = p.project_id
LEFT JOIN material_poll_state o ON o.material_id = m.id
WHERE
    m.type = 'git'
    AND m.config ->> 'url' = ANY($1::text [])
    AND m.config -> 'events' ? 'push'
    AND coalesce(d.definition #> '{when,events}' ? 'push', TRUE)
    AND coalesce((m.config ->> 'poll_seconds')::double precision, s.poll_interval_ns / 1e9) > 0
ORDER BY p.project_id, p.name, m.id;

-- name: materials_of_project
-- The git materials of project $1 that a push may start, whether they are polled or not, with what was found there last.
SELECT
    m.id,
    m.pipeline_id,
    p.project_id,
    m.config ->> 'url' AS url,
    m.config ->> 'branch' AS branch,
    coalesce((m.config ->> 'poll_seconds')::bigint * 1000000000, s.poll_interval_ns, 0) AS interval_ns,
    CASE WHEN s.clone_url = m.config ->> 'url' THEN s.provider ELSE 'manual' END AS provider,
    o.last_head_sha
FROM projects pr
INNER JOIN pipelines p ON p.project_id = pr.id
INNER JOIN pipeline_definitions d ON d.id = p.definition_id
INNER JOIN materials m ON m.pipeline_id = p.id
LEFT JOIN scm_sources s ON s.project_id = p.project_id
LEFT JOIN material_poll_state o ON o.material_id = m.id
WHERE
    pr.slug = $1
    AND m.type = 'git'
    AND m.config -> 'events' ? 'push'
    AND coalesce(d.definition #> '{when,events}' ? 'push', TRUE)
ORDER BY p.name, m.id;

-- name: hold_pipeline
-- Locks a pipeline first, as everybody does who makes runs of it or applies it; nothing when it is gone.
SELECT id FROM pipelines
WHERE id = $1
FOR NO KEY UPDATE;

-- name: record_polls
-- What was found for materials: a head, or why there is none (the last head stays). A material that an apply takes away
-- at this moment is left out.
WITH kept AS (
    SELECT
        m.id,
        n.head,
        n.error
    FROM materials m
    INNER JOIN unnest($1::uuid [], $2::text [], $3::text []) AS n (id, head, error) ON n.id = m.id
    FOR KEY SHARE OF m SKIP LOCKED
)

INSERT INTO material_poll_state (material_id, last_polled_at, last_head_sha, last_poll_error)
SELECT
    kept.id,
    $4,
    kept.head,
    kept.error
FROM kept
ON CONFLICT (material_id) DO UPDATE SET
    last_polled_at = excluded.last_polled_at,
    last_head_sha = coalesce(excluded.last_head_sha, material_poll_state.last_head_sha),
    last_poll_error = excluded.last_poll_error;

-- name: settle_repository
-- How often in a row a repository has not answered.
UPDATE repository_polls
SET failures = $2
WHERE repository = sha256(convert_to($1, 'UTF8'));

-- name: set_poll_interval
-- How often the repository of project $1 is polled; whether there is such a project, and a repository.
WITH project AS (
    SELECT id FROM projects
    WHERE slug = $1
),

changed AS (
    UPDATE scm_sources s
    SET poll_interval_ns = $2, updated_at = $3
    FROM project
    WHERE s.project_id = project.id
    RETURNING s.id
)

SELECT
    EXISTS (SELECT FROM project) AS project,
    EXISTS (SELECT FROM changed) AS source;
