-- Agents: registration and presence. What people read of them is elsewhere.

-- name: agent_by_name
-- Who claims to be this agent is checked against this row.
SELECT
    id,
    token_hash
FROM agents
WHERE name = $1;

-- name: insert_agent
-- Auto-registration (protocol-agent 2.1); no row when the name was taken in between.
INSERT INTO agents (id, name, token_hash, registered_at)
VALUES ($1, $2, $3, $4)
ON CONFLICT (name) DO NOTHING
RETURNING id;

-- name: mark_online
-- A new session: what the agent says of itself, and the generation that fences earlier sessions.
UPDATE agents
SET
    version = $2,
    os = $3,
    arch = $4,
    tags = $5,
    capacity = $6,
    engine = $7,
    last_seen_at = $8,
    status = CASE WHEN status = 'disabled' THEN status ELSE 'online' END,
    session_generation = session_generation + 1
WHERE id = $1
RETURNING session_generation, status = 'disabled' AS disabled;

-- name: mark_offline
-- The session ended; nothing happens when a newer one has begun.
UPDATE agents
SET status = 'offline'
WHERE id = $1 AND session_generation = $2 AND status = 'online';

-- name: touch_agents
-- Writes when the agents of this server were last heard of, all in one statement. A session whose generation is not
-- in the answer was fenced: another server, or the reaper, has ended it.
UPDATE agents a
SET last_seen_at = greatest(a.last_seen_at, s.at)
FROM unnest($1::uuid [], $2::bigint [], $3::timestamptz []) AS s (id, generation, at)
WHERE a.id = s.id AND a.session_generation = s.generation
RETURNING a.id, a.status = 'disabled' AS disabled;
