-- Who a request acts for: the look-ups behind every request that is not public.

-- name: by_token
-- The owner of a token ($1 hash), whatever the state of either; the caller decides. Groups are those of a person.
SELECT
    t.id AS token_id,
    t.expires_at,
    t.revoked_at,
    t.last_used_at AS seen_at,
    coalesce(u.disabled_at, s.disabled_at) AS disabled_at,
    u.id AS user_id,
    s.id AS service_account_id,
    coalesce(u.role, s.role) AS role,
    coalesce(u.name, s.name) AS name,
    coalesce(u.email, s.name || '@service-account') AS email,
    coalesce(u.provider, 'service_account') AS provider,
    array(SELECT g.name FROM group_members m INNER JOIN groups g ON g.id = m.group_id WHERE m.user_id = u.id) AS groups
FROM api_tokens t
LEFT JOIN users u ON u.id = t.user_id
LEFT JOIN service_accounts s ON s.id = t.service_account_id
WHERE t.hash = $1;

-- name: by_session
-- The owner of a session ($1 SHA-256 of the cookie).
SELECT
    s.expires_at,
    s.last_seen_at AS seen_at,
    u.disabled_at,
    u.id AS user_id,
    u.role,
    u.name,
    u.email,
    u.provider,
    array(SELECT g.name FROM group_members m INNER JOIN groups g ON g.id = m.group_id WHERE m.user_id = u.id) AS groups
FROM user_sessions s
INNER JOIN users u ON u.id = s.user_id
WHERE s.id = $1;

-- name: token_used
-- Notes the use of a token ($1) at $2.
UPDATE api_tokens SET last_used_at = $2 WHERE id = $1;

-- name: session_seen
-- Notes the use of a session ($1) at $2.
UPDATE user_sessions SET last_seen_at = $2 WHERE id = $1;

-- name: end_session
-- Ends the session ($1) of an account that is shut out.
DELETE FROM user_sessions WHERE id = $1;
