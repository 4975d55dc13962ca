-- What is kept whatever the limits say, and why the rest goes.

ALTER TABLE artifacts
-- Somebody wants it kept: no time and no limit takes it.
ADD COLUMN pinned_at timestamptz,
-- Whether its job said when it goes. What nobody said is not taken from the newest runs of a pipeline.
ADD COLUMN expiry_said boolean NOT NULL DEFAULT TRUE,
-- Which limit ended its time early; null: none has.
ADD COLUMN demoted_by text CHECK (demoted_by IN ('keep_last', 'project_quota', 'global_quota'));
CREATE INDEX artifacts_pinned ON artifacts (run_id) WHERE pinned_at IS NOT NULL;

-- The newest runs of every pipeline, so many of each, and the runs that started them: what a repeated job of those may fetch.
CREATE FUNCTION newest_runs(many bigint) RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
    SELECT r.id FROM pipelines p
    INNER JOIN runs r ON r.pipeline_id = p.id AND r.counter > p.last_counter - many
    WHERE many > 0
    UNION
    SELECT r.upstream_run_id FROM pipelines p
    INNER JOIN runs r ON r.pipeline_id = p.id AND r.counter > p.last_counter - many
    WHERE many > 0 AND r.upstream_run_id IS NOT NULL
$$;

-- The monthly partitions of log lines that ended before a time.
CREATE FUNCTION ended_log_partitions(before timestamptz)
RETURNS TABLE (part text, began timestamptz, size_bytes bigint, lines bigint) LANGUAGE sql STABLE AS $$
    SELECT
        c.relname::text,
        m.began,
        pg_total_relation_size(c.oid),
        greatest(c.reltuples, 0)::bigint
    FROM pg_inherits i
    INNER JOIN pg_class c ON c.oid = i.inhrelid
    CROSS JOIN LATERAL (
        SELECT
            to_date(right(c.relname, 6), 'YYYYMM')::timestamp AT TIME ZONE 'UTC' AS began,
            (to_date(right(c.relname, 6), 'YYYYMM') + interval '1 month') AT TIME ZONE 'UTC' AS ended
    ) m
    WHERE i.inhparent = 'log_lines'::regclass AND c.relname ~ '^log_lines_[0-9]{6}$' AND m.ended <= before
    ORDER BY c.relname
$$;

CREATE OR REPLACE FUNCTION drop_log_partitions(before timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    ended record;
    dropped integer := 0;
BEGIN
    PERFORM set_config('lock_timeout', '2s', TRUE);
    PERFORM pg_advisory_xact_lock(hashtext('gocdnext.log_partitions'));
    FOR ended IN SELECT e.part FROM ended_log_partitions(before) e
    LOOP
        EXECUTE format('DROP TABLE %I', ended.part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;
