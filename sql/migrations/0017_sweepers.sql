-- Schedules of projects, the archive of logs, and what sweepers have done.

-- A schedule that starts pipelines of a project. Whoever moves `next_at` on has the fire.
CREATE TABLE project_crons (
    id uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    name text NOT NULL,
    expression text NOT NULL,
    -- Empty: every pipeline of the project.
    pipeline_ids uuid [] NOT NULL DEFAULT '{}',
    enabled boolean NOT NULL DEFAULT TRUE,
    -- Null: the schedule has no time any more.
    next_at timestamptz,
    last_fired_at timestamptz,
    created_by uuid REFERENCES users ON DELETE SET NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (project_id, name)
);
CREATE INDEX project_crons_due ON project_crons (next_at) WHERE enabled AND next_at IS NOT NULL;

ALTER TABLE projects
-- Whether logs of ended jobs are archived; null: as the server does.
ADD COLUMN log_archive_enabled boolean;

-- Where the log of an ended job is when its lines are not in `log_lines`: gzip members one after the other, so that any of
-- them can be read alone.
CREATE TABLE log_archives (
    job_run_id uuid PRIMARY KEY REFERENCES job_runs ON DELETE CASCADE,
    storage_key text NOT NULL UNIQUE,
    lines bigint NOT NULL,
    size_bytes bigint NOT NULL,
    archived_at timestamptz NOT NULL,
    -- Of each member: the number of its first line, how many lines are before it, and where it begins in the blob.
    block_seqs bigint [] NOT NULL,
    block_lines bigint [] NOT NULL,
    block_offsets bigint [] NOT NULL
);

ALTER TABLE job_runs
-- Whether lines of its current attempt may be in `log_lines`: until they are archived.
ADD COLUMN log_lines_live boolean NOT NULL DEFAULT TRUE;
CREATE INDEX job_runs_to_archive ON job_runs (finished_at) WHERE log_lines_live AND finished_at IS NOT NULL;

-- The blob of an archive goes the way of all others that no row knows any more.
CREATE TRIGGER log_archives_bury_blobs AFTER DELETE ON log_archives
REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION bury_blobs();

-- Drops the monthly partitions whose last moment is before a time; how many there were. Readers wait for no longer than
-- the lock timeout: a partition that is in use goes the next time.
CREATE FUNCTION drop_log_partitions(before timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    part text;
    dropped integer := 0;
BEGIN
    PERFORM set_config('lock_timeout', '2s', TRUE);
    PERFORM pg_advisory_xact_lock(hashtext('gocdnext.log_partitions'));
    FOR part IN
        SELECT c.relname FROM pg_inherits i
        INNER JOIN pg_class c ON c.oid = i.inhrelid
        WHERE
            i.inhparent = 'log_lines'::regclass
            AND c.relname ~ '^log_lines_[0-9]{6}$'
            AND (to_date(right(c.relname, 6), 'YYYYMM') + interval '1 month') AT TIME ZONE 'UTC' <= before
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE %I', part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;
