-- Revisions that arrive at materials, and the runs they start.

-- name: claim
-- Records modifications, and takes those that have started no run yet ($9 = only ones that were not known at all). Held
-- until the transaction ends: a second one that comes with the same waits, and gets nothing then. In the order given.
INSERT INTO modifications (material_id, revision, branch, kind, author, message, committed_at, detected_at)
SELECT
    m.id,
    a.revision,
    a.branch,
    a.kind,
    nullif(a.author, ''),
    nullif(a.message, ''),
    a.committed_at,
    $8
FROM unnest($1::uuid [], $2::text [], $3::text [], $4::text [], $5::text [], $6::text [], $7::timestamptz [])
WITH ORDINALITY AS a (material_id, revision, branch, kind, author, message, committed_at, place)
INNER JOIN materials m ON m.id = a.material_id
ORDER BY a.place
ON CONFLICT (material_id, revision, branch, kind) DO UPDATE SET
    author = coalesce(excluded.author, modifications.author),
    message = coalesce(excluded.message, modifications.message),
    committed_at = coalesce(excluded.committed_at, modifications.committed_at),
    detected_at = excluded.detected_at
WHERE modifications.run_id IS NULL AND NOT $9
RETURNING id, material_id, revision, branch, kind;

-- name: started
-- Which run each modification has started.
UPDATE modifications m
SET run_id = n.run_id
FROM unnest($1::bigint [], $2::uuid []) AS n (id, run_id)
WHERE m.id = n.id;
