-- Webhooks: the repositories that may send, the materials that wait, the deliveries that came.

-- name: sources
-- The projects bound to a repository (its url in the normal form), with their sealed webhook secrets.
SELECT
    s.id,
    s.project_id,
    s.webhook_secret,
    s.webhook_key_id
FROM scm_sources s
WHERE s.url = $1
ORDER BY s.project_id;

-- name: waiting_for_branch
-- Git materials with these fingerprints, in the order in which an apply locks their pipelines; with the pipeline's own
-- filter of events.
SELECT
    m.id,
    m.pipeline_id,
    m.fingerprint,
    m.config -> 'events' AS events,
    m.config -> 'paths' AS paths,
    d.definition -> 'when' -> 'events' AS pipeline_events,
    pr.slug,
    pl.name
FROM materials m
INNER JOIN pipelines pl ON pl.id = m.pipeline_id
INNER JOIN pipeline_definitions d ON d.id = pl.definition_id
INNER JOIN projects pr ON pr.id = pl.project_id
WHERE m.fingerprint = ANY($1::text []) AND m.type = 'git'
ORDER BY pl.project_id, pl.name, m.fingerprint;

-- name: waiting_for_tags
-- Git materials that tags of a repository start, whatever their branch; $1 is the repository in the normal form, of which
-- the fingerprint is made as in `gocdnext.pipeline.fingerprints`.
SELECT
    m.id,
    m.pipeline_id,
    m.fingerprint,
    m.config -> 'events' AS events,
    m.config -> 'paths' AS paths,
    d.definition -> 'when' -> 'events' AS pipeline_events,
    pr.slug,
    pl.name
FROM materials m
INNER JOIN pipelines pl ON pl.id = m.pipeline_id
INNER JOIN pipeline_definitions d ON d.id = pl.definition_id
INNER JOIN projects pr ON pr.id = pl.project_id
WHERE
    m.type = 'git'
    AND m.config -> 'events' ? 'tag'
    AND m.fingerprint = encode(
        sha256(convert_to($1, 'UTF8') || '\x00'::bytea || convert_to(m.config ->> 'branch', 'UTF8')), 'hex'
    )
ORDER BY pl.project_id, pl.name, m.fingerprint;

-- name: neighbours
-- Git materials of the projects bound to a repository, for saying what they wait for instead.
SELECT
    pr.slug,
    pl.name,
    m.config ->> 'url' AS url,
    m.config ->> 'branch' AS branch,
    m.config -> 'events' AS events
FROM scm_sources s
INNER JOIN projects pr ON pr.id = s.project_id
INNER JOIN pipelines pl ON pl.project_id = pr.id
INNER JOIN materials m ON m.pipeline_id = pl.id
WHERE s.url = $1 AND m.type = 'git'
ORDER BY pr.slug, pl.name, branch
LIMIT $2;

-- name: keep_delivery
-- A delivery, with what was answered and why.
INSERT INTO webhook_deliveries (
    provider, event, delivery, material_id, status, http_status, error, verified, redelivery_of, headers, payload, trace,
    runs, received_at
)
VALUES ($1, $2, $3, $4, $5, $6, nullif($7, ''), $8, $9, $10, $11::text::jsonb, $12, $13, $14)
RETURNING id;

-- name: list
-- One page of deliveries, newest first; null filters let everything through.
SELECT
    id,
    provider,
    event,
    delivery,
    material_id,
    status,
    http_status,
    error,
    redelivery_of,
    runs,
    received_at
FROM webhook_deliveries
WHERE ($1::text IS NULL OR provider = $1) AND ($2::text IS NULL OR status = $2)
ORDER BY received_at DESC, id DESC
LIMIT $3 OFFSET $4;

-- name: count
-- How many deliveries these filters let through.
SELECT count(*) FROM webhook_deliveries
WHERE ($1::text IS NULL OR provider = $1) AND ($2::text IS NULL OR status = $2);

-- name: show
-- A delivery with everything that is known of it.
SELECT
    id,
    provider,
    event,
    delivery,
    material_id,
    status,
    http_status,
    error,
    verified,
    redelivery_of,
    headers,
    payload,
    trace,
    runs,
    received_at
FROM webhook_deliveries
WHERE id = $1;

-- name: forget_old
-- Deliveries that nobody will ask for any more.
WITH gone AS (
    DELETE FROM webhook_deliveries
    WHERE received_at < $1
    RETURNING received_at, pg_column_size(payload) AS size_bytes
)

SELECT
    count(*) AS gone,
    coalesce(sum(size_bytes), 0)::bigint AS size_bytes,
    min(received_at) AS since
FROM gone;

-- name: forget_refused
-- Deliveries of strangers but for the newest $1: whoever can reach the server can make it write one.
WITH gone AS (
    DELETE FROM webhook_deliveries
    WHERE id IN (SELECT d.id FROM webhook_deliveries d WHERE NOT d.verified ORDER BY d.id DESC OFFSET $1)
    RETURNING received_at, pg_column_size(payload) AS size_bytes
)

SELECT
    count(*) AS gone,
    coalesce(sum(size_bytes), 0)::bigint AS size_bytes,
    min(received_at) AS since
FROM gone;

-- name: set_secret
-- Gives a source its webhook secret ($4 = also in place of one that it has); whether it was taken.
UPDATE scm_sources
SET webhook_secret = $2, webhook_key_id = $3
WHERE id = $1 AND (webhook_secret IS NULL OR $4)
RETURNING id;

-- name: under_other_keys
-- A batch of sources whose secrets are sealed with another key than $1, behind the id $2.
SELECT
    id,
    webhook_secret AS sealed,
    webhook_key_id AS key_id
FROM scm_sources
WHERE webhook_key_id <> $1 AND id > $2
ORDER BY id
LIMIT $3;

-- name: sealed_anew
-- A secret under its new key, unless somebody set it meanwhile.
UPDATE scm_sources
SET webhook_secret = $3, webhook_key_id = $4
WHERE id = $1 AND webhook_secret = $2;
