-- Stores outside of the database, as administrators set them. A row replaces what the environment says of its store.

-- name: all
-- Every row.
SELECT
    id,
    source,
    enabled,
    value,
    credentials_sealed,
    key_id,
    updated_at
FROM secret_backends;

-- name: set
-- Sets one, in place of what was there.
INSERT INTO secret_backends (id, source, enabled, value, credentials_sealed, key_id, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (source) DO UPDATE SET
    enabled = excluded.enabled,
    value = excluded.value,
    credentials_sealed = excluded.credentials_sealed,
    key_id = excluded.key_id,
    updated_at = excluded.updated_at;

-- name: delete
-- Forgets one: what the environment says counts again.
DELETE FROM secret_backends
WHERE source = $1
RETURNING id;

-- name: notify_changed
-- Every server reads the rows anew.
SELECT pg_notify('secret_backends_changed', $1);

-- name: under_other_keys
-- A batch of credentials that are sealed with another key than $1, behind the id $2.
SELECT
    id,
    source,
    credentials_sealed AS sealed,
    key_id
FROM secret_backends
WHERE key_id IS NOT NULL AND key_id <> $1 AND id > $2
ORDER BY id
LIMIT $3;

-- name: sealed_anew
-- Credentials under their new key, unless somebody set them meanwhile.
UPDATE secret_backends
SET credentials_sealed = $3, key_id = $4
WHERE id = $1 AND credentials_sealed = $2;
