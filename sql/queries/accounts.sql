-- People: their accounts, passwords, sessions and preferences.

-- name: users
-- Accounts by e-mail ($1 limit or null, $2 offset).
SELECT id, email, name, avatar_url, provider, external_id, role, disabled_at, last_login_at, created_at, updated_at
FROM users
ORDER BY email, id
LIMIT $1 OFFSET $2;

-- name: user_by_id
-- One account.
SELECT id, email, name, avatar_url, provider, external_id, role, disabled_at, last_login_at, created_at, updated_at
FROM users
WHERE id = $1;

-- name: local_user
-- The local account of an e-mail, with the hash of its password.
SELECT
    id,
    email,
    name,
    avatar_url,
    provider,
    external_id,
    role,
    disabled_at,
    last_login_at,
    created_at,
    updated_at,
    password_hash
FROM users
WHERE provider = 'local' AND external_id = $1;

-- name: password_hash
-- The hash of an account's password, and of what kind the account is.
SELECT provider, email, password_hash FROM users WHERE id = $1;

-- name: create_local
-- Makes a local account ($1 id, $2 e-mail, $3 name, $4 role, $5 hash, $6 now); no row when the e-mail has one.
INSERT INTO users (id, email, name, provider, external_id, role, password_hash, created_at, updated_at)
VALUES ($1, $2, $3, 'local', $2, $4, $5, $6, $6)
ON CONFLICT (provider, external_id) DO NOTHING
RETURNING
    id, email, name, avatar_url, provider, external_id, role, disabled_at, last_login_at, created_at, updated_at;

-- name: upsert_local
-- Makes a local account or gives the one there is this name, role and password, and lets it in again.
INSERT INTO users (id, email, name, provider, external_id, role, password_hash, created_at, updated_at)
VALUES ($1, $2, $3, 'local', $2, $4, $5, $6, $6)
ON CONFLICT (provider, external_id) DO UPDATE
SET
    name = coalesce(nullif(excluded.name, ''), users.name),
    role = excluded.role,
    password_hash = excluded.password_hash,
    disabled_at = NULL,
    updated_at = excluded.updated_at
RETURNING id;

-- name: set_password
-- A new hash ($2) for an account ($1), at $3.
UPDATE users SET password_hash = $2, updated_at = $3 WHERE id = $1;

-- name: upgrade_password
-- The same password under a better hash ($3), unless the password was changed meanwhile ($2 is the old hash).
UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2;

-- name: lock_admins
-- Every admin who can sign in with a password or by one of the providers $1 (null: by any), locked in order of ids: whoever
-- changes one of them waits for the other who does.
SELECT id FROM users
WHERE role = 'admin' AND disabled_at IS NULL AND (provider = 'local' OR $1::text [] IS NULL OR provider = any($1))
ORDER BY id
FOR UPDATE;

-- name: lock_user
-- One account, locked.
SELECT id, email, role, disabled_at FROM users WHERE id = $1 FOR UPDATE;

-- name: set_role
-- A new role ($2) for an account ($1), at $3.
UPDATE users SET role = $2, updated_at = $3 WHERE id = $1
RETURNING
    id, email, name, avatar_url, provider, external_id, role, disabled_at, last_login_at, created_at, updated_at;

-- name: set_disabled
-- Shuts an account ($1) out since $2, or lets it in again (null), at $3.
UPDATE users SET disabled_at = $2, updated_at = $3 WHERE id = $1;

-- name: delete_user
-- Removes an account with its sessions, tokens, preferences and memberships.
DELETE FROM users WHERE id = $1;

-- name: has_admin
-- Whether an admin is there.
SELECT exists(SELECT FROM users WHERE role = 'admin' AND disabled_at IS NULL);

-- name: has_local
-- Whether somebody may sign in with a password.
SELECT exists(SELECT FROM users WHERE provider = 'local' AND password_hash IS NOT NULL);

-- name: lock_setup
-- Makes two first admins wait for each other, until the end of the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('gocdnext.first_admin', 0));

-- name: logged_in
-- Notes a sign-in of an account ($1) at $2.
UPDATE users SET last_login_at = $2 WHERE id = $1
RETURNING
    id, email, name, avatar_url, provider, external_id, role, disabled_at, last_login_at, created_at, updated_at;

-- name: open_session
-- A session ($1 SHA-256 of its cookie, $2 account, $3 user agent, $4 now, $5 its end).
INSERT INTO user_sessions (id, user_id, user_agent, created_at, last_seen_at, expires_at)
VALUES ($1, $2, $3, $4, $4, $5);

-- name: trim_sessions
-- Ends the sessions of an account ($1) that are over at $2, and the oldest ones beyond $3.
DELETE FROM user_sessions
WHERE user_id = $1 AND (expires_at <= $2 OR id IN (
    SELECT s.id FROM user_sessions s WHERE s.user_id = $1 ORDER BY s.created_at DESC, s.id OFFSET $3
));

-- name: close_session
-- Ends one session; whose it was.
DELETE FROM user_sessions WHERE id = $1
RETURNING user_id;

-- name: close_sessions
-- Ends every session of an account.
DELETE FROM user_sessions WHERE user_id = $1;

-- name: preferences
-- What an account has saved for itself.
SELECT preferences, updated_at FROM user_preferences WHERE user_id = $1;

-- name: save_preferences
-- Replaces them ($1 account, $2 document, $3 now).
INSERT INTO user_preferences (user_id, preferences, updated_at)
VALUES ($1, $2, $3)
ON CONFLICT (user_id) DO UPDATE SET preferences = excluded.preferences, updated_at = excluded.updated_at;
