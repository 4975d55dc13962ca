-- Telling providers how runs stand: what is to be told and what was, GitHub Apps, hooks that were registered.

ALTER TABLE projects
ADD COLUMN check_reporting_mode text NOT NULL DEFAULT 'both'
CHECK (check_reporting_mode IN ('both', 'check_run', 'commit_status'));

ALTER TABLE scm_sources
-- The hook that the server has registered at the provider, and for which repository and address.
ADD COLUMN hook_id text,
ADD COLUMN hook_for text;

CREATE TABLE vcs_integrations (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind = 'github_app'),
    name text NOT NULL UNIQUE,
    display_name text NOT NULL DEFAULT '',
    app_id bigint NOT NULL CHECK (app_id > 0),
    api_base text NOT NULL DEFAULT '',
    enabled boolean NOT NULL DEFAULT FALSE,
    private_key bytea,
    -- Which key it was sealed with.
    private_key_key_id text,
    webhook_secret bytea,
    webhook_secret_key_id text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CHECK ((private_key IS NULL) = (private_key_key_id IS NULL)),
    CHECK ((webhook_secret IS NULL) = (webhook_secret_key_id IS NULL))
);
CREATE UNIQUE INDEX vcs_integrations_enabled_app ON vcs_integrations (app_id) WHERE enabled;

-- One row for each run that a provider is told of. Only the newest state counts: what was not told in time is left out.
CREATE TABLE status_reports (
    run_id uuid PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
    project_id uuid NOT NULL,
    pipeline_id uuid NOT NULL,
    counter bigint NOT NULL,
    provider text NOT NULL,
    -- The repository as its material names it, and the commit.
    url text NOT NULL,
    sha text NOT NULL,
    -- The project's setting when the run was noticed.
    mode text NOT NULL,
    -- The run's status as it is to be told, and as it was told last.
    wanted text NOT NULL,
    told text,
    -- `none`: nobody has said how to sign in at the provider. `given_up`: see `error`.
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'told', 'none', 'given_up')),
    attempts integer NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL,
    -- A server is telling it until then; after that, another one may.
    taken_until timestamptz,
    error text,
    check_run_id bigint,
    installation_id bigint,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX status_reports_due ON status_reports (next_at) WHERE state = 'pending';
CREATE INDEX status_reports_open ON status_reports (run_id) WHERE wanted IN ('queued', 'running');
CREATE INDEX status_reports_of_commit ON status_reports (pipeline_id, sha, counter);
CREATE INDEX status_reports_given_up ON status_reports (project_id, updated_at DESC) WHERE state = 'given_up';

-- Runs that were made until then have been noticed.
CREATE TABLE status_reports_noticed (
    only_row boolean PRIMARY KEY DEFAULT TRUE CHECK (only_row),
    until timestamptz NOT NULL
);

-- Deliveries of GitHub Apps that have started a run, so that none does it twice.
CREATE TABLE github_app_deliveries (
    delivery text PRIMARY KEY,
    run_id uuid REFERENCES runs ON DELETE SET NULL,
    received_at timestamptz NOT NULL
);
