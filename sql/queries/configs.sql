-- Configuration from repositories: what is bound, what was read of it last, and how that went.

-- name: bound
-- A project with the repository that is bound to it, for reading its configuration; source columns are null without one.
SELECT
    p.id AS project_id,
    p.slug,
    p.name,
    coalesce(p.description, '') AS description,
    p.config_path,
    (SELECT coalesce(max(pl.config_repo), '') FROM pipelines pl WHERE pl.project_id = p.id) AS config_repo,
    s.id AS source_id,
    s.provider,
    s.url,
    s.clone_url,
    s.default_branch,
    coalesce(s.auth_ref, '') AS auth_ref,
    s.seen_revision,
    s.sync_error,
    s.sync_count
FROM projects p
LEFT JOIN scm_sources s ON s.project_id = p.id
WHERE p.slug = $1;

-- name: has_git_material
-- Whether anything in a project waits for a repository.
SELECT EXISTS (
    SELECT FROM materials m
    INNER JOIN pipelines p ON p.id = m.pipeline_id
    WHERE p.project_id = $1 AND m.type = 'git'
);

-- name: pushed
-- A push from commit $4 to commit $3 of branch $2 of repository $1 (its url in the normal form): the projects bound to it
-- whose default branch that is, with what is known of their configuration. Where the changed files $5 are all that changed
-- (null: nobody knows) and none is the configuration, what was seen before is what there is.
WITH bound AS (
    SELECT
        s.id,
        s.project_id,
        s.clone_url,
        s.seen_revision,
        s.sync_error,
        s.sync_failures,
        s.sync_failed_at,
        p.slug,
        $5::text [] IS NOT NULL AND NOT EXISTS (
            SELECT FROM unnest($5::text []) AS changed (path)
            WHERE changed.path = p.config_path OR starts_with(changed.path, p.config_path || '/')
        ) AS left_alone
    FROM scm_sources s
    INNER JOIN projects p ON p.id = s.project_id
    WHERE s.url = $1 AND s.default_branch = $2
),

untouched AS (
    UPDATE scm_sources s
    SET
        seen_revision = $3,
        last_synced_revision = CASE WHEN s.sync_error IS NULL THEN $3 ELSE s.last_synced_revision END
    FROM bound
    WHERE
        s.id = bound.id
        AND s.seen_revision = $4
        AND bound.left_alone
    RETURNING s.id
)

SELECT
    bound.slug,
    bound.clone_url,
    bound.sync_error,
    bound.sync_failures,
    bound.sync_failed_at,
    bound.seen_revision = $3 AS seen,
    untouched.id IS NOT NULL AS untouched
FROM bound
LEFT JOIN untouched ON untouched.id = bound.id
ORDER BY bound.project_id;

-- name: in_force
-- The configuration of commit $2 is in force from $3 on; nothing when it was changed since $4 was read (null: whatever it is).
UPDATE scm_sources
SET
    last_synced_at = $3,
    last_synced_revision = $2,
    seen_revision = $2,
    sync_error = NULL,
    sync_failures = 0,
    sync_failed_at = NULL,
    sync_count = sync_count + 1
WHERE id = $1 AND ($4::bigint IS NULL OR sync_count = $4)
RETURNING id;

-- name: changed_by_hand
-- A project's configuration came from somebody, not from its repository: the next push is to read it.
UPDATE scm_sources
SET seen_revision = NULL, sync_count = sync_count + 1
WHERE project_id = $1;

-- name: broken
-- The configuration of commit $2 is not in force, and why; unless it was changed since $4 was read.
UPDATE scm_sources
SET seen_revision = $2, sync_error = $3, sync_failures = 0, sync_failed_at = NULL
WHERE id = $1 AND sync_count = $4;

-- name: unreadable
-- The repository could not be read at $3, and why; unless the configuration was changed since $4 was read.
UPDATE scm_sources
SET sync_error = $2, sync_failures = sync_failures + 1, sync_failed_at = $3
WHERE id = $1 AND sync_count = $4;

-- name: to_read_again
-- Projects whose repository did not answer, whose pause is over at $1: a minute, twice as long after each failure, at most an
-- hour.
SELECT p.slug
FROM scm_sources s
INNER JOIN projects p ON p.id = s.project_id
WHERE s.sync_failures > 0 AND s.sync_failed_at + least(60 * 2 ^ least(s.sync_failures - 1, 10), 3600) * interval '1 second' <= $1
ORDER BY s.sync_failed_at
LIMIT $2;

-- name: trust
-- Whether a project lets requests from branches of its repository bring their configuration.
SELECT trust_same_repo_pr_config FROM projects
WHERE slug = $1;

-- name: set_trust
-- Sets that; nothing when there is no such project.
UPDATE projects
SET trust_same_repo_pr_config = $2, updated_at = $3
WHERE slug = $1
RETURNING id;

-- name: bindings
-- The projects bound to repository $1 (its url in the normal form), and whether they let requests bring their configuration.
SELECT
    p.id AS project_id,
    p.slug,
    p.config_path,
    p.trust_same_repo_pr_config AS trusts,
    s.provider,
    s.clone_url,
    coalesce(s.auth_ref, '') AS auth_ref
FROM scm_sources s
INNER JOIN projects p ON p.id = s.project_id
WHERE s.url = $1
ORDER BY p.id;

-- name: definitions_of
-- Those of these pipelines that belong to project $1, with their definitions.
SELECT
    pl.id,
    pl.name,
    d.definition::text AS definition
FROM pipelines pl
INNER JOIN pipeline_definitions d ON d.id = pl.definition_id
WHERE pl.project_id = $1 AND pl.id = ANY($2::uuid [])
ORDER BY pl.name;

-- name: keep_proposed
-- Definitions that a request brought, each once, known by its SHA-256; their ids.
WITH given AS (
    SELECT
        n.id,
        n.pipeline_id,
        n.digest,
        n.definition::jsonb AS definition
    FROM unnest($1::uuid [], $2::uuid [], $3::text [], $4::text []) AS n (id, pipeline_id, digest, definition)
    INNER JOIN pipelines p ON p.id = n.pipeline_id
)

INSERT INTO pipeline_definitions (id, pipeline_id, digest, definition, created_at)
SELECT
    id,
    pipeline_id,
    digest,
    definition,
    $5
FROM given
-- Written again as it is, so that its id comes back.
ON CONFLICT (pipeline_id, digest) WHERE digest IS NOT NULL DO UPDATE SET digest = excluded.digest
RETURNING id, pipeline_id, digest;
