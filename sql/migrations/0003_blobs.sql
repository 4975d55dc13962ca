-- Artifacts of jobs and caches of projects. The bytes lie in the blob store; a row says what they are and who may have them.

CREATE TABLE artifacts (
    id uuid PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    job_run_id uuid NOT NULL REFERENCES job_runs ON DELETE CASCADE,
    path text NOT NULL,
    storage_key text NOT NULL UNIQUE,
    -- `pending` until the job's result names it. A row whose time is over is deleted, and its blob then (dead_blobs).
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'ready')),
    -- As the server counted and hashed it while it came in; null until an upload is complete.
    size_bytes bigint,
    content_sha256 text,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    -- Of the current attempt only: rows of an attempt that is repeated go with it.
    UNIQUE (job_run_id, path)
);
CREATE INDEX artifacts_by_run ON artifacts (run_id);
CREATE INDEX artifacts_by_expiry ON artifacts (expires_at) WHERE status = 'ready';
CREATE INDEX artifacts_pending ON artifacts (created_at) WHERE status = 'pending';

-- Every upload has a row and a blob of its own, so that readers keep the old content until the new one is complete.
CREATE TABLE caches (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    key text NOT NULL,
    storage_key text NOT NULL UNIQUE,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'ready')),
    -- The job that uploads it; only compared with what a session holds, hence no foreign key.
    job_run_id uuid NOT NULL,
    size_bytes bigint,
    content_sha256 text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    last_accessed_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX caches_ready ON caches (project_id, key) WHERE status = 'ready';
CREATE INDEX caches_by_project ON caches (project_id);
CREATE INDEX caches_by_access ON caches (last_accessed_at) WHERE status = 'ready';
CREATE INDEX caches_pending ON caches (created_at) WHERE status = 'pending';

-- Blobs whose row is gone, whoever deleted it: an expiry, a repeated job, a deleted project. The sweeper removes them.
CREATE TABLE dead_blobs (
    storage_key text PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dead_blobs_by_age ON dead_blobs (since);

CREATE FUNCTION bury_blobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dead_blobs (storage_key) SELECT r.storage_key FROM removed r ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER artifacts_bury_blobs AFTER DELETE ON artifacts
REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION bury_blobs();
CREATE TRIGGER caches_bury_blobs AFTER DELETE ON caches
REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION bury_blobs();

-- Whether jobs of it fetch artifacts: only then they are loaded with the run.
ALTER TABLE pipeline_definitions
ADD COLUMN fetches boolean NOT NULL GENERATED ALWAYS AS (
    jsonb_path_exists(definition, '$.jobs[*].needs_artifacts')
) STORED;
