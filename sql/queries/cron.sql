-- The schedules of cron materials.

-- name: schedules_without_state
-- Cron materials that were not seen by a clock yet, and when they came.
SELECT
    m.id,
    m.config ->> 'expression' AS expression,
    m.created_at
FROM materials m
WHERE m.type = 'cron' AND NOT EXISTS (SELECT FROM cron_state s WHERE s.material_id = m.id)
LIMIT $1;

-- name: begin_schedules
-- When schedules fire for the first time. A material that an apply takes away at this moment is left out.
WITH kept AS (
    SELECT
        m.id,
        n.next_at
    FROM materials m
    INNER JOIN unnest($1::uuid [], $2::timestamptz []) AS n (id, next_at) ON n.id = m.id
    FOR KEY SHARE OF m SKIP LOCKED
)

INSERT INTO cron_state (material_id, next_at)
SELECT
    kept.id,
    kept.next_at
FROM kept
ON CONFLICT (material_id) DO NOTHING;

-- name: due_schedules
-- Schedules whose time has come, the longest due first.
SELECT
    m.id,
    m.pipeline_id,
    m.config ->> 'expression' AS expression,
    s.next_at
FROM cron_state s
INNER JOIN materials m ON m.id = s.material_id
WHERE s.next_at <= $1
ORDER BY s.next_at, m.id
LIMIT $2;

-- name: try_clock_lock
-- Whether this transaction is the one that fires; another server may be at it.
SELECT pg_try_advisory_xact_lock(hashtextextended('gocdnext.sweep.cron', 0));

-- name: take_fire
-- Moves schedule $2 of pipeline $1 on from its time $3 to $4: whoever gets a row has the fire of $3, once. The pipeline is
-- locked first, as everybody does who makes runs of it or applies it.
WITH held AS MATERIALIZED (
    SELECT id FROM pipelines
    WHERE id = $1
    FOR NO KEY UPDATE
)

UPDATE cron_state s
SET next_at = $4, last_fired_at = $5
FROM held
WHERE s.material_id = $2 AND s.next_at = $3
RETURNING s.material_id;
