-- Credentials for hosts of repositories. Tokens only leave sealed.

-- name: list
-- By provider and host ($1 limit or null, $2 offset).
SELECT
    id,
    provider,
    host,
    api_base,
    display_name,
    auth_ref AS sealed,
    key_id,
    created_at,
    updated_at
FROM scm_credentials
ORDER BY provider, host
LIMIT $1 OFFSET $2;

-- name: set
-- Makes or replaces the credential of a provider ($2) at a host ($3); the others are told.
WITH kept AS (
    INSERT INTO scm_credentials (
        id, provider, host, api_base, display_name, auth_ref, key_id, created_at, updated_at
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
    ON CONFLICT (provider, host) DO UPDATE SET
        api_base = excluded.api_base,
        display_name = excluded.display_name,
        auth_ref = excluded.auth_ref,
        key_id = excluded.key_id,
        updated_at = excluded.updated_at
    RETURNING *
)

SELECT
    kept.*,
    pg_notify('scm_credentials_changed', '') AS told
FROM kept;

-- name: delete
-- Removes one; no row: there was none.
WITH gone AS (
    DELETE FROM scm_credentials WHERE id = $1
    RETURNING id
)

SELECT
    gone.id,
    pg_notify('scm_credentials_changed', '') AS told
FROM gone;

-- name: tell
-- Servers look again at what they have for repositories.
SELECT pg_notify('scm_credentials_changed', '');

-- name: for_hosts
-- Everything that is kept for hosts.
SELECT
    provider,
    host,
    api_base,
    auth_ref AS sealed,
    key_id
FROM scm_credentials
ORDER BY provider, host;

-- name: of_sources
-- The bound repositories that have a token of their own.
SELECT
    project_id,
    provider,
    url,
    auth_ref
FROM scm_sources
WHERE auth_ref <> '';

-- name: under_other_keys
-- A batch of credentials that are sealed with another key than $1, behind the id $2.
SELECT
    id,
    provider,
    host,
    auth_ref AS sealed,
    key_id
FROM scm_credentials
WHERE key_id <> $1 AND id > $2
ORDER BY id
LIMIT $3;

-- name: sealed_anew
-- A token under its new key, unless somebody set it meanwhile.
UPDATE scm_credentials
SET auth_ref = $3, key_id = $4
WHERE id = $1 AND auth_ref = $2;
