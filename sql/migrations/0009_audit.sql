-- Who did what, or tried to. Rows are only ever added: no foreign keys, so that what they name may go.

CREATE TABLE audit_events (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    -- Null and empty where nobody has to sign in, or nobody was recognised.
    actor_id uuid,
    actor_email text NOT NULL,
    actor_name text NOT NULL,
    action text NOT NULL,
    target_type text NOT NULL,
    target_id text NOT NULL,
    -- `unknown`: the caller was gone before there was an answer.
    outcome text NOT NULL CHECK (outcome IN ('done', 'refused', 'failed', 'unknown')),
    -- The HTTP status of the answer; null where there was none.
    status integer,
    address text NOT NULL,
    request_id text NOT NULL,
    metadata jsonb NOT NULL
);
CREATE INDEX audit_events_by_time ON audit_events (at DESC, id DESC);
CREATE INDEX audit_events_by_action ON audit_events (action, at DESC, id DESC);
CREATE INDEX audit_events_by_actor ON audit_events (actor_id, at DESC, id DESC) WHERE actor_id IS NOT NULL;
CREATE INDEX audit_events_by_target ON audit_events (target_id, at DESC, id DESC);
