-- Configuration from repositories: what was read last and how that went, and requests that bring their own.

ALTER TABLE scm_sources
-- The commit whose configuration is in force, and since when.
ADD COLUMN last_synced_at timestamptz,
ADD COLUMN last_synced_revision text,
-- The commit whose configuration was looked at last, good or broken. Null: it has to be read, whatever a push says.
ADD COLUMN seen_revision text,
-- Why the configuration that the repository has now is not in force.
ADD COLUMN sync_error text,
-- Readings in a row that the repository did not answer, and the last of them.
ADD COLUMN sync_failures integer NOT NULL DEFAULT 0,
ADD COLUMN sync_failed_at timestamptz,
-- Moves with every change of the project's configuration, so that a slow reading does not undo a newer one.
ADD COLUMN sync_count bigint NOT NULL DEFAULT 0;
CREATE INDEX scm_sources_to_read_again ON scm_sources (sync_failed_at) WHERE sync_failures > 0;

ALTER TABLE projects
-- Whether requests from branches of the same repository run with the configuration that they bring (contract-admin 6.8).
ADD COLUMN trust_same_repo_pr_config boolean NOT NULL DEFAULT FALSE;

-- A definition that a request brought is no version of the pipeline: it has none, and is known by its SHA-256.
ALTER TABLE pipeline_definitions
ALTER COLUMN version DROP NOT NULL,
ADD COLUMN digest text,
ADD CHECK ((version IS NULL) = (digest IS NOT NULL));
CREATE UNIQUE INDEX pipeline_definitions_by_digest ON pipeline_definitions (pipeline_id, digest) WHERE digest IS NOT NULL;
