-- Signing in by way of providers: which there are, the sign-ins under way, and the accounts they end in.

-- name: providers
-- Every provider by name, with its sealed secret.
SELECT
    id,
    name,
    kind,
    display_name,
    client_id,
    client_secret,
    key_id,
    issuer,
    github_api_base,
    enabled,
    created_at,
    updated_at
FROM auth_providers
ORDER BY name;

-- name: lock_provider
-- The provider of a name, locked.
SELECT id, kind, issuer, github_api_base, client_secret, key_id, enabled FROM auth_providers
WHERE name = $1
FOR UPDATE;

-- name: provider_name
-- The name of a provider, locked.
SELECT name FROM auth_providers WHERE id = $1 FOR UPDATE;

-- name: save_provider
-- Makes a provider or replaces the one of that name ($1 id of a new one, $11 now).
INSERT INTO auth_providers (
    id,
    name,
    kind,
    display_name,
    client_id,
    client_secret,
    key_id,
    issuer,
    github_api_base,
    enabled,
    created_at,
    updated_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
ON CONFLICT (name) DO UPDATE
SET
    kind = excluded.kind,
    display_name = excluded.display_name,
    client_id = excluded.client_id,
    client_secret = excluded.client_secret,
    key_id = excluded.key_id,
    issuer = excluded.issuer,
    github_api_base = excluded.github_api_base,
    enabled = excluded.enabled,
    updated_at = excluded.updated_at
RETURNING id, name, kind, display_name, client_id, issuer, github_api_base, enabled, created_at, updated_at;

-- name: delete_provider
-- Removes a provider; its accounts stay, and nobody can sign in to them.
DELETE FROM auth_providers WHERE id = $1;

-- name: changed
-- Tells every server on this database, once the transaction is over, to read the providers again.
SELECT pg_notify('auth_providers_changed', '');

-- name: adopt
-- Lets the people of a provider ($1) keep their accounts although somebody else ($2) vouches for them now.
UPDATE users SET issuer = $2, updated_at = $3 WHERE provider = $1 AND issuer <> $2;

-- name: admins_by_provider
-- How the admins who are not shut out sign in: the provider of each, `local` only with a password. Locked as for a change
-- of one of them.
SELECT provider FROM users
WHERE role = 'admin' AND disabled_at IS NULL AND (provider <> 'local' OR password_hash IS NOT NULL)
ORDER BY id
FOR UPDATE;

-- name: under_other_keys
-- A batch of providers whose secret is sealed with another key than the newest ($1), after an id ($2), at most $3.
SELECT id, name, client_secret AS sealed, key_id FROM auth_providers
WHERE key_id <> $1 AND id > $2
ORDER BY id
LIMIT $3;

-- name: sealed_anew
-- The new form ($3, key $4) of a provider's secret, unless it was changed meanwhile ($2 is the old form).
UPDATE auth_providers SET client_secret = $3, key_id = $4 WHERE id = $1 AND client_secret = $2;

-- name: begin
-- Notes a sign-in that was begun ($1 hash of the state, $2 hash of the browser's value, $3 provider, $4 where to go then,
-- $5 its end).
INSERT INTO auth_states (state_hash, browser_hash, provider, redirect_to, expires_at)
VALUES ($1, $2, $3, $4, $5);

-- name: trim_states
-- Forgets the sign-ins under way beyond the newest $1.
DELETE FROM auth_states
WHERE state_hash IN (SELECT s.state_hash FROM auth_states s ORDER BY s.expires_at DESC OFFSET $1);

-- name: take
-- The sign-in of a state, which is good once.
DELETE FROM auth_states WHERE state_hash = $1
RETURNING browser_hash, provider, redirect_to, expires_at;

-- name: arrive
-- The account of somebody whom a provider vouches for ($2 provider, $3 subject), made ($1 id, $7 role, $8 issuer, $9 now) or
-- brought up to date ($4 e-mail, $5 name, $6 picture). Its role stays, and so does the issuer once it is known.
INSERT INTO users (id, provider, external_id, email, name, avatar_url, role, issuer, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
ON CONFLICT (provider, external_id) DO UPDATE
SET
    email = excluded.email,
    name = excluded.name,
    avatar_url = excluded.avatar_url,
    issuer = CASE WHEN users.issuer = '' THEN excluded.issuer ELSE users.issuer END,
    updated_at = excluded.updated_at
RETURNING id, role, issuer, disabled_at;

-- name: forget_states
-- Forgets sign-ins that nobody came back from until $1.
DELETE FROM auth_states WHERE expires_at <= $1;

-- name: forget_sessions
-- Forgets sessions that are over at $1, at most $2 at a time.
DELETE FROM user_sessions
WHERE id IN (SELECT s.id FROM user_sessions s WHERE s.expires_at <= $1 ORDER BY s.expires_at LIMIT $2);
