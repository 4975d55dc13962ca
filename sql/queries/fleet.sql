-- Agents: registration and presence. What people read of them is elsewhere.

-- name: agent_by_name
-- Who claims to be this agent, or to be its process from before a break, is checked against this row.
SELECT
    id,
    token_hash,
    session_generation,
    last_seen_at,
    lease_hash,
    lease_seconds
FROM agents
WHERE name = $1;

-- name: insert_agent
-- Auto-registration (protocol-agent 2.1); no row when the name was taken in between.
INSERT INTO agents (id, name, token_hash, registered_at)
VALUES ($1, $2, $3, $4)
ON CONFLICT (name) DO NOTHING
RETURNING id;

-- name: mark_online
-- A new session: what the agent says of itself, its lease, and the generation that fences earlier sessions. With a
-- generation in $11 no row when another session has begun in between.
UPDATE agents
SET
    version = $2,
    os = $3,
    arch = $4,
    tags = $5,
    capacity = $6,
    engine = $7,
    last_seen_at = $8,
    lease_hash = $9,
    lease_seconds = $10,
    status = CASE WHEN status = 'disabled' THEN status ELSE 'online' END,
    session_generation = session_generation + 1
WHERE id = $1 AND session_generation = coalesce($11, session_generation)
RETURNING session_generation, status = 'disabled' AS disabled;

-- name: mark_offline
-- The session ended; nothing happens when a newer one has begun. $3: it took its leave and does not come back for
-- what it was given.
UPDATE agents
SET
    status = CASE WHEN status = 'online' THEN 'offline' ELSE status END,
    lease_hash = CASE WHEN $3 THEN '' ELSE lease_hash END
WHERE id = $1 AND session_generation = $2;

-- name: touch_agents
-- Writes when the agents of this server were last heard of, all in one statement. A session whose generation is not
-- in the answer was fenced: another server, or the reaper, has ended it.
WITH heard AS (
    SELECT
        s.id,
        s.generation,
        s.at
    FROM unnest($1::uuid [], $2::bigint [], $3::timestamptz []) AS s (id, generation, at)
),

touched AS (
    UPDATE agents a
    SET last_seen_at = h.at
    FROM heard h
    WHERE a.id = h.id AND a.session_generation = h.generation AND a.last_seen_at < h.at
)

SELECT
    a.id,
    a.status = 'disabled' AS disabled
FROM agents a
INNER JOIN heard h ON a.id = h.id AND a.session_generation = h.generation;
