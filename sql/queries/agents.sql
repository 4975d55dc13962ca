-- Agents as their administrators change them. Their registration and presence is in fleet.sql.

-- name: create_agent
-- An agent that may register with a token of its own; no row when there is one of this name.
INSERT INTO agents (id, name, token_hash, registered_at)
VALUES ($1, $2, $3, $4)
ON CONFLICT (name) DO NOTHING
RETURNING id;

-- name: change_token
-- From now on the agent registers with another token; its session goes on.
UPDATE agents
SET token_hash = $2
WHERE id = $1
RETURNING name;

-- name: disable_agent
-- The agent gets no work any more; every server is told.
UPDATE agents
SET status = 'disabled'
WHERE id = $1
RETURNING name, pg_notify('agent_changed', id::text || ' disabled');

-- name: enable_agent
-- The agent gets work again; every server is told. It is online if it was heard of since $2.
UPDATE agents
SET status = CASE WHEN status <> 'disabled' THEN status WHEN last_seen_at > $2 THEN 'online' ELSE 'offline' END
WHERE id = $1
RETURNING name, pg_notify('agent_changed', id::text || ' enabled');
