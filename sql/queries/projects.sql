-- Projects and their pipelines, for people to read.

-- name: id_of_slug
-- The project of a slug.
SELECT id FROM projects
WHERE slug = $1;

-- name: summaries
-- Projects by newest change ($1 one slug or null, $2 limit, $3 offset), with counts, the newest run, $7 previews and the $8
-- newest runs of each, and the figures since $4 but of those whose runs are still in the state that is known ($5, $6).
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
    c.state,
    week.*,
    n.created_at AS latest_run_at,
    n.cause,
    n.triggered_by,
    n.pr_number,
    n.revision,
    n.branch,
    n.message,
    n.author,
    t.previews,
    recent.runs
FROM chosen p
LEFT JOIN scm_sources s ON s.project_id = p.id
CROSS JOIN LATERAL (
    SELECT
        count(*)::integer AS pipeline_count,
        coalesce(sum(pl.last_counter), 0)::bigint AS run_count,
        coalesce(bool_or(r.status IS NOT NULL), FALSE) AS any_run,
        coalesce(bool_or(r.status IN ('queued', 'running')), FALSE) AS any_active,
        coalesce(bool_or(r.status = 'failed'), FALSE) AS any_failed,
        concat_ws(
            ' ', sum(pl.last_counter), max(r.finished_at), bool_or(r.status IN ('queued', 'running'))
        ) AS state
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
LEFT JOIN unnest($5::uuid [], $6::text []) AS known (id, state) ON known.id = p.id AND known.state = c.state
CROSS JOIN LATERAL run_figures(CASE WHEN known.id IS NULL THEN p.id END, $4) week
LEFT JOIN LATERAL (
    SELECT
        r.created_at,
        r.cause,
        r.triggered_by,
        r.cause_detail ->> 'pr_number' AS pr_number,
        rev.*
    FROM pipelines pl
    CROSS JOIN LATERAL (
        SELECT * FROM runs newest
        WHERE newest.pipeline_id = pl.id
        ORDER BY newest.created_at DESC, newest.id DESC
        LIMIT 1
    ) r
    LEFT JOIN LATERAL run_revision(r.revisions) rev ON TRUE
    WHERE pl.project_id = p.id
    ORDER BY r.created_at DESC, r.id DESC
    LIMIT 1
) n ON TRUE
CROSS JOIN LATERAL (
    SELECT json_agg(
        json_build_object(
            'id', top.id, 'name', top.name, 'latest_run_status', coalesce(top.status, ''),
            'latest_run_at', utc_text(top.created_at), 'definition_stages', coalesce(d.definition -> 'stages', '[]'),
            'latest_run_stages', coalesce(st.stages, '[]')
        ) ORDER BY top.place, top.created_at DESC NULLS LAST, top.name
    ) AS previews
    FROM (
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
        WHERE pl.project_id = p.id
        ORDER BY place, r.created_at DESC NULLS LAST, pl.name
        LIMIT $7
    ) top
    INNER JOIN pipeline_definitions d ON d.id = top.definition_id
    CROSS JOIN LATERAL run_stages(top.run_id) st
) t
CROSS JOIN LATERAL (
    SELECT jsonb_agg(
        jsonb_build_object(
            'id', r.id, 'pipeline_id', r.pipeline_id, 'pipeline_name', r.pipeline_name, 'counter', r.counter,
            'cause', r.cause, 'status', r.status, 'has_services', r.has_services, 'service_names', r.service_names,
            'queue_reason', coalesce(r.queue_reason, ''), 'cancel_reason', coalesce(r.cancel_reason, ''),
            'superseded_by', r.superseded_by, 'created_at', utc_text(r.created_at),
            'started_at', utc_text(r.started_at), 'finished_at', utc_text(r.finished_at),
            'triggered_by', coalesce(r.triggered_by, ''),
            'open_jobs', CASE
                WHEN r.status IN ('queued', 'running')
                    THEN (SELECT count(*) FROM job_runs jr WHERE jr.run_id = r.id)
            END
        ) ORDER BY r.created_at DESC, r.id DESC
    ) AS runs
    FROM (
        SELECT
            newest.*,
            pl.name AS pipeline_name
        FROM pipelines pl
        CROSS JOIN LATERAL (
            SELECT * FROM runs
            WHERE runs.pipeline_id = pl.id
            ORDER BY runs.created_at DESC, runs.id DESC
            LIMIT $8
        ) newest
        WHERE pl.project_id = p.id
        ORDER BY newest.created_at DESC, newest.id DESC
        LIMIT $8
    ) r
) recent
ORDER BY p.updated_at DESC, p.id;

-- name: pipelines_of_project
-- Every pipeline of the project with slug $1 with its newest run, the stages of that, its upstream edges, its stages'
-- figures, and its own since $2 unless its newest run is still in the state that is known ($3, $4).
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
    rev.*,
    st.stages,
    week.*,
    concat_ws(' ', r.id, r.status) AS state,
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
FROM projects p
INNER JOIN pipelines pl ON pl.project_id = p.id
INNER JOIN pipeline_definitions d ON d.id = pl.definition_id
LEFT JOIN LATERAL (
    SELECT * FROM runs newest
    WHERE newest.pipeline_id = pl.id
    ORDER BY newest.created_at DESC, newest.id DESC
    LIMIT 1
) r ON TRUE
LEFT JOIN LATERAL run_revision(r.revisions) rev ON TRUE
CROSS JOIN LATERAL run_stages(r.id) st
LEFT JOIN unnest($3::uuid [], $4::text []) AS known (id, state)
    ON known.id = pl.id AND known.state = concat_ws(' ', r.id, r.status)
CROSS JOIN LATERAL run_figures(CASE WHEN known.id IS NULL THEN pl.id END, $2) week
WHERE p.slug = $1
ORDER BY pl.name;

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
