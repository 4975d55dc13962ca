-- The value stream of a project: what `projects.pipelines_of_project` does not say of its pipelines. Changes nothing.

-- name: project
-- The project of a slug, as an answer names it.
SELECT
    p.id,
    p.slug,
    p.name
FROM projects p
WHERE p.slug = $1;

-- name: sources
-- For each pipeline of project $1: its repositories by fingerprint, and whether its definition has services.
SELECT
    pl.id,
    jsonb_path_exists(d.definition, '$."services"[*]') AS has_services,
    (
        SELECT jsonb_agg(
            jsonb_build_object('url', ma.config -> 'url', 'branch', ma.config -> 'branch') ORDER BY ma.fingerprint
        )
        FROM materials ma
        WHERE ma.pipeline_id = pl.id AND ma.type = 'git'
    ) AS repositories
FROM pipelines pl
INNER JOIN pipeline_definitions d ON d.id = pl.definition_id
WHERE pl.project_id = $1;

-- name: waits
-- How long runs since $2 that were started by another run waited for their start, by pair of pipelines of project $1.
SELECT
    up.pipeline_id AS from_id,
    down.pipeline_id AS to_id,
    count(*)::integer AS samples,
    percentile_cont(0.5) WITHIN GROUP (
        ORDER BY extract(EPOCH FROM down.started_at - up.finished_at)::double precision
    ) AS p50_seconds
FROM pipelines pl
INNER JOIN runs down
    ON
        down.pipeline_id = pl.id
        AND down.created_at >= $2
        AND down.cause = 'upstream'
        AND down.started_at IS NOT NULL
INNER JOIN runs up
    ON
        up.id = down.upstream_run_id
        AND up.finished_at <= down.started_at
WHERE pl.project_id = $1
GROUP BY up.pipeline_id, down.pipeline_id;
