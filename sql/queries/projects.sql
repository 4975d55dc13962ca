-- Projects and their pipelines, for people to read.

-- name: id_of_slug
-- The project of a slug.
SELECT id FROM projects
WHERE slug = $1;

-- name: summaries
-- Projects by newest change ($1 one slug or null, $2 limit, $3 offset), with counts and the newest run.
WITH chosen AS (
    SELECT p.* FROM projects p
    WHERE $1::text IS NULL OR p.slug = $1
    ORDER BY p.updated_at DESC, p.id
    LIMIT $2 OFFSET $3
)

SELECT
    p.id,
    p.slug,
    p.name,
    p.description,
    p.config_path,
    p.created_at,
    p.updated_at,
    s.id AS scm_id,
    s.provider,
    s.url AS scm_url,
    s.clone_url,
    s.default_branch,
    s.auth_ref,
    s.poll_interval_ns,
    s.last_synced_at,
    s.last_synced_revision,
    s.sync_error,
    (
        SELECT jsonb_agg(jsonb_build_object('key', l.key, 'value', l.value) ORDER BY l.key, l.value)
        FROM project_labels l
        WHERE l.project_id = p.id
    ) AS labels,
    c.pipeline_count,
    c.run_count,
    c.any_run,
    c.any_active,
    c.any_failed,
    c.newest_end,
    n.created_at AS latest_run_at,
    n.cause,
    n.triggered_by,
    n.pr_number,
    n.revision,
    n.branch,
    n.message,
    n.author
FROM chosen p
LEFT JOIN scm_sources s ON s.project_id = p.id
CROSS JOIN LATERAL (
    SELECT
        count(*)::integer AS pipeline_count,
        coalesce(sum(pl.last_counter), 0)::bigint AS run_count,
        coalesce(bool_or(r.status IS NOT NULL), FALSE) AS any_run,
        coalesce(bool_or(r.status IN ('queued', 'running')), FALSE) AS any_active,
        coalesce(bool_or(r.status = 'failed'), FALSE) AS any_failed,
        max(r.finished_at) AS newest_end
    FROM pipelines pl
    LEFT JOIN LATERAL (
        SELECT
            newest.status,
            newest.finished_at
        FROM runs newest
        WHERE newest.pipeline_id = pl.id
        ORDER BY newest.created_at DESC, newest.id DESC
        LIMIT 1
    ) r ON TRUE
    WHERE pl.project_id = p.id
) c
LEFT JOIN LATERAL (
    SELECT
        r.created_at,
        r.cause,
        r.triggered_by,
        r.cause_detail ->> 'pr_number' AS pr_number,
        rev.revision,
        rev.branch,
        mo.message,
        mo.author
    FROM pipelines pl
    CROSS JOIN LATERAL (
        SELECT * FROM runs newest
        WHERE newest.pipeline_id = pl.id
        ORDER BY newest.created_at DESC, newest.id DESC
        LIMIT 1
    ) r
    LEFT JOIN LATERAL (
        SELECT
            e.key::uuid AS material_id,
            e.value ->> 'revision' AS revision,
            e.value ->> 'branch' AS branch
        FROM jsonb_each(r.revisions) AS e
        ORDER BY coalesce(e.value ->> 'branch', '') = '', e.key
        LIMIT 1
    ) rev ON TRUE
    LEFT JOIN modifications mo
        ON mo.material_id = rev.material_id AND mo.revision = rev.revision AND mo.branch = rev.branch
    WHERE pl.project_id = p.id
    ORDER BY r.created_at DESC, r.id DESC
    LIMIT 1
) n ON TRUE
ORDER BY p.updated_at DESC, p.id;

-- name: previews
-- The most pressing pipelines of each project in $1, at most 20 each, with the stages of their newest run as JSON.
SELECT
    chosen.project_id,
    t.id,
    t.name,
    t.status,
    t.created_at,
    d.definition -> 'stages' AS definition_stages,
    (
        SELECT json_agg(
            json_build_object(
                'id', s.id, 'name', s.name, 'ordinal', s.ordinal, 'status', s.status,
                'started_at', utc_text(s.started_at), 'finished_at', utc_text(s.finished_at), 'jobs', j.jobs
            ) ORDER BY s.ordinal
        )
        FROM stage_runs s
        CROSS JOIN LATERAL (
            SELECT json_agg(
                json_build_object(
                    'id', jr.id, 'name', jr.name, 'status', jr.status,
                    'started_at', utc_text(jr.started_at), 'finished_at', utc_text(jr.finished_at)
                ) ORDER BY jr.name, jr.matrix_key
            ) AS jobs
            FROM job_runs jr
            WHERE jr.stage_run_id = s.id
        ) j
        WHERE s.run_id = t.run_id
    ) AS stages
FROM unnest($1::uuid []) AS chosen (project_id)
CROSS JOIN LATERAL (
    SELECT
        pl.id,
        pl.name,
        pl.definition_id,
        r.id AS run_id,
        r.status,
        r.created_at,
        coalesce(array_position(ARRAY['failed', 'running', 'queued', 'canceled', 'success'], r.status), 6) AS place
    FROM pipelines pl
    LEFT JOIN LATERAL (
        SELECT
            newest.id,
            newest.status,
            newest.created_at
        FROM runs newest
        WHERE newest.pipeline_id = pl.id
        ORDER BY newest.created_at DESC, newest.id DESC
        LIMIT 1
    ) r ON TRUE
    WHERE pl.project_id = chosen.project_id
    ORDER BY place, r.created_at DESC NULLS LAST, pl.name
    LIMIT 20
) t
INNER JOIN pipeline_definitions d ON d.id = t.definition_id
ORDER BY chosen.project_id, t.place, t.created_at DESC NULLS LAST, t.name;

-- name: pipelines_of_project
-- Every pipeline of project $1 with its newest run, the stages of that, its upstream edges and its stages' figures.
SELECT
    pl.id,
    pl.name,
    pl.definition_version,
    pl.updated_at,
    d.definition -> 'stages' AS definition_stages,
    (
        SELECT jsonb_agg(
            jsonb_build_object(
                'name', e.job -> 'name', 'stage', e.job -> 'stage', 'approval_gate', e.job ->> 'kind' = 'gate'
            ) ORDER BY e.position
        )
        FROM jsonb_array_elements(d.definition -> 'jobs') WITH ORDINALITY AS e (job, position)
    ) AS definition_jobs,
    r.id AS run_id,
    r.counter,
    r.cause,
    r.status,
    r.has_services,
    r.service_names,
    r.queue_reason,
    r.cancel_reason,
    r.superseded_by,
    r.created_at,
    r.started_at,
    r.finished_at,
    r.triggered_by,
    CASE
        WHEN r.status IN ('queued', 'running') THEN (SELECT count(*) FROM job_runs jr WHERE jr.run_id = r.id)
    END AS open_jobs,
    r.cause_detail ->> 'pr_number' AS pr_number,
    rev.revision,
    rev.branch,
    mo.message,
    mo.author,
    (
        SELECT json_agg(
            json_build_object(
                'id', s.id, 'name', s.name, 'ordinal', s.ordinal, 'status', s.status,
                'started_at', utc_text(s.started_at), 'finished_at', utc_text(s.finished_at), 'jobs', j.jobs
            ) ORDER BY s.ordinal
        )
        FROM stage_runs s
        CROSS JOIN LATERAL (
            SELECT json_agg(
                json_build_object(
                    'id', jr.id, 'name', jr.name, 'status', jr.status,
                    'started_at', utc_text(jr.started_at), 'finished_at', utc_text(jr.finished_at)
                ) ORDER BY jr.name, jr.matrix_key
            ) AS jobs
            FROM job_runs jr
            WHERE jr.stage_run_id = s.id
        ) j
        WHERE s.run_id = r.id
    ) AS stages,
    (
        SELECT jsonb_agg(ma.config ORDER BY ma.fingerprint) FROM materials ma
        WHERE ma.pipeline_id = pl.id AND ma.type = 'upstream'
    ) AS upstreams,
    (
        SELECT jsonb_agg(
            jsonb_build_object(
                'name', f.name, 'runs_considered', f.runs_considered, 'success_rate', f.success_rate,
                'duration_p50_seconds', f.p50, 'duration_p95_seconds', f.p95
            ) ORDER BY f.name
        )
        FROM (
            SELECT
                st.name,
                count(*) AS runs_considered,
                avg((st.status = 'success')::integer)::double precision AS success_rate,
                percentile_cont(0.5) WITHIN GROUP (
                    ORDER BY extract(EPOCH FROM st.finished_at - st.started_at)::double precision
                ) AS p50,
                percentile_cont(0.95) WITHIN GROUP (
                    ORDER BY extract(EPOCH FROM st.finished_at - st.started_at)::double precision
                ) AS p95
            FROM (
                SELECT recent.id FROM runs recent
                WHERE recent.pipeline_id = pl.id AND recent.status IN ('success', 'failed', 'canceled')
                ORDER BY recent.counter DESC
                LIMIT 10
            ) ended
            INNER JOIN stage_runs st
                ON
                    st.run_id = ended.id
                    AND st.started_at IS NOT NULL
                    AND st.finished_at IS NOT NULL
                    AND st.status IN ('success', 'failed', 'canceled')
            WHERE NOT EXISTS (
                SELECT FROM job_runs jr
                INNER JOIN job_gates ga ON ga.job_run_id = jr.id
                WHERE jr.stage_run_id = st.id
            )
            GROUP BY st.name
        ) f
    ) AS stage_stats
FROM pipelines pl
INNER JOIN pipeline_definitions d ON d.id = pl.definition_id
LEFT JOIN LATERAL (
    SELECT * FROM runs newest
    WHERE newest.pipeline_id = pl.id
    ORDER BY newest.created_at DESC, newest.id DESC
    LIMIT 1
) r ON TRUE
LEFT JOIN LATERAL (
    SELECT
        e.key::uuid AS material_id,
        e.value ->> 'revision' AS revision,
        e.value ->> 'branch' AS branch
    FROM jsonb_each(r.revisions) AS e
    ORDER BY coalesce(e.value ->> 'branch', '') = '', e.key
    LIMIT 1
) rev ON TRUE
LEFT JOIN modifications mo
    ON mo.material_id = rev.material_id AND mo.revision = rev.revision AND mo.branch = rev.branch
WHERE pl.project_id = $1
ORDER BY pl.name;

-- name: figures
-- Success rate and medians of the runs since $2, for each id of a project or of a pipeline in $1. Stages with a gate
-- are not process time.
SELECT
    g.id,
    f.*
FROM unnest($1::uuid []) AS g (id)
CROSS JOIN LATERAL (
    SELECT
        count(*)::integer AS runs_considered,
        avg((r.status = 'success')::integer)::double precision AS success_rate,
        percentile_cont(0.5) WITHIN GROUP (
            ORDER BY extract(EPOCH FROM r.finished_at - r.started_at)::double precision
        ) AS lead_time_p50_seconds,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY w.seconds) AS process_time_p50_seconds
    FROM pipelines pl
    INNER JOIN runs r
        ON
            r.pipeline_id = pl.id
            AND r.created_at >= $2
            AND r.status IN ('success', 'failed', 'canceled')
            AND r.started_at IS NOT NULL
            AND r.finished_at IS NOT NULL
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(extract(EPOCH FROM st.finished_at - st.started_at)), 0)::double precision AS seconds
        FROM stage_runs st
        WHERE
            st.run_id = r.id
            AND st.started_at IS NOT NULL
            AND st.finished_at IS NOT NULL
            AND NOT EXISTS (
                SELECT FROM job_runs jr
                INNER JOIN job_gates ga ON ga.job_run_id = jr.id
                WHERE jr.stage_run_id = st.id
            )
    ) w
    WHERE pl.project_id = g.id OR pl.id = g.id
) f;

-- name: pipeline_ids
-- The pipelines of the project with slug $1 by name; one row without an id when it has none, no row without a project.
SELECT pl.id FROM projects p
LEFT JOIN pipelines pl ON pl.project_id = p.id
WHERE p.slug = $1
ORDER BY pl.name;

-- name: pipeline_source
-- The verbatim text a pipeline was applied with.
SELECT source FROM pipelines
WHERE id = $1;
