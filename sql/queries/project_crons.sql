-- The schedules of projects.

-- name: of_project
-- Schedules of the project $1, newest first; one row of nulls when it has none, no row when there is no such project.
SELECT
    pr.id AS project,
    c.*
FROM projects pr
LEFT JOIN project_crons c ON c.project_id = pr.id
WHERE pr.slug = $1
ORDER BY c.created_at DESC, c.id DESC;

-- name: project
-- The project $1, and which of the pipelines $2 are its own.
SELECT
    pr.id,
    ARRAY(SELECT pl.id FROM pipelines pl WHERE pl.project_id = pr.id AND pl.id = ANY($2::uuid [])) AS pipelines
FROM projects pr
WHERE pr.slug = $1;

-- name: add
-- A new schedule; no row when the project has one of that name.
INSERT INTO project_crons (
    id, project_id, name, expression, pipeline_ids, enabled, next_at, created_by, created_at, updated_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
ON CONFLICT (project_id, name) DO NOTHING
RETURNING *;

-- name: find
-- One schedule.
SELECT * FROM project_crons
WHERE id = $1;

-- name: change
-- Everything of a schedule that people decide. Another expression ($3) begins at $6; the same one goes on as it was.
UPDATE project_crons
SET
    name = $2,
    next_at = CASE WHEN expression = $3 THEN next_at ELSE $6 END,
    expression = $3,
    pipeline_ids = $4,
    enabled = coalesce($5, enabled),
    updated_at = $7
WHERE id = $1
RETURNING enabled;

-- name: remove
-- Takes a schedule away.
DELETE FROM project_crons
WHERE id = $1;

-- name: due
-- Schedules whose time has come, the longest due first.
SELECT
    id,
    project_id,
    name,
    expression,
    pipeline_ids,
    next_at
FROM project_crons
WHERE enabled AND next_at <= $1
ORDER BY next_at, id
LIMIT $2;

-- name: take_fire
-- Moves schedule $3 of project $1 on from its time $4 to $5: whoever gets a row has the fire of $4, once. Its pipelines
-- are locked first and in the order of all, as everybody does who makes runs of them or applies them.
WITH held AS MATERIALIZED (
    SELECT id FROM pipelines
    WHERE project_id = $1 AND (cardinality($2::uuid []) = 0 OR id = ANY($2::uuid []))
    ORDER BY name
    FOR NO KEY UPDATE
)

UPDATE project_crons
SET next_at = $5, last_fired_at = $6
WHERE id = $3 AND next_at = $4 AND enabled AND (SELECT count(*) FROM held) >= 0
RETURNING id;

-- name: newest_revisions
-- Pipelines of the project $1 ($2, or all of them), each with the newest modification that is known of it: of a
-- repository, if it has one. A pipeline of which nothing is known is left out; what a request proposes does not count.
SELECT
    pl.id AS pipeline_id,
    mo.id,
    mo.material_id,
    mo.revision,
    mo.branch
FROM pipelines pl
CROSS JOIN LATERAL (
    SELECT
        newest.id,
        newest.material_id,
        newest.revision,
        newest.branch
    FROM materials m
    CROSS JOIN LATERAL (
        SELECT * FROM modifications
        WHERE modifications.material_id = m.id AND modifications.kind = 'branch'
        ORDER BY modifications.detected_at DESC, modifications.id DESC
        LIMIT 1
    ) newest
    WHERE m.pipeline_id = pl.id
    ORDER BY m.type = 'git' DESC, newest.detected_at DESC, newest.id DESC
    LIMIT 1
) mo
WHERE pl.project_id = $1 AND (cardinality($2::uuid []) = 0 OR pl.id = ANY($2::uuid []))
ORDER BY pl.name;
