-- Dumps of the database before a migration and in backups: what there is to dump.

-- name: about
-- The schema that our tables are in, its newest migration, what everything takes on disk, and what the rows alone take.
SELECT
    current_schema()::text AS schema_name,
    pg_database_size(current_database()) AS database_bytes,
    current_setting('server_version_num')::int / 10000 AS major,
    (SELECT coalesce(max(version), 0) FROM schema_migrations) AS version,
    (
        SELECT coalesce(sum(pg_table_size(c.oid)), 0)::bigint FROM pg_class c
        WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
    ) AS row_bytes,
    coalesce((SELECT s.ssl FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid()), FALSE) AS encrypted;
