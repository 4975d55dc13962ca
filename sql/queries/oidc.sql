-- Keys of job identity tokens (contract-admin 12). One signs; retired ones are published until their tokens have ended.

-- name: active
-- The key that signs.
SELECT
    id,
    kid,
    private_sealed,
    key_id
FROM oidc_keys
WHERE retired_at IS NULL AND revoked_at IS NULL;

-- name: keep
-- A new key, unless another one signs already (a second server was quicker).
INSERT INTO oidc_keys (id, kid, public_n, public_e, private_sealed, key_id, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT DO NOTHING;

-- name: retire
-- The key that signs signs no more, and is published until $2. Its private part is gone.
UPDATE oidc_keys
SET retired_at = $1, published_until = $2, private_sealed = NULL, key_id = NULL
WHERE retired_at IS NULL AND revoked_at IS NULL;

-- name: revoke
-- The key that signs is withdrawn at once.
UPDATE oidc_keys
SET revoked_at = $1, private_sealed = NULL, key_id = NULL
WHERE retired_at IS NULL AND revoked_at IS NULL;

-- name: lock_rotation
-- Two rotations happen one after the other.
SELECT pg_advisory_xact_lock(hashtext('gocdnext oidc rotation'));

-- name: notify_rotated
-- Every server forgets the key it has in hand.
SELECT pg_notify('oidc_keys_rotated', $1);

-- name: published
-- What verifiers are given at the time $1, the signing key first.
SELECT
    kid,
    alg,
    public_n,
    public_e
FROM oidc_keys
WHERE revoked_at IS NULL AND (retired_at IS NULL OR published_until > $1)
ORDER BY retired_at DESC NULLS FIRST, kid;

-- name: list
-- Every key there ever was, newest first.
SELECT
    id,
    kid,
    alg,
    created_at,
    retired_at,
    revoked_at
FROM oidc_keys
ORDER BY created_at DESC, id DESC;

-- name: asked_for
-- Whether jobs of a run ask for identity tokens.
SELECT jsonb_path_exists(d.definition, '$.jobs[*].id_tokens.*')
FROM runs r
INNER JOIN pipeline_definitions d ON d.id = r.definition_id
WHERE r.id = $1;

-- name: under_other_keys
-- A batch of keys that are sealed with another key than $1, behind the id $2.
SELECT
    id,
    kid,
    private_sealed AS sealed,
    key_id
FROM oidc_keys
WHERE key_id IS NOT NULL AND key_id <> $1 AND id > $2
ORDER BY id
LIMIT $3;

-- name: sealed_anew
-- A key in its new form, unless it was retired meanwhile.
UPDATE oidc_keys
SET private_sealed = $3, key_id = $4
WHERE id = $1 AND private_sealed = $2;
