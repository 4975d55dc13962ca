-- Settings of projects: notifications, labels, caches.

-- name: notifications
-- What the pipelines of a project inherit that declare none of their own, as JSON text.
SELECT notifications::text FROM projects WHERE slug = $1;

-- name: set_notifications
-- Replaces them ($2 as JSON text); no row: no such project.
UPDATE projects SET notifications = $2::text::jsonb, updated_at = $3 WHERE slug = $1
RETURNING id;

-- name: labels
-- The labels of a project; one row without a label when it has none, no row: no such project.
SELECT
    l.key,
    l.value
FROM projects p
LEFT JOIN project_labels l ON l.project_id = p.id
WHERE p.slug = $1
ORDER BY l.key, l.value;

-- name: hold_project
-- The project of a slug, held until the transaction ends: its settings are replaced one after the other.
SELECT id FROM projects WHERE slug = $1 FOR NO KEY UPDATE;

-- name: set_labels
-- Replaces the labels of a project that is held.
WITH gone AS (
    DELETE FROM project_labels l
    WHERE
        l.project_id = $1
        AND NOT EXISTS (
            SELECT FROM unnest($2::text [], $3::text []) AS n (key, value)
            WHERE n.key = l.key AND n.value = l.value
        )
)

INSERT INTO project_labels (project_id, key, value)
SELECT
    $1,
    n.key,
    n.value
FROM unnest($2::text [], $3::text []) AS n (key, value)
ON CONFLICT DO NOTHING;

-- name: caches
-- The caches of a project, the one used last first ($2 limit or null, $3 offset).
SELECT
    c.id,
    c.key,
    coalesce(c.size_bytes, 0) AS size_bytes,
    c.status,
    c.content_sha256,
    c.created_at,
    c.updated_at,
    c.last_accessed_at
FROM caches c
WHERE c.project_id = $1
ORDER BY c.last_accessed_at DESC, c.key, c.id
LIMIT $2 OFFSET $3;

-- name: caches_bytes
-- What the complete caches of a project take together.
SELECT coalesce(sum(size_bytes), 0)::bigint FROM caches WHERE project_id = $1 AND status = 'ready';

-- name: purge_cache
-- Removes a cache ($2) of a project ($1); its blob is buried with it.
DELETE FROM caches WHERE project_id = $1 AND id = $2
RETURNING storage_key, key, coalesce(size_bytes, 0) AS size_bytes;
