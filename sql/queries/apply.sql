-- What an apply reads and stores: the project, its repository, pipelines, definitions and materials.

-- name: upsert_project
-- Makes or renames a project and holds its row, so that two applies of one slug go one after the other.
-- An empty $5 keeps the folder. `xmax` is 0 only on a row that this statement has made.
INSERT INTO projects (id, slug, name, description, config_path, created_at, updated_at)
VALUES ($1, $2, $3, $4, coalesce(nullif($5, ''), '.gocdnext'), $6, $6)
ON CONFLICT (slug) DO UPDATE SET
    name = excluded.name,
    description = excluded.description,
    config_path = coalesce(nullif($5, ''), projects.config_path),
    updated_at = greatest(excluded.updated_at, projects.updated_at)
RETURNING id, xmax = 0 AS created;

-- name: upsert_scm_source
-- Binds a repository to a project, in place of the one it had.
INSERT INTO scm_sources (id, project_id, provider, url, clone_url, default_branch, auth_ref, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, nullif($7, ''), $8, $8)
ON CONFLICT (project_id) DO UPDATE SET
    provider = excluded.provider,
    url = excluded.url,
    clone_url = excluded.clone_url,
    default_branch = excluded.default_branch,
    auth_ref = coalesce(excluded.auth_ref, scm_sources.auth_ref),
    updated_at = excluded.updated_at
RETURNING id, provider, url, clone_url, default_branch, xmax = 0 AS created;

-- name: scm_source_of_project
-- The repository bound to a project.
SELECT
    id,
    provider,
    url,
    clone_url,
    default_branch,
    FALSE AS created
FROM scm_sources
WHERE project_id = $1;

-- name: stored_pipelines
-- What is stored of a project's pipelines now, with the ids of their materials by fingerprint.
SELECT
    pl.id,
    pl.name,
    pl.definition_version,
    d.definition::text AS definition,
    (
        SELECT jsonb_object_agg(m.fingerprint, jsonb_build_object('id', m.id, 'config', m.config))
        FROM materials m
        WHERE m.pipeline_id = pl.id
    ) AS materials
FROM pipelines pl
INNER JOIN pipeline_definitions d ON d.id = pl.definition_id
WHERE pl.project_id = $1
ORDER BY pl.name
FOR NO KEY UPDATE OF pl;

-- name: delete_pipelines
-- Pipelines that the applied set no longer has, with their whole history.
DELETE FROM pipelines
WHERE id = ANY($1::uuid []);

-- name: insert_pipelines
-- New pipelines of project $1, each pointing at the definition that `insert_definitions` makes in this transaction.
INSERT INTO pipelines (
    id, project_id, name, definition_id, source, source_file, config_repo, created_at, updated_at
)
SELECT
    n.id,
    $1,
    n.name,
    n.definition_id,
    n.source,
    n.source_file,
    nullif($2, ''),
    $3,
    $3
FROM unnest($4::uuid [], $5::text [], $6::uuid [], $7::text [], $8::text [])
    AS n (id, name, definition_id, source, source_file);

-- name: update_pipelines
-- Existing pipelines: the source always, definition and version ($5, null = as it was) only when the definition changed.
UPDATE pipelines p
SET
    source = n.source,
    source_file = n.source_file,
    config_repo = nullif($1, ''),
    definition_id = coalesce(n.definition_id, p.definition_id),
    definition_version = p.definition_version + (n.definition_id IS NOT NULL)::integer,
    updated_at = CASE WHEN n.definition_id IS NULL THEN p.updated_at ELSE $2 END
FROM unnest($3::uuid [], $4::text [], $5::uuid [], $6::text []) AS n (id, source, definition_id, source_file)
WHERE p.id = n.id;

-- name: insert_definitions
-- Immutable snapshots of definitions.
INSERT INTO pipeline_definitions (id, pipeline_id, version, definition, created_at)
SELECT
    n.id,
    n.pipeline_id,
    n.version,
    n.definition::jsonb,
    $1
FROM unnest($2::uuid [], $3::uuid [], $4::integer [], $5::text []) AS n (id, pipeline_id, version, definition);

-- name: change_materials
-- Materials of the applied pipelines: those no longer wanted go, changed ones are rewritten, new ones come.
WITH gone AS (
    DELETE FROM materials
    WHERE id = ANY($2::uuid [])
)

INSERT INTO materials (id, pipeline_id, type, fingerprint, config, created_at)
SELECT
    n.id,
    n.pipeline_id,
    n.type,
    n.fingerprint,
    n.config,
    $1
FROM unnest($3::uuid [], $4::uuid [], $5::text [], $6::text [], $7::jsonb [])
    AS n (id, pipeline_id, type, fingerprint, config)
ON CONFLICT (pipeline_id, fingerprint) DO UPDATE SET config = excluded.config;
