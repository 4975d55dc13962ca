-- Materials and modifications.

-- name: materials_of_pipeline
-- A pipeline's project and its materials by fingerprint, each with its newest modification.
SELECT
    pl.project_id,
    m.id,
    m.type,
    m.fingerprint,
    m.config,
    mo.id AS modification_id,
    mo.revision,
    mo.branch,
    mo.detected_at
FROM pipelines pl
LEFT JOIN materials m ON m.pipeline_id = pl.id
LEFT JOIN LATERAL (
    SELECT * FROM modifications newest
    -- What somebody proposes is never taken for what a branch has.
    WHERE newest.material_id = m.id AND newest.kind <> 'pull_request'
    ORDER BY newest.detected_at DESC, newest.id DESC
    LIMIT 1
) mo ON TRUE
WHERE pl.id = $1
ORDER BY m.fingerprint;

-- name: record_modification
-- Inserts a modification unless it is known; either way its id.
WITH added AS (
    INSERT INTO modifications (material_id, revision, branch, message, detected_at)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (material_id, revision, branch, kind) DO NOTHING
    RETURNING id
)

SELECT id FROM added
UNION ALL
SELECT id FROM modifications
WHERE material_id = $1 AND revision = $2 AND branch = $3 AND kind = 'branch'
LIMIT 1;

-- name: newest_green_upstream
-- The newest run of pipeline $2 in project $1 whose stage $3 succeeded, with the fingerprints of its materials. What a
-- fork's request has built is nothing that a person goes on from.
SELECT
    r.id,
    r.counter,
    r.ref,
    r.revisions,
    (
        SELECT jsonb_object_agg(m.id, m.fingerprint) FROM materials m
        WHERE m.id = ANY(ARRAY(SELECT k::uuid FROM jsonb_object_keys(r.revisions) AS k))
    ) AS fingerprints
FROM pipelines pl
CROSS JOIN LATERAL (
    SELECT * FROM runs
    WHERE
        runs.pipeline_id = pl.id
        AND NOT coalesce((runs.cause_detail ->> 'from_fork')::boolean, FALSE)
        AND EXISTS (
            SELECT FROM stage_runs s
            WHERE s.run_id = runs.id AND s.name = $3 AND s.status = 'success'
        )
    ORDER BY runs.counter DESC
    LIMIT 1
) r
WHERE pl.project_id = $1 AND pl.name = $2;
