-- Log lines: storing them, reading them in the order of the stream, and the windows that people look at.

-- name: insert_lines
-- Stores one batch of one attempt in one round trip: checks that the attempt is still this agent's, allots cursors in
-- commit order (lock order job, then cursor), skips lines that are there already. No row: the attempt is not theirs.
WITH job AS (
    SELECT j.run_id FROM job_runs j
    WHERE j.id = $1 AND j.agent_id = $2 AND j.attempt = $3 AND j.status = 'running'
    FOR SHARE
),

allotted AS (
    INSERT INTO log_cursors AS c (run_id, last)
    SELECT
        job.run_id,
        cardinality($4::bigint [])
    FROM job
    ON CONFLICT (run_id) DO UPDATE SET last = c.last + excluded.last
    RETURNING c.run_id, c.last - cardinality($4::bigint []) AS before
),

stored AS (
    INSERT INTO log_lines (job_run_id, run_id, cursor, seq, at, stream, text)
    SELECT
        $1,
        a.run_id,
        a.before + l.n,
        l.seq,
        to_timestamp(l.micros / 1000000.0::double precision),
        l.stream,
        l.text
    FROM allotted a
    CROSS JOIN LATERAL unnest($4::bigint [], $5::bigint [], $6::text [], $7::text [])
        WITH ORDINALITY AS l (seq, micros, stream, text, n)
    ON CONFLICT DO NOTHING
    RETURNING 1
)

SELECT
    a.before,
    (SELECT count(*) FROM stored) AS stored
FROM allotted a;

-- name: insert_runs
-- The same for $4 lines that come in few runs of neighbours: for each run how many lines are before it, the number of
-- its first line, their time, their stream, and their texts in one with a separator before each.
WITH job AS (
    SELECT j.run_id FROM job_runs j
    WHERE j.id = $1 AND j.agent_id = $2 AND j.attempt = $3 AND j.status = 'running'
    FOR SHARE
),

allotted AS (
    INSERT INTO log_cursors AS c (run_id, last)
    SELECT
        job.run_id,
        $4::bigint
    FROM job
    ON CONFLICT (run_id) DO UPDATE SET last = c.last + excluded.last
    RETURNING c.run_id, c.last - $4::bigint AS before
),

stored AS (
    INSERT INTO log_lines (job_run_id, run_id, cursor, seq, at, stream, text)
    SELECT
        $1,
        a.run_id,
        a.before + r.start + l.n - 1,
        r.first + l.n - 2,
        to_timestamp(r.micros / 1000000.0::double precision),
        r.stream,
        l.text
    FROM allotted a
    CROSS JOIN LATERAL unnest($5::bigint [], $6::bigint [], $7::bigint [], $8::text [], $9::text [], $10::text [])
        AS r (start, first, micros, stream, separator, joined)
    CROSS JOIN LATERAL string_to_table(r.joined, r.separator) WITH ORDINALITY AS l (text, n)
    WHERE l.n > 1
    ON CONFLICT DO NOTHING
    RETURNING 1
)

SELECT
    a.before,
    (SELECT count(*) FROM stored) AS stored
FROM allotted a;

-- name: newest_seqs
-- Up to which line each of these jobs is stored: an agent that comes back sends again what it has no word of.
SELECT
    j.id,
    (
        SELECT l.seq FROM log_lines l
        WHERE l.job_run_id = j.id
        ORDER BY l.seq DESC
        LIMIT 1
    ) AS seq
FROM unnest($1::uuid []) AS j (id);

-- name: lines_after
-- One page of a run's lines in cursor order, for a reader that is behind what is kept in memory: at most $4 lines, and
-- no more of them than make about $5 bytes of frames, but one.
SELECT
    l.cursor,
    l.job_run_id::text AS job_id,
    l.seq,
    (extract(EPOCH FROM l.at) * 1000000)::bigint AS micros,
    l.stream,
    l.text
FROM (
    SELECT
        page.*,
        sum(octet_length(page.text) + 150) OVER (ORDER BY page.cursor) - octet_length(page.text) - 150 AS bytes_before
    FROM (
        SELECT * FROM log_lines
        WHERE log_lines.run_id = $1 AND log_lines.cursor > $2 AND log_lines.cursor <= $3
        ORDER BY log_lines.cursor
        LIMIT $4
    ) page
) l
WHERE l.bytes_before < $5
ORDER BY l.cursor;

-- name: run_states
-- What readers of these runs wait for: the newest cursor, and whether more lines can come.
SELECT
    r.id,
    r.status,
    coalesce(c.last, 0) AS last,
    EXISTS (SELECT FROM job_runs j WHERE j.run_id = r.id AND j.status = 'running') AS busy
FROM runs r
LEFT JOIN log_cursors c ON c.run_id = r.id
WHERE r.id = any($1::uuid []);

-- name: windows
-- For each job its last $3 lines, or the $3 lines after its `since`, its first $4 lines, and how many it has. Nothing is
-- looked for of a job whose lines are archived: they are slow to find for a while after they are deleted.
SELECT
    j.id AS job_id,
    w.part,
    w.seq,
    w.stream,
    w.at,
    w.text
FROM (
    SELECT
        u.id,
        u.since,
        r.log_lines_live
    FROM unnest($1::uuid [], $2::bigint []) AS u (id, since)
    LEFT JOIN job_runs r ON r.id = u.id
) j
CROSS JOIN LATERAL (
    (
        SELECT
            'tail' AS part,
            l.seq,
            l.stream,
            l.at,
            l.text
        FROM log_lines l
        WHERE l.job_run_id = j.id AND j.since IS NULL AND j.log_lines_live
        ORDER BY l.seq DESC, l.at DESC
        LIMIT $3
    )
    UNION ALL
    (
        SELECT
            'tail' AS part,
            l.seq,
            l.stream,
            l.at,
            l.text
        FROM log_lines l
        WHERE l.job_run_id = j.id AND l.seq > j.since AND j.log_lines_live
        ORDER BY l.seq, l.at
        LIMIT $3
    )
    UNION ALL
    (
        SELECT
            'head' AS part,
            l.seq,
            l.stream,
            l.at,
            l.text
        FROM log_lines l
        WHERE l.job_run_id = j.id AND j.since IS NULL AND j.log_lines_live
        ORDER BY l.seq, l.at
        LIMIT $4
    )
    UNION ALL
    (
        SELECT
            'total' AS part,
            count(*) AS seq,
            '' AS stream,
            NULL AS at,
            '' AS text
        FROM log_lines l
        WHERE l.job_run_id = j.id AND j.log_lines_live
    )
) w;

-- name: text_after
-- One page of a job's text in seq order, from the line after (seq $2, at $3).
SELECT
    l.seq,
    l.at,
    l.text
FROM log_lines l
WHERE l.job_run_id = $1 AND (l.seq, l.at) > ($2::bigint, $3::timestamptz)
ORDER BY l.seq, l.at
LIMIT $4;

-- name: ensure_partitions
-- Makes the monthly partitions that are missing; returns how many were made.
SELECT ensure_log_partitions($1::timestamptz, $2::integer);

-- name: drop_partitions
-- Drops the monthly partitions that ended before $1; returns how many there were.
SELECT drop_log_partitions($1::timestamptz);
