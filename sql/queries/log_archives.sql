-- Logs of ended jobs that are kept as blobs.

-- name: candidates
-- Jobs that ended before $1 and whose logs are to be archived ($2: those of projects that do not say it themselves too),
-- the oldest first, $3 at most.
SELECT j.id
FROM job_runs j
INNER JOIN runs r ON r.id = j.run_id
INNER JOIN pipelines pl ON pl.id = r.pipeline_id
INNER JOIN projects pr ON pr.id = pl.project_id
WHERE
    j.log_lines_live
    AND j.finished_at IS NOT NULL
    AND j.finished_at < $1
    AND j.status NOT IN ('queued', 'running', 'awaiting_approval')
    AND coalesce(pr.log_archive_enabled, $2)
ORDER BY j.finished_at
LIMIT $3;

-- name: begin
-- The attempt whose log is to be archived; no row when somebody else archives it, or there is nothing to do any more.
SELECT attempt FROM job_runs
WHERE
    id = $1
    AND log_lines_live
    AND status NOT IN ('queued', 'running', 'awaiting_approval')
    AND pg_try_advisory_xact_lock(hashtextextended('gocdnext.archive.' || $1::text, 0));

-- name: page
-- One page of a job's lines in order, from the line after (seq $2, at $3).
SELECT
    cursor,
    seq,
    at,
    stream,
    text
FROM log_lines
WHERE job_run_id = $1 AND (seq, at) > ($2::bigint, $3::timestamptz)
ORDER BY seq, at
LIMIT $4;

-- name: settle
-- Says that no line of attempt $2 is in the table any more; no row when the job has gone on meanwhile.
UPDATE job_runs
SET log_lines_live = FALSE
WHERE id = $1 AND attempt = $2 AND log_lines_live AND status NOT IN ('queued', 'running', 'awaiting_approval')
RETURNING id;

-- name: keep
-- Where the lines of a job are now.
INSERT INTO log_archives (
    job_run_id,
    storage_key,
    lines,
    size_bytes,
    archived_at,
    block_seqs,
    block_lines,
    block_offsets,
    cursor_lines,
    cursors
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: delete_lines
-- The lines that are archived.
DELETE FROM log_lines
WHERE job_run_id = $1;

-- name: find
-- The archives of these jobs, as far as there are any.
SELECT
    job_run_id,
    storage_key
FROM log_archives
WHERE job_run_id = ANY($1::uuid []);

-- name: of_run
-- The archives of the jobs of run $1.
SELECT
    a.job_run_id,
    a.storage_key
FROM job_runs j
INNER JOIN log_archives a ON a.job_run_id = j.id
WHERE j.run_id = $1;

-- name: indexes
-- Where the blocks of these archives are.
SELECT
    storage_key,
    lines,
    size_bytes,
    block_seqs,
    block_lines,
    block_offsets
FROM log_archives
WHERE storage_key = ANY($1::text []);

-- name: cursors
-- Which places the lines of the archive $1 have in the log of their run; empty when that was not kept yet.
SELECT
    cursor_lines,
    cursors
FROM log_archives
WHERE storage_key = $1;

-- name: of_project
-- What the project $1 says of archiving; no row when there is no such project.
SELECT log_archive_enabled FROM projects
WHERE slug = $1;

-- name: set_of_project
-- Sets what the project $1 says of archiving; no row when there is no such project.
UPDATE projects
SET log_archive_enabled = $2, updated_at = $3
WHERE slug = $1
RETURNING id;
