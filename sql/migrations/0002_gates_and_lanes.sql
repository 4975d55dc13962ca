-- What the run engine needs beyond plain jobs: gates and votes, notifications, retries and timeouts, lanes,
-- environments with their freezes and deployments, downstream runs.

ALTER TABLE job_runs
ADD COLUMN losses integer NOT NULL DEFAULT 0,
ADD COLUMN retries integer NOT NULL DEFAULT 0,
ADD COLUMN timeout_seconds integer NOT NULL DEFAULT 0,
ADD COLUMN rollback boolean NOT NULL DEFAULT FALSE;
CREATE INDEX job_runs_timing ON job_runs (started_at) WHERE status = 'running' AND timeout_seconds > 0;

ALTER TABLE runs
-- Raised by every change of the run, its stages or jobs: a server that remembers a run knows whether it still may.
ADD COLUMN version bigint NOT NULL DEFAULT 0,
ADD COLUMN notifications jsonb NOT NULL DEFAULT '[]',
-- The run whose stage started this one. Unique per pipeline: a stage that closes twice starts nothing twice.
ADD COLUMN upstream_run_id uuid REFERENCES runs ON DELETE SET NULL,
ADD CONSTRAINT runs_once_per_upstream UNIQUE (pipeline_id, upstream_run_id);
CREATE INDEX runs_by_upstream ON runs (upstream_run_id) WHERE upstream_run_id IS NOT NULL;

-- What has to be known of a definition before it is read: whether its runs take turns, and whether freezes hold them.
ALTER TABLE pipeline_definitions
ADD COLUMN serial boolean NOT NULL GENERATED ALWAYS AS (coalesce(definition ->> 'concurrency', '') = 'serial') STORED,
ADD COLUMN supersede text NOT NULL GENERATED ALWAYS AS (coalesce(definition ->> 'supersede', '')) STORED,
-- Whether a freeze of an environment concerns its runs.
ADD COLUMN governed boolean NOT NULL GENERATED ALWAYS AS (
    jsonb_path_exists(definition, '$.jobs[*] ? (exists(@.deploy) || exists(@.environment))')
) STORED;

-- The approval part of a job: one row per gate (spec-execution 8).
CREATE TABLE job_gates (
    job_run_id uuid PRIMARY KEY REFERENCES job_runs ON DELETE CASCADE,
    awaiting_since timestamptz NOT NULL,
    -- Seconds until it expires; -1 is the server's default, null is never.
    window_seconds bigint,
    required integer NOT NULL CHECK (required >= 1),
    quorum_label text,
    approvers text [] NOT NULL DEFAULT '{}',
    approver_groups text [] NOT NULL DEFAULT '{}',
    description text NOT NULL DEFAULT '',
    decision text CHECK (decision IN ('approved', 'rejected', 'expired')),
    decided_by text,
    decided_at timestamptz
);
CREATE INDEX job_gates_open ON job_gates (awaiting_since) WHERE decision IS NULL;

-- One vote per person; the first one stays. `voter` is the user's id, or the name of a caller without an account.
CREATE TABLE gate_votes (
    job_run_id uuid NOT NULL REFERENCES job_gates ON DELETE CASCADE,
    voter text NOT NULL,
    label text NOT NULL,
    decision text NOT NULL CHECK (decision IN ('approved', 'rejected')),
    comment text NOT NULL DEFAULT '',
    decided_at timestamptz NOT NULL,
    PRIMARY KEY (job_run_id, voter)
);

-- Environments behind whose gates a run has passed; an older run of the lane is held there (spec-execution 9).
CREATE TABLE run_gate_passes (
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    environment text NOT NULL,
    pipeline_id uuid NOT NULL,
    ref text NOT NULL,
    counter bigint NOT NULL,
    passed_at timestamptz NOT NULL,
    PRIMARY KEY (run_id, environment)
);
CREATE INDEX run_gate_passes_of_lane ON run_gate_passes (pipeline_id, counter);

CREATE TABLE environments (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    name text NOT NULL,
    description text NOT NULL DEFAULT '',
    total_deploys bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    UNIQUE (project_id, name)
);

-- Keyed by name: an environment can be frozen before anything was deployed to it.
CREATE TABLE environment_freezes (
    project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    frozen_by text NOT NULL CHECK (length(frozen_by) BETWEEN 1 AND 320),
    frozen_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, name)
);

CREATE TABLE deployment_revisions (
    id uuid PRIMARY KEY,
    environment_id uuid NOT NULL REFERENCES environments ON DELETE CASCADE,
    run_id uuid REFERENCES runs ON DELETE SET NULL,
    job_run_id uuid REFERENCES job_runs ON DELETE SET NULL,
    attempt integer NOT NULL,
    version text NOT NULL,
    revision text NOT NULL DEFAULT '',
    status text NOT NULL CHECK (status IN ('in_progress', 'success', 'failed', 'canceled')),
    is_rollback boolean NOT NULL DEFAULT FALSE,
    deployed_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL,
    finished_at timestamptz
);
CREATE UNIQUE INDEX deployment_revisions_under_way ON deployment_revisions (job_run_id, attempt)
WHERE status = 'in_progress';
CREATE INDEX deployment_revisions_newest ON deployment_revisions (environment_id, created_at DESC);
CREATE INDEX deployment_revisions_of_run ON deployment_revisions (run_id);
