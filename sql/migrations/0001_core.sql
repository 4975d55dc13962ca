-- The core: projects and their pipelines, materials, runs, agents, log lines.
-- Status columns are text; the words are those of spec-execution 1. Ids are made by the program.

CREATE TABLE projects (
    id uuid PRIMARY KEY,
    slug text NOT NULL UNIQUE,
    name text NOT NULL,
    description text,
    config_path text NOT NULL DEFAULT '.gocdnext',
    notifications jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX projects_by_update ON projects (updated_at DESC, id);

-- One bound repository per project; the url is kept in the normal form of spec-pipelines 9.1.
CREATE TABLE scm_sources (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL UNIQUE REFERENCES projects ON DELETE CASCADE,
    provider text NOT NULL CHECK (provider IN ('github', 'gitlab', 'bitbucket', 'manual')),
    url text NOT NULL,
    clone_url text NOT NULL,
    default_branch text NOT NULL DEFAULT 'main',
    auth_ref text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX scm_sources_by_url ON scm_sources (url);

CREATE TABLE pipelines (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    name text NOT NULL,
    definition_id uuid NOT NULL,
    definition_version integer NOT NULL DEFAULT 1,
    last_counter bigint NOT NULL DEFAULT 0,
    source text NOT NULL,
    source_file text NOT NULL,
    config_repo text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (project_id, name)
);

-- Immutable snapshots. A run points at the one it was made from, so an apply never changes a run (design 9, 1),
-- and a thousand runs of one version share one row.
CREATE TABLE pipeline_definitions (
    id uuid PRIMARY KEY,
    pipeline_id uuid NOT NULL REFERENCES pipelines ON DELETE CASCADE,
    version integer NOT NULL,
    definition jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    UNIQUE (pipeline_id, version)
);
ALTER TABLE pipelines
ADD CONSTRAINT pipelines_definition_id_fkey FOREIGN KEY (definition_id)
REFERENCES pipeline_definitions DEFERRABLE INITIALLY DEFERRED;

CREATE TABLE materials (
    id uuid PRIMARY KEY,
    pipeline_id uuid NOT NULL REFERENCES pipelines ON DELETE CASCADE,
    type text NOT NULL CHECK (type IN ('git', 'upstream', 'cron', 'manual')),
    fingerprint text NOT NULL,
    config jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    UNIQUE (pipeline_id, fingerprint)
);
CREATE INDEX materials_by_fingerprint ON materials (fingerprint);

CREATE TABLE modifications (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    material_id uuid NOT NULL REFERENCES materials ON DELETE CASCADE,
    revision text NOT NULL,
    branch text NOT NULL DEFAULT '',
    author text,
    message text,
    payload jsonb,
    committed_at timestamptz,
    detected_at timestamptz NOT NULL,
    UNIQUE (material_id, revision, branch)
);
CREATE INDEX modifications_newest ON modifications (material_id, detected_at DESC);

CREATE TABLE runs (
    id uuid PRIMARY KEY,
    pipeline_id uuid NOT NULL REFERENCES pipelines ON DELETE CASCADE,
    definition_id uuid NOT NULL REFERENCES pipeline_definitions,
    counter bigint NOT NULL,
    cause text NOT NULL,
    cause_detail jsonb NOT NULL DEFAULT '{}',
    status text NOT NULL DEFAULT 'queued'
    CHECK (status IN ('queued', 'running', 'success', 'failed', 'canceled')),
    revisions jsonb NOT NULL DEFAULT '{}',
    ref text NOT NULL DEFAULT '',
    triggered_by text,
    queue_reason text,
    cancel_reason text,
    superseded_by uuid REFERENCES runs ON DELETE SET NULL,
    has_services boolean NOT NULL DEFAULT FALSE,
    service_names text [] NOT NULL DEFAULT '{}',
    service_generation bigint NOT NULL DEFAULT 0,
    -- The next value of the run-wide log cursor is log_cursors.next; it lives in a table of its own so that
    -- log batches never touch this row.
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    UNIQUE (pipeline_id, counter)
);
CREATE INDEX runs_open ON runs (created_at, id) WHERE status IN ('queued', 'running');
CREATE INDEX runs_open_by_pipeline ON runs (pipeline_id, counter) WHERE status IN ('queued', 'running');
CREATE INDEX runs_feed ON runs (created_at DESC, id DESC);
CREATE INDEX runs_newest_of_pipeline ON runs (pipeline_id, created_at DESC, id DESC);
CREATE INDEX runs_superseded_by ON runs (superseded_by) WHERE superseded_by IS NOT NULL;
CREATE INDEX runs_by_definition ON runs (definition_id);

CREATE TABLE stage_runs (
    id uuid PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    name text NOT NULL,
    ordinal integer NOT NULL,
    status text NOT NULL DEFAULT 'queued'
    CHECK (status IN ('queued', 'running', 'success', 'failed', 'canceled')),
    started_at timestamptz,
    finished_at timestamptz,
    UNIQUE (run_id, name)
);

CREATE TABLE job_runs (
    id uuid PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    stage_run_id uuid NOT NULL REFERENCES stage_runs ON DELETE CASCADE,
    name text NOT NULL,
    matrix_key text NOT NULL DEFAULT '',
    image text,
    status text NOT NULL DEFAULT 'queued'
    CHECK (status IN ('queued', 'running', 'awaiting_approval', 'success', 'failed', 'canceled', 'skipped')),
    needs text [] NOT NULL DEFAULT '{}',
    attempt integer NOT NULL DEFAULT 0,
    retry_unsafe boolean NOT NULL DEFAULT FALSE,
    -- No foreign key: a run keeps the id of an agent that is gone.
    agent_id uuid,
    exit_code integer,
    error text,
    outputs jsonb NOT NULL DEFAULT '{}',
    cancel_requested_at timestamptz,
    cancel_origin text
    CHECK (cancel_origin IN ('user_job', 'user_run', 'supersede', 'approval_expiry', 'dependency')),
    started_at timestamptz,
    finished_at timestamptz,
    UNIQUE (run_id, name, matrix_key)
);
CREATE INDEX job_runs_by_stage ON job_runs (stage_run_id);
CREATE INDEX job_runs_running_by_agent ON job_runs (agent_id) WHERE status = 'running';
CREATE INDEX job_runs_open ON job_runs (run_id) WHERE status IN ('queued', 'running', 'awaiting_approval');
CREATE INDEX job_runs_by_agent ON job_runs (agent_id, started_at DESC, id DESC) WHERE agent_id IS NOT NULL;

CREATE TABLE agents (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    token_hash text NOT NULL,
    version text NOT NULL DEFAULT '',
    os text NOT NULL DEFAULT '',
    arch text NOT NULL DEFAULT '',
    tags text [] NOT NULL DEFAULT '{}',
    capacity integer NOT NULL DEFAULT 1,
    engine text NOT NULL DEFAULT '',
    status text NOT NULL DEFAULT 'offline' CHECK (status IN ('online', 'offline', 'disabled')),
    session_generation bigint NOT NULL DEFAULT 0,
    last_seen_at timestamptz,
    registered_at timestamptz NOT NULL
);

-- Log lines. No foreign keys: a check per line would cost more than the line, so a trigger removes the lines of a
-- deleted job instead. `cursor` is the run-wide cursor of the stream (contract-runs 3.4), allotted in commit order.
CREATE TABLE log_lines (
    job_run_id uuid NOT NULL,
    run_id uuid NOT NULL,
    cursor bigint NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    stream text NOT NULL,
    text text NOT NULL,
    PRIMARY KEY (job_run_id, seq, at)
) PARTITION BY RANGE (at);
CREATE INDEX log_lines_by_cursor ON log_lines (run_id, cursor);
CREATE TABLE log_lines_other PARTITION OF log_lines DEFAULT;

-- The newest cursor of each run that has lines. The row lock of its update is what makes allotment and commit order equal.
CREATE TABLE log_cursors (
    run_id uuid PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
    last bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE FUNCTION delete_log_lines_of_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM log_lines l USING removed r WHERE l.job_run_id = r.id;
    RETURN NULL;
END $$;
CREATE TRIGGER job_runs_delete_log_lines AFTER DELETE ON job_runs
REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION delete_log_lines_of_jobs();

-- Makes the monthly partitions from the month of `from_time` on; returns how many were new.
CREATE FUNCTION ensure_log_partitions(from_time timestamptz, months integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    start_of timestamptz := date_trunc('month', from_time, 'UTC');
    made integer := 0;
    part text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('gocdnext.log_partitions'));
    FOR i IN 0..months - 1 LOOP
        part := 'log_lines_' || to_char(start_of AT TIME ZONE 'UTC', 'YYYYMM');
        IF to_regclass(part) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF log_lines FOR VALUES FROM (%L) TO (%L)',
                part, start_of, (start_of AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'
            );
            made := made + 1;
        END IF;
        start_of := (start_of AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC';
    END LOOP;
    RETURN made;
END $$;

-- A time as the API writes it: RFC 3339 in UTC, without the zeros at the end of the fraction (contract-runs 0.3).
-- For statements that build the JSON of a nested list, so that a list with its parts is one round trip.
CREATE FUNCTION utc_text(moment timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT rtrim(rtrim(to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '0'), '.') || 'Z'
$$;
