-- The audit trail: written once, read by administrators, never changed.

-- name: add
-- One event.
INSERT INTO audit_events (
    id, at, actor_id, actor_email, actor_name, action, target_type, target_id, outcome, status, address, request_id,
    metadata
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- name: page
-- Events, newest first. Every filter may be null; $6 is a part of the actor's e-mail or name, $7 is inclusive, $8 not.
SELECT
    e.id,
    e.at,
    e.actor_id,
    e.actor_email,
    e.actor_name,
    e.action,
    e.target_type,
    e.target_id,
    e.outcome,
    e.status,
    e.address,
    e.request_id,
    e.metadata
FROM audit_events e
WHERE
    ($1::text IS NULL OR e.action = $1)
    AND ($2::text IS NULL OR e.target_type = $2)
    AND ($3::text IS NULL OR e.target_id = $3)
    AND ($4::text IS NULL OR e.outcome = $4)
    AND ($5::uuid IS NULL OR e.actor_id = $5)
    AND ($6::text IS NULL OR strpos(lower(e.actor_email || E'\n' || e.actor_name), lower($6)) > 0)
    AND ($7::timestamptz IS NULL OR e.at >= $7)
    AND ($8::timestamptz IS NULL OR e.at < $8)
ORDER BY e.at DESC, e.id DESC
LIMIT $9 OFFSET $10;

-- name: total
-- How many events `page` has in all.
SELECT count(*) FROM audit_events e
WHERE
    ($1::text IS NULL OR e.action = $1)
    AND ($2::text IS NULL OR e.target_type = $2)
    AND ($3::text IS NULL OR e.target_id = $3)
    AND ($4::text IS NULL OR e.outcome = $4)
    AND ($5::uuid IS NULL OR e.actor_id = $5)
    AND ($6::text IS NULL OR strpos(lower(e.actor_email || E'\n' || e.actor_name), lower($6)) > 0)
    AND ($7::timestamptz IS NULL OR e.at >= $7)
    AND ($8::timestamptz IS NULL OR e.at < $8);
