-- API tokens of people and service accounts. Only their hashes are here.

-- name: of_user
-- Tokens of a person ($1), newest first ($2 limit or null, $3 offset).
SELECT id, name, prefix, expires_at, last_used_at, revoked_at, created_at FROM api_tokens
WHERE user_id = $1
ORDER BY created_at DESC, id
LIMIT $2 OFFSET $3;

-- name: of_service_account
-- Tokens of a service account ($1), newest first ($2 limit or null, $3 offset).
SELECT id, name, prefix, expires_at, last_used_at, revoked_at, created_at FROM api_tokens
WHERE service_account_id = $1
ORDER BY created_at DESC, id
LIMIT $2 OFFSET $3;

-- name: count_of
-- How many tokens an owner ($1 person or $2 service account) has that were not revoked.
SELECT count(*) FROM api_tokens
WHERE revoked_at IS NULL AND (user_id = $1 OR service_account_id = $2);

-- name: create
-- A token ($1 id, $2 person or $3 service account, $4 name, $5 hash, $6 prefix, $7 its end or null, $8 now).
INSERT INTO api_tokens (id, user_id, service_account_id, name, hash, prefix, expires_at, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING id, name, prefix, expires_at, last_used_at, revoked_at, created_at;

-- name: revoke
-- Revokes a token ($1) of an owner ($2 person or $3 service account) at $4; the first time stays. No row: not theirs.
UPDATE api_tokens SET revoked_at = coalesce(revoked_at, $4)
WHERE id = $1 AND (user_id = $2 OR service_account_id = $3)
RETURNING id;
