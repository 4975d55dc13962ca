-- Service accounts: callers that are no people.

-- name: list
-- Newest first ($1 limit or null, $2 offset).
SELECT id, name, description, role, created_by, disabled_at, created_at, updated_at FROM service_accounts
ORDER BY created_at DESC, id
LIMIT $1 OFFSET $2;

-- name: one
-- One of them.
SELECT id, name, description, role, created_by, disabled_at, created_at, updated_at FROM service_accounts
WHERE id = $1;

-- name: create
-- A new one ($1 id, $2 name, $3 description, $4 role, $5 the person who made it or null, $6 now); no row: name taken.
INSERT INTO service_accounts (id, name, description, role, created_by, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $6)
ON CONFLICT (name) DO NOTHING
RETURNING id, name, description, role, created_by, disabled_at, created_at, updated_at;

-- name: change
-- A new description ($2) and role ($3), at $4.
UPDATE service_accounts SET description = $2, role = $3, updated_at = $4 WHERE id = $1
RETURNING id;

-- name: set_disabled
-- Shuts one out since $2, or lets it in again (null), at $3.
UPDATE service_accounts SET disabled_at = $2, updated_at = $3 WHERE id = $1
RETURNING id;

-- name: delete
-- Removes one with its tokens.
DELETE FROM service_accounts WHERE id = $1;
