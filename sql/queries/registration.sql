-- Hooks at providers: what they are made from, and what was registered.

-- name: source
-- A bound repository with everything that its hook needs.
SELECT
    id,
    provider,
    url,
    clone_url,
    auth_ref,
    webhook_secret,
    webhook_key_id,
    hook_id,
    hook_for
FROM scm_sources
WHERE id = $1;

-- name: source_of_project
-- The repository bound to a project, held; a row without id: the project has none.
SELECT
    s.id,
    s.provider,
    s.url
FROM projects p
LEFT JOIN scm_sources s ON s.project_id = p.id
WHERE p.slug = $1
FOR NO KEY UPDATE OF p;

-- name: set_hook
-- What is registered at the provider, and for which repository and address (null: nothing).
UPDATE scm_sources
SET hook_id = $2, hook_for = $3
WHERE id = $1;

-- name: credential
-- What is kept for a provider at a host.
SELECT
    provider,
    host,
    api_base,
    auth_ref AS sealed,
    key_id
FROM scm_credentials
WHERE provider = $1 AND host = $2;
