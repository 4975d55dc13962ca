-- Secrets of projects and global ones ($1 null). Values only leave sealed.

-- name: list
-- One page of the secrets of a project, by name, without values, and how many there are.
SELECT
    name,
    source,
    ref_path,
    ref_key,
    created_at,
    updated_at,
    count(*) OVER () AS total
FROM secrets
WHERE project_id = $1
ORDER BY name
LIMIT $2 OFFSET $3;

-- name: list_global
-- One page of the global secrets, likewise.
SELECT
    name,
    source,
    ref_path,
    ref_key,
    created_at,
    updated_at,
    count(*) OVER () AS total
FROM secrets
WHERE project_id IS NULL
ORDER BY name
LIMIT $1 OFFSET $2;

-- name: inherited
-- Global secrets that no secret of the project hides.
SELECT
    g.name,
    g.source,
    g.ref_path,
    g.ref_key,
    g.created_at,
    g.updated_at
FROM secrets g
WHERE
    g.project_id IS NULL
    AND NOT EXISTS (SELECT 1 FROM secrets own WHERE own.project_id = $1 AND own.name = g.name)
ORDER BY g.name
LIMIT $2;

-- name: set
-- Makes or replaces a secret of a project; whether it is new.
INSERT INTO secrets (id, project_id, name, source, value_sealed, key_id, ref_path, ref_key, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
ON CONFLICT (project_id, name) WHERE project_id IS NOT NULL DO UPDATE SET
    source = excluded.source,
    value_sealed = excluded.value_sealed,
    key_id = excluded.key_id,
    ref_path = excluded.ref_path,
    ref_key = excluded.ref_key,
    updated_at = excluded.updated_at
RETURNING xmax = 0 AS created;

-- name: set_global
-- The same for a global one; $2 is null.
INSERT INTO secrets (id, project_id, name, source, value_sealed, key_id, ref_path, ref_key, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
ON CONFLICT (name) WHERE project_id IS NULL DO UPDATE SET
    source = excluded.source,
    value_sealed = excluded.value_sealed,
    key_id = excluded.key_id,
    ref_path = excluded.ref_path,
    ref_key = excluded.ref_key,
    updated_at = excluded.updated_at
RETURNING xmax = 0 AS created;

-- name: delete
-- Removes a secret of a project, or (null) a global one.
DELETE FROM secrets
WHERE project_id IS NOT DISTINCT FROM $1::uuid AND name = $2
RETURNING id;

-- name: of_run
-- The sealed secrets that jobs and notifications of a run ask for: the project's own before global ones. None for a run
-- whose snapshot asks for none. Says whether the run is of a fork, which gets none of them.
WITH asked AS (
    SELECT
        p.project_id,
        jsonb_path_query(d.definition, '$.jobs[*].secrets[*]') #>> '{}' AS name,
        coalesce((r.cause_detail ->> 'from_fork')::boolean, FALSE) AS from_fork
    FROM runs r
    INNER JOIN pipelines p ON p.id = r.pipeline_id
    INNER JOIN pipeline_definitions d ON d.id = r.definition_id
    WHERE r.id = $1 AND d.needs_secrets
    UNION
    SELECT
        p.project_id,
        jsonb_path_query(r.notifications, '$[*].secrets[*]') #>> '{}' AS name,
        coalesce((r.cause_detail ->> 'from_fork')::boolean, FALSE) AS from_fork
    FROM runs r
    INNER JOIN pipelines p ON p.id = r.pipeline_id
    WHERE r.id = $1
)

SELECT DISTINCT ON (s.name)
    s.project_id,
    s.name,
    s.source,
    s.value_sealed,
    s.key_id,
    s.ref_path,
    s.ref_key,
    a.from_fork
FROM asked a
INNER JOIN secrets s ON s.name = a.name AND (s.project_id = a.project_id OR s.project_id IS NULL)
ORDER BY s.name, s.project_id NULLS LAST;

-- name: under_other_keys
-- A batch of secrets that are sealed with another key than $1, behind the id $2.
SELECT
    id,
    project_id,
    name,
    value_sealed AS sealed,
    key_id
FROM secrets
WHERE key_id IS NOT NULL AND key_id <> $1 AND id > $2
ORDER BY id
LIMIT $3;

-- name: sealed_anew
-- A value under its new key, unless somebody set it meanwhile.
UPDATE secrets
SET value_sealed = $3, key_id = $4
WHERE id = $1 AND value_sealed = $2;

-- name: notify_key_rotated
-- Every server looks for the key that seals from now on.
SELECT pg_notify('secret_key_rotated', '');
