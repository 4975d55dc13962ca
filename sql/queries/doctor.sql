-- What `gocdnext doctor` asks of the database. Every statement only reads.

-- name: server
-- The server and its settings, as this session has them.
SELECT
    current_setting('server_version') AS version,
    current_setting('server_version_num')::integer AS version_number,
    current_setting('server_encoding') AS encoding,
    current_setting('TimeZone') AS timezone,
    current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('autovacuum') AS autovacuum,
    current_setting('max_connections')::integer AS max_connections,
    current_setting('superuser_reserved_connections')::integer AS reserved,
    pg_is_in_recovery() AS standby,
    current_setting('default_transaction_read_only') AS read_only;

-- name: rights
-- Whether this role may bring the schema up to date.
SELECT
    has_database_privilege(current_database(), 'CREATE') AS in_database,
    has_schema_privilege(current_schema(), 'CREATE') AS in_schema;

-- name: clock
-- The database's time, at the moment of the answer.
SELECT clock_timestamp();

-- name: connections
-- Connections of everybody and of this database.
SELECT
    count(*)::integer AS taken,
    count(*) FILTER (WHERE datname = current_database())::integer AS here
FROM pg_stat_activity
WHERE backend_type = 'client backend';

-- name: database_size
-- Bytes on the disk.
SELECT pg_database_size(current_database());

-- name: largest_tables
-- The tables with the most bytes, the months of the log lines as one, with what is dead in them.
SELECT
    root.relname::text AS name,
    sum(pg_total_relation_size(s.relid))::bigint AS bytes,
    sum(s.n_live_tup)::bigint AS live,
    sum(s.n_dead_tup)::bigint AS dead,
    max(greatest(s.last_vacuum, s.last_autovacuum)) AS vacuumed
FROM pg_stat_user_tables s
INNER JOIN pg_class root ON root.oid = coalesce(pg_partition_root(s.relid), s.relid)
GROUP BY root.relname
ORDER BY bytes DESC, root.relname ASC
LIMIT $1;

-- name: bloated_tables
-- Tables that are mostly dead rows although they are large enough to matter.
SELECT
    relname::text AS name,
    n_live_tup AS live,
    n_dead_tup AS dead
FROM pg_stat_user_tables
WHERE n_dead_tup > $1 AND n_dead_tup > n_live_tup * $2::double precision
ORDER BY n_dead_tup DESC
LIMIT 5;

-- name: invalid_indexes
-- Indexes that a broken CREATE INDEX CONCURRENTLY left: they cost and do not help.
SELECT c.relname::text AS name
FROM pg_index i
INNER JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid
ORDER BY c.relname;

-- name: old_transactions
-- Transactions that have been open for so many seconds: nothing that died since can be cleared away.
SELECT
    pid,
    state,
    coalesce(nullif(application_name, ''), usename::text, backend_type) AS who,
    extract(EPOCH FROM clock_timestamp() - xact_start)::integer AS seconds
FROM pg_stat_activity
WHERE
    datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
    AND clock_timestamp() - xact_start > make_interval(secs => $1)
ORDER BY xact_start
LIMIT 5;

-- name: waiting
-- Sessions that have waited for a lock for so many seconds, and for whom.
SELECT
    pid,
    (pg_blocking_pids(pid))[1] AS blocker,
    extract(EPOCH FROM clock_timestamp() - query_start)::integer AS seconds
FROM pg_stat_activity
WHERE
    datname = current_database() AND wait_event_type = 'Lock' AND cardinality(pg_blocking_pids(pid)) > 0
    AND clock_timestamp() - query_start > make_interval(secs => $1)
ORDER BY query_start
LIMIT 5;

-- name: transaction_age
-- Transactions since the oldest that is not frozen; at two thousand million PostgreSQL stops.
SELECT age(datfrozenxid) FROM pg_database
WHERE datname = current_database();

-- name: has_statements
-- Whether the extension pg_stat_statements is here and its library loaded; without the library the view only errs.
SELECT
    EXISTS (SELECT 1 FROM pg_extension e WHERE e.extname = 'pg_stat_statements')
    AND current_setting('pg_stat_statements.max', TRUE) IS NOT NULL;

-- name: slow_statements
-- Statements of this database with the largest mean time; their constants are `$1`. Other kinds may quote a password.
SELECT
    left(regexp_replace(query, '\s+', ' ', 'g'), $3) AS statement,
    calls,
    mean_exec_time AS mean,
    total_exec_time AS total
FROM pg_stat_statements
WHERE
    dbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    AND userid = (SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user)
    AND calls >= 10 AND mean_exec_time > $1
    AND query ~* '^\s*(--[^\n]*\n\s*)*(select|insert|update|delete|with|merge)\s'
ORDER BY mean_exec_time DESC
LIMIT $2;
