-- GitHub Apps as administrators keep them. Keys and secrets only leave sealed.

-- name: list
-- By name; $1 = only the enabled ones, oldest first.
SELECT
    id,
    kind,
    name,
    display_name,
    app_id,
    api_base,
    enabled,
    private_key,
    private_key_key_id,
    webhook_secret,
    webhook_secret_key_id,
    created_at,
    updated_at
FROM vcs_integrations
WHERE enabled OR NOT $1
ORDER BY CASE WHEN $1 THEN created_at END, name;

-- name: id_of
-- The integration of a name.
SELECT id FROM vcs_integrations
WHERE name = $1
FOR UPDATE;

-- name: set
-- Makes or replaces the integration of a name ($3); an empty key or secret keeps the one that is there.
INSERT INTO vcs_integrations (
    id, kind, name, display_name, app_id, api_base, enabled, private_key, private_key_key_id, webhook_secret,
    webhook_secret_key_id, created_at, updated_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)
ON CONFLICT (name) DO UPDATE SET
    display_name = excluded.display_name,
    app_id = excluded.app_id,
    api_base = excluded.api_base,
    enabled = excluded.enabled,
    private_key = coalesce(excluded.private_key, vcs_integrations.private_key),
    private_key_key_id = coalesce(excluded.private_key_key_id, vcs_integrations.private_key_key_id),
    webhook_secret = coalesce(excluded.webhook_secret, vcs_integrations.webhook_secret),
    webhook_secret_key_id = coalesce(excluded.webhook_secret_key_id, vcs_integrations.webhook_secret_key_id),
    updated_at = excluded.updated_at
RETURNING *;

-- name: delete
-- Removes one; no row: there was none.
DELETE FROM vcs_integrations
WHERE id = $1
RETURNING name;

-- name: keys_under_other_keys
-- A batch of private keys that are sealed with another key than $1, behind the id $2.
SELECT
    id,
    private_key AS sealed,
    private_key_key_id AS key_id
FROM vcs_integrations
WHERE private_key_key_id <> $1 AND id > $2
ORDER BY id
LIMIT $3;

-- name: key_sealed_anew
-- A private key under its new key, unless somebody set it meanwhile.
UPDATE vcs_integrations
SET private_key = $3, private_key_key_id = $4
WHERE id = $1 AND private_key = $2;

-- name: secrets_under_other_keys
-- A batch of webhook secrets that are sealed with another key than $1, behind the id $2.
SELECT
    id,
    webhook_secret AS sealed,
    webhook_secret_key_id AS key_id
FROM vcs_integrations
WHERE webhook_secret_key_id <> $1 AND id > $2
ORDER BY id
LIMIT $3;

-- name: secret_sealed_anew
-- A webhook secret under its new key, unless somebody set it meanwhile.
UPDATE vcs_integrations
SET webhook_secret = $3, webhook_secret_key_id = $4
WHERE id = $1 AND webhook_secret = $2;
