-- name: lock
-- One migrator at a time, for the length of the session; the number is arbitrary and means nothing else.
SELECT pg_advisory_lock(46236398);

-- name: unlock
-- The next migrator may go on.
SELECT pg_advisory_unlock(46236398);

-- name: table_exists
-- Whether any migration was ever recorded here; asked before anything is written.
SELECT to_regclass('schema_migrations') IS NOT NULL;

-- name: create_table
-- The record of what was applied; made together with the first migration.
CREATE TABLE IF NOT EXISTS schema_migrations (
    version int PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL
);

-- name: applied
-- What was applied, oldest first.
SELECT version, name, checksum
FROM schema_migrations
ORDER BY version;

-- name: record
-- Recorded in the migration's own transaction.
INSERT INTO schema_migrations (version, name, checksum, applied_at)
VALUES ($1, $2, $3, $4);
