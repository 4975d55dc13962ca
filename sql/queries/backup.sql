-- Backups: a moment of the database and what belongs to it, and whether a restored one is the same.

-- name: no_idle_limit
-- Transactions of a backup wait while something else is copied.
SELECT set_config('idle_in_transaction_session_timeout', '0', TRUE);

-- name: hold_blobs
-- While it is held no server removes blobs: it is the lock of the sweepers (`try_sweep_lock`).
SELECT pg_advisory_xact_lock(hashtextextended('gocdnext.sweep.blobs', 0));

-- name: export_snapshot
-- The name under which pg_dump sees the moment that this transaction sees.
SELECT pg_export_snapshot();

-- name: blob_tables
-- Which tables of blobs this schema has: an older one may lack some.
SELECT
    to_regclass('artifacts') IS NOT NULL AS artifacts,
    to_regclass('caches') IS NOT NULL AS caches,
    to_regclass('log_archives') IS NOT NULL AS log_archives;

-- name: artifacts
-- Artifacts that are complete.
SELECT
    storage_key,
    size_bytes,
    coalesce(content_sha256, '') AS sha256
FROM artifacts
WHERE status = 'ready'
ORDER BY storage_key;

-- name: caches
-- Caches that are complete.
SELECT
    storage_key,
    size_bytes,
    coalesce(content_sha256, '') AS sha256
FROM caches
WHERE status = 'ready'
ORDER BY storage_key;

-- name: log_archives
-- Logs that were moved out of the table.
SELECT
    storage_key,
    size_bytes,
    '' AS sha256
FROM log_archives
ORDER BY storage_key;

-- name: make_table_sums
-- For each table of ours: how many rows, and a sum over their texts that does not depend on their order. It lasts as long as
-- the session.
CREATE OR REPLACE FUNCTION pg_temp.table_sums() RETURNS TABLE (name text, rows bigint, digest text)
LANGUAGE plpgsql
SET timezone = 'UTC'
SET datestyle = 'ISO'
SET intervalstyle = 'postgres'
SET bytea_output = 'hex'
SET extra_float_digits = 1
AS $$
BEGIN
    FOR name IN
        SELECT c.relname FROM pg_class c
        WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
        ORDER BY c.relname
    LOOP
        EXECUTE format(
            'SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM %I.%I t', current_schema(), name
        ) INTO rows, digest;
        RETURN NEXT;
    END LOOP;
END $$;

-- name: table_sums
-- What `make_table_sums` made.
SELECT
    name,
    rows,
    digest
FROM pg_temp.table_sums();

-- name: make_sealed_keys
-- The ids of the keys that something is sealed with, from every column that says so.
CREATE OR REPLACE FUNCTION pg_temp.sealed_keys() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    place record;
BEGIN
    FOR place IN
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = current_schema() AND data_type = 'text' AND column_name ~ '(^|_)key_id$'
    LOOP
        RETURN QUERY EXECUTE format(
            'SELECT DISTINCT %I FROM %I WHERE %1$I IS NOT NULL', place.column_name, place.table_name
        );
    END LOOP;
END $$;

-- name: sealed_keys
-- What `make_sealed_keys` made.
SELECT DISTINCT k.id FROM pg_temp.sealed_keys() AS k (id)
WHERE k.id <> ''
ORDER BY k.id;

-- name: is_empty
-- Whether a database has nothing in it yet that is not PostgreSQL's own.
SELECT NOT EXISTS (
    SELECT FROM pg_class c
    INNER JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE
        n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
        AND n.nspname !~ '^pg_(temp|toast_temp)_'
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
);

-- name: schema_name
-- Where tables are made.
SELECT current_schema()::text;

-- name: applied
-- The migrations that a restored database says it has.
SELECT
    to_regclass('schema_migrations') IS NOT NULL AS known,
    current_setting('server_version_num')::int / 10000 AS major;

-- name: analyze
-- Statistics for the planner: a restored database has none.
ANALYZE;
