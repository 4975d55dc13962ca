-- Runner profiles and their secrets. Values only leave sealed.

-- name: list
-- By name ($1 limit or null, $2 offset), with the names of their secrets and what those point to.
SELECT
    p.*,
    (SELECT coalesce(array_agg(s.key ORDER BY s.key), '{}') FROM runner_profile_secrets s WHERE s.profile_id = p.id)
        AS secret_keys,
    (
        SELECT coalesce(jsonb_object_agg(s.key, s.global_name), '{}')
        FROM runner_profile_secrets s
        WHERE s.profile_id = p.id AND s.global_name IS NOT NULL
    ) AS secret_refs
FROM runner_profiles p
ORDER BY p.name
LIMIT $1 OFFSET $2;

-- name: one
-- One profile, likewise.
SELECT
    p.*,
    (SELECT coalesce(array_agg(s.key ORDER BY s.key), '{}') FROM runner_profile_secrets s WHERE s.profile_id = p.id)
        AS secret_keys,
    (
        SELECT coalesce(jsonb_object_agg(s.key, s.global_name), '{}')
        FROM runner_profile_secrets s
        WHERE s.profile_id = p.id AND s.global_name IS NOT NULL
    ) AS secret_refs
FROM runner_profiles p
WHERE p.id = $1;

-- name: insert
-- A new profile; no row: its name is taken.
INSERT INTO runner_profiles (
    id, name, description, engine, default_image, default_cpu_request, default_cpu_limit, default_mem_request,
    default_mem_limit, max_cpu, max_mem, tags, config, node_selector, tolerations, preferred_node_affinity, env,
    created_at, updated_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $18)
ON CONFLICT (name) DO NOTHING
RETURNING id;

-- name: keep
-- A profile in place of the one of its name; its secrets stay.
INSERT INTO runner_profiles (
    id, name, description, engine, default_image, default_cpu_request, default_cpu_limit, default_mem_request,
    default_mem_limit, max_cpu, max_mem, tags, config, node_selector, tolerations, preferred_node_affinity, env,
    created_at, updated_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $18)
ON CONFLICT (name) DO UPDATE SET
    description = excluded.description,
    engine = excluded.engine,
    default_image = excluded.default_image,
    default_cpu_request = excluded.default_cpu_request,
    default_cpu_limit = excluded.default_cpu_limit,
    default_mem_request = excluded.default_mem_request,
    default_mem_limit = excluded.default_mem_limit,
    max_cpu = excluded.max_cpu,
    max_mem = excluded.max_mem,
    tags = excluded.tags,
    config = excluded.config,
    node_selector = excluded.node_selector,
    tolerations = excluded.tolerations,
    preferred_node_affinity = excluded.preferred_node_affinity,
    env = excluded.env,
    updated_at = excluded.updated_at;

-- name: update
-- Replaces a profile. A name that is taken violates its constraint.
UPDATE runner_profiles
SET
    name = $2,
    description = $3,
    engine = $4,
    default_image = $5,
    default_cpu_request = $6,
    default_cpu_limit = $7,
    default_mem_request = $8,
    default_mem_limit = $9,
    max_cpu = $10,
    max_mem = $11,
    tags = $12,
    config = $13,
    node_selector = $14,
    tolerations = $15,
    preferred_node_affinity = $16,
    env = $17,
    updated_at = $18
WHERE id = $1;

-- name: hold
-- The name of a profile, held until the transaction ends.
SELECT name FROM runner_profiles WHERE id = $1 FOR UPDATE;

-- name: delete
-- Removes a profile with its secrets.
DELETE FROM runner_profiles WHERE id = $1;

-- name: uses
-- How many pipelines name a profile ($1), and how many runs that are not over.
SELECT
    (
        SELECT count(*) FROM pipelines p
        INNER JOIN pipeline_definitions d ON d.id = p.definition_id
        WHERE jsonb_path_exists(d.definition, '$.jobs[*].profile ? (@ == $name)', jsonb_build_object('name', $1::text))
    ) AS pipelines,
    (
        SELECT count(*) FROM runs r
        INNER JOIN pipeline_definitions d ON d.id = r.definition_id
        WHERE
            r.status IN ('queued', 'running')
            AND jsonb_path_exists(d.definition, '$.jobs[*].profile ? (@ == $name)', jsonb_build_object('name', $1::text))
    ) AS runs;

-- name: drop_secrets
-- Removes the secrets of a profile that are not among these keys.
DELETE FROM runner_profile_secrets WHERE profile_id = $1 AND key <> ALL($2::text []);

-- name: set_secret
-- A secret of a profile: sealed, or the name of a global one.
INSERT INTO runner_profile_secrets (id, profile_id, key, value_sealed, key_id, global_name)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (profile_id, key) DO UPDATE SET
    value_sealed = excluded.value_sealed,
    key_id = excluded.key_id,
    global_name = excluded.global_name;

-- name: tell
-- Servers look again whether there is a default profile.
SELECT pg_notify('runner_profiles_changed', '');

-- name: has_default
-- Whether the profile called `default` puts anything into environments.
SELECT exists(
    SELECT FROM runner_profiles p
    WHERE
        p.name = 'default'
        AND (p.env <> '{}' OR EXISTS(SELECT FROM runner_profile_secrets s WHERE s.profile_id = p.id))
);

-- name: for_apply
-- What an apply gives jobs, by name.
SELECT
    name,
    default_image,
    default_cpu_request,
    default_cpu_limit,
    default_mem_request,
    default_mem_limit,
    max_cpu,
    max_mem,
    tags
FROM runner_profiles;

-- name: for_jobs
-- What jobs find in their environment: every profile with its secrets, those that point to a global one with that.
SELECT
    p.name,
    p.env,
    p.node_selector,
    p.tolerations,
    p.preferred_node_affinity,
    s.profile_id,
    s.key,
    s.value_sealed,
    s.key_id,
    s.global_name,
    g.source AS global_source,
    g.value_sealed AS global_sealed,
    g.key_id AS global_key_id
FROM runner_profiles p
LEFT JOIN runner_profile_secrets s ON s.profile_id = p.id
LEFT JOIN secrets g ON g.project_id IS NULL AND g.name = s.global_name
ORDER BY p.name, s.key;

-- name: under_other_keys
-- A batch of secrets that are sealed with another key than $1, behind the id $2.
SELECT
    id,
    profile_id,
    key,
    value_sealed AS sealed,
    key_id
FROM runner_profile_secrets
WHERE key_id IS NOT NULL AND key_id <> $1 AND id > $2
ORDER BY id
LIMIT $3;

-- name: sealed_anew
-- A value under its new key, unless somebody set it meanwhile.
UPDATE runner_profile_secrets
SET value_sealed = $3, key_id = $4
WHERE id = $1 AND value_sealed = $2;
