-- Artifacts, caches and the blobs behind them: tickets, results, reading, sweeping.

-- name: job_exists
-- Whether there is such a job in that run: an agent that asks for another's job is told apart from one that made it up.
SELECT EXISTS (SELECT FROM job_runs WHERE id = $1 AND run_id = $2);

-- name: open_artifacts
-- Pending rows for the paths of an attempt, one each; a repeated request gets the row that is pending already.
-- Nothing for an attempt that is not running on this agent any more, and no row for a path that was delivered.
WITH run AS MATERIALIZED (
    -- First, as everywhere: the lock that the new rows take on it anyway.
    SELECT r.id, r.definition_id FROM runs r
    WHERE r.id = $2
    FOR KEY SHARE
),

job AS (
    SELECT
        j.id,
        j.run_id,
        (
            jsonb_path_query_first(
                d.definition, '$.jobs[*] ? (@.name == $name)', jsonb_build_object('name', j.name)
            ) #>> '{artifacts,expire_in_seconds}'
        )::bigint AS expire_in
    FROM run
    INNER JOIN job_runs j ON j.run_id = run.id
    INNER JOIN pipeline_definitions d ON d.id = run.definition_id
    WHERE j.id = $1 AND j.agent_id = $3 AND j.attempt = $4 AND j.status = 'running'
    -- A repeat of the job waits for this, or this for it: no row of an old attempt stays behind.
    FOR SHARE OF j
)

INSERT INTO artifacts (id, run_id, job_run_id, path, storage_key, created_at, expires_at, expiry_said)
SELECT
    v.id,
    job.run_id,
    job.id,
    v.path,
    'run/' || job.run_id || '/job/' || job.id || '/' || v.id,
    $7,
    $7::timestamptz + make_interval(secs => coalesce(nullif(job.expire_in, 0), $8::bigint)),
    coalesce(job.expire_in, 0) <> 0
FROM job
CROSS JOIN unnest($5::uuid [], $6::text []) AS v (id, path)
ON CONFLICT (job_run_id, path) DO UPDATE SET created_at = excluded.created_at
WHERE artifacts.status = 'pending'
RETURNING path, storage_key;

-- name: confirm_artifacts
-- The artifacts a result names that are what it says of them are ready from now on: of this job's running attempt, of
-- that path, as long and with the hash that was seen when they came in; what was not seen, because agents write to the
-- store by themselves ($9), is what the result says. Answers with the keys of those.
WITH said AS (
    SELECT s.* FROM unnest($5::text [], $6::text [], $7::bigint [], $8::text [])
        AS s (storage_key, path, size_bytes, content_sha256)
),

job AS (
    SELECT j.id FROM job_runs j
    WHERE j.id = $1 AND j.run_id = $2 AND j.agent_id = $3 AND j.attempt = $4 AND j.status = 'running'
    FOR SHARE
)

UPDATE artifacts a
SET
    status = 'ready',
    size_bytes = s.size_bytes,
    content_sha256 = coalesce(a.content_sha256, lower(s.content_sha256))
FROM said s, job
WHERE
    a.storage_key = s.storage_key
    AND a.job_run_id = job.id
    AND a.path = s.path
    AND (
        ($9::boolean AND a.size_bytes IS NULL AND s.content_sha256 ~* '^[0-9a-f]{64}$')
        OR (
            a.size_bytes = s.size_bytes
            AND (s.content_sha256 = '' OR a.content_sha256 = lower(s.content_sha256))
        )
    )
RETURNING a.storage_key;

-- name: artifacts_of_run
-- A run's artifacts for people, by job name and path.
SELECT
    a.id,
    a.job_run_id,
    j.name AS job_name,
    a.path,
    a.status,
    a.size_bytes,
    a.content_sha256,
    a.storage_key,
    a.created_at,
    a.expires_at,
    a.pinned_at
FROM artifacts a
INNER JOIN job_runs j ON j.id = a.job_run_id
WHERE a.run_id = $1
ORDER BY j.name, a.path, j.matrix_key;

-- name: upload_status
-- What an upload to this key meets: a pending row, one that is complete (`ready`), or none.
SELECT a.status FROM artifacts a
WHERE a.storage_key = $1
UNION ALL
SELECT c.status FROM caches c
WHERE c.storage_key = $1;

-- name: record_upload
-- An upload is complete: what was counted and hashed; or ($2 and $3 null) it begins, and nobody is to confirm what was
-- there before. False when its row is gone or ready.
WITH artifact AS (
    UPDATE artifacts
    SET size_bytes = $2, content_sha256 = $3
    WHERE storage_key = $1 AND status = 'pending'
    RETURNING id
),

cache AS (
    UPDATE caches
    SET size_bytes = $2, content_sha256 = $3
    WHERE storage_key = $1 AND status = 'pending'
    RETURNING id
)

SELECT EXISTS (SELECT FROM artifact) OR EXISTS (SELECT FROM cache);

-- name: find_cache
-- The newest complete content of a key in the project of the job's run; it counts as used. The row is written at most
-- once a minute, so that a hundred jobs that start at once do not queue for it.
WITH found AS (
    SELECT c.* FROM caches c
    INNER JOIN pipelines p ON p.project_id = c.project_id
    INNER JOIN runs r ON r.pipeline_id = p.id
    WHERE r.id = $1 AND c.key = $2 AND c.status = 'ready'
),

used AS (
    UPDATE caches c
    SET last_accessed_at = $3
    FROM found
    WHERE c.id = found.id AND found.last_accessed_at < $3::timestamptz - interval '1 minute'
)

SELECT storage_key, size_bytes, content_sha256 FROM found;

-- name: open_cache
-- A pending row for new content of a key, for an attempt that is running on this agent; else nothing. What a fork proposes
-- writes no caches: the next run of the branch itself would read them.
INSERT INTO caches (
    id, project_id, key, storage_key, job_run_id, created_at, updated_at, last_accessed_at
)
SELECT
    $5,
    p.project_id,
    $6,
    'cache/' || p.project_id || '/' || encode(sha256(convert_to($6::text, 'UTF8')), 'hex') || '/' || $5::uuid,
    j.id,
    $7,
    $7,
    $7
FROM job_runs j
INNER JOIN runs r ON r.id = j.run_id
INNER JOIN pipelines p ON p.id = r.pipeline_id
WHERE
    j.id = $1
    AND j.run_id = $2
    AND j.agent_id = $3
    AND j.attempt = $4
    AND j.status = 'running'
    AND NOT coalesce((r.cause_detail ->> 'from_fork')::boolean, FALSE)
RETURNING storage_key;

-- name: is_from_fork
-- Whether a run is of a fork.
SELECT coalesce((cause_detail ->> 'from_fork')::boolean, FALSE) FROM runs
WHERE id = $1;

-- name: cache_upload
-- An upload of a cache, for the session that says it is complete.
SELECT
    c.project_id,
    c.key,
    c.job_run_id,
    c.storage_key,
    c.status,
    c.size_bytes,
    c.content_sha256
FROM caches c
WHERE c.id = $1
FOR UPDATE;

-- name: lock_cache_key
-- One change of a key's content at a time.
SELECT pg_advisory_xact_lock(hashtextextended('gocdnext.cache:' || $1::uuid::text || $2::text, 0));

-- name: drop_older_cache
-- What the key had until now.
DELETE FROM caches
WHERE project_id = $1 AND key = $2 AND status = 'ready' AND id <> $3;

-- name: make_cache_ready
-- From now on the key has this content.
UPDATE caches
SET status = 'ready', updated_at = $2, last_accessed_at = $2
WHERE id = $1;

-- name: try_sweep_lock
-- One server sweeps at a time.
SELECT pg_try_advisory_xact_lock(hashtextextended('gocdnext.sweep.blobs', 0));

-- name: drop_expired_artifacts
-- Artifacts past their time ($1; $2 at most), and why. Those of a run that is open, or that started one that is open, are
-- kept: jobs of it may fetch them yet. So are pinned ones, and those of the newest $3 runs of a pipeline whose job said no
-- time.
DELETE FROM artifacts
WHERE id IN (
    SELECT a.id FROM artifacts a
    INNER JOIN runs r ON r.id = a.run_id
    WHERE
        a.status = 'ready'
        AND a.expires_at <= $1
        AND a.pinned_at IS NULL
        AND r.status NOT IN ('queued', 'running')
        AND NOT EXISTS (
            SELECT FROM runs d
            WHERE d.upstream_run_id = r.id AND d.status IN ('queued', 'running')
        )
        AND (a.expiry_said OR a.demoted_by IS NOT NULL OR a.run_id NOT IN (SELECT newest_runs($3)))
    ORDER BY a.expires_at
    LIMIT $2
    FOR UPDATE OF a SKIP LOCKED
)
RETURNING size_bytes, created_at AS since, coalesce(demoted_by, 'expired') AS reason;

-- name: kept_beyond
-- What stays although its time ($1) is over, after `drop_expired_artifacts`, and everything that is pinned.
SELECT
    CASE
        WHEN a.pinned_at IS NOT NULL THEN 'pinned'
        WHEN a.expiry_said OR a.demoted_by IS NOT NULL THEN 'open_run'
        ELSE 'newest_runs'
    END AS reason,
    count(*) AS count,
    coalesce(sum(a.size_bytes), 0)::bigint AS bytes,
    min(a.created_at) AS oldest
FROM artifacts a
WHERE (a.status = 'ready' AND a.expires_at <= $1) OR a.pinned_at IS NOT NULL
GROUP BY reason
ORDER BY reason;

-- name: set_pins
-- Pins ($3 = now) or releases ($3 null) what is ready of a run, of the paths $2 or all; how many that were.
WITH changed AS (
    UPDATE artifacts
    SET pinned_at = $3
    WHERE run_id = $1 AND status = 'ready' AND (cardinality($2::text []) = 0 OR rtrim(path, '/') = ANY($2))
    RETURNING id
)

SELECT count(*) FROM changed;

-- name: drop_stale_uploads
-- Rows of uploads whose ticket ran out before $1 and that no result confirmed ($2 at most of each kind).
WITH stale_artifacts AS (
    DELETE FROM artifacts
    WHERE id IN (
        SELECT a.id FROM artifacts a
        INNER JOIN job_runs j ON j.id = a.job_run_id
        -- A job that runs may confirm what it has uploaded when it ends.
        WHERE a.status = 'pending' AND a.created_at < $1 AND (j.status <> 'running' OR a.size_bytes IS NULL)
        ORDER BY a.created_at
        LIMIT $2
        FOR UPDATE OF a SKIP LOCKED
    )
    RETURNING size_bytes, created_at
),

stale_caches AS (
    DELETE FROM caches
    WHERE id IN (
        SELECT c.id FROM caches c
        WHERE c.status = 'pending' AND c.created_at < $1
        ORDER BY c.created_at
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    )
    RETURNING size_bytes, created_at
)

SELECT size_bytes, created_at AS since FROM stale_artifacts
UNION ALL
SELECT size_bytes, created_at AS since FROM stale_caches;

-- name: drop_unused_caches
-- Caches that nobody has read since $1 ($2 at most), least recently used first.
DELETE FROM caches
WHERE id IN (
    SELECT c.id FROM caches c
    WHERE c.status = 'ready' AND c.last_accessed_at < $1
    ORDER BY c.last_accessed_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
RETURNING size_bytes, last_accessed_at AS since;

-- name: dead_blobs
-- Blobs to remove: their rows have been gone since before $1 ($2 at most).
SELECT storage_key, since FROM dead_blobs
WHERE since < $1
ORDER BY since
LIMIT $2;

-- name: forget_dead_blobs
-- Blobs that are removed.
DELETE FROM dead_blobs
WHERE storage_key = ANY($1::text []);

-- name: postpone_dead_blobs
-- Blobs that could not be removed come last next time.
UPDATE dead_blobs
SET since = $2
WHERE storage_key = ANY($1::text []);

-- name: unknown_blobs
-- Those of the stored keys that no row knows.
SELECT k.storage_key FROM unnest($1::text []) AS k (storage_key)
WHERE
    NOT EXISTS (SELECT FROM artifacts a WHERE a.storage_key = k.storage_key)
    AND NOT EXISTS (SELECT FROM caches c WHERE c.storage_key = k.storage_key)
    AND NOT EXISTS (SELECT FROM log_archives l WHERE l.storage_key = k.storage_key)
    AND NOT EXISTS (SELECT FROM dead_blobs d WHERE d.storage_key = k.storage_key);

-- name: expire_old_runs
-- Ends the time ($1) of artifacts of all but the newest $2 runs of each pipeline.
UPDATE artifacts
SET expires_at = $1, demoted_by = 'keep_last'
WHERE
    status = 'ready'
    AND expires_at > $1
    AND pinned_at IS NULL
    AND run_id NOT IN (SELECT newest_runs($2));

-- name: expire_beyond_project_quota
-- Ends the time ($1) of the oldest artifacts of projects that have more than $2 bytes of them. What stays in any case (it is
-- pinned, or of the newest $3 runs of its pipeline) counts first, so that no more of the rest goes than must.
UPDATE artifacts
SET expires_at = $1, demoted_by = 'project_quota'
FROM (
    SELECT
        k.id,
        k.stays,
        sum(k.size_bytes) OVER (PARTITION BY k.project_id ORDER BY k.stays DESC, k.created_at DESC, k.id) AS kept
    FROM (
        SELECT
            a.id,
            a.size_bytes,
            a.created_at,
            a.expires_at,
            p.project_id,
            a.pinned_at IS NOT NULL
            OR ((a.expires_at > $1 OR NOT a.expiry_said) AND a.run_id IN (SELECT newest_runs($3))) AS stays
        FROM artifacts a
        INNER JOIN runs r ON r.id = a.run_id
        INNER JOIN pipelines p ON p.id = r.pipeline_id
        WHERE a.status = 'ready'
    ) k
    WHERE k.stays OR k.expires_at > $1
) o
WHERE artifacts.id = o.id AND NOT o.stays AND o.kept > $2::bigint;

-- name: expire_beyond_global_quota
-- Ends the time ($1) of the oldest artifacts of all, when there are more than $2 bytes of them; but see above.
UPDATE artifacts
SET expires_at = $1, demoted_by = 'global_quota'
FROM (
    SELECT
        k.id,
        k.stays,
        sum(k.size_bytes) OVER (ORDER BY k.stays DESC, k.created_at DESC, k.id) AS kept
    FROM (
        SELECT
            a.id,
            a.size_bytes,
            a.created_at,
            a.expires_at,
            a.pinned_at IS NOT NULL
            OR ((a.expires_at > $1 OR NOT a.expiry_said) AND a.run_id IN (SELECT newest_runs($3))) AS stays
        FROM artifacts a
        WHERE a.status = 'ready'
    ) k
    WHERE k.stays OR k.expires_at > $1
) o
WHERE artifacts.id = o.id AND NOT o.stays AND o.kept > $2::bigint;

-- name: drop_caches_beyond_project_quota
-- The least recently read caches of projects that have more than $1 bytes of them.
DELETE FROM caches
WHERE id IN (
    SELECT o.id FROM (
        SELECT
            c.id,
            sum(c.size_bytes) OVER (PARTITION BY c.project_id ORDER BY c.last_accessed_at DESC, c.id) AS kept
        FROM caches c
        WHERE c.status = 'ready'
    ) o
    WHERE o.kept > $1::bigint
)
RETURNING size_bytes, last_accessed_at AS since;

-- name: drop_caches_beyond_global_quota
-- The least recently read caches of all, when there are more than $1 bytes of them.
DELETE FROM caches
WHERE id IN (
    SELECT o.id FROM (
        SELECT
            c.id,
            sum(c.size_bytes) OVER (ORDER BY c.last_accessed_at DESC, c.id) AS kept
        FROM caches c
        WHERE c.status = 'ready'
    ) o
    WHERE o.kept > $1::bigint
)
RETURNING size_bytes, last_accessed_at AS since;
