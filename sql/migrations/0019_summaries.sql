-- What several lists say of runs, written once. PostgreSQL puts the body of such a function into the statement that uses it,
-- so it costs nothing and is planned there.

-- The stages of a run with their jobs, as the API writes them; null for a run without any.
CREATE FUNCTION run_stages(of_run uuid) RETURNS TABLE (stages json) LANGUAGE sql STABLE AS $$
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
WHERE s.run_id = of_run
$$;

-- The first revision of a run that has a branch, else its first one, with what is known of the commit. No row: it has none.
CREATE FUNCTION run_revision(revisions jsonb)
RETURNS TABLE (revision text, branch text, message text, author text) LANGUAGE sql STABLE AS $$
SELECT
    e.value ->> 'revision',
    e.value ->> 'branch',
    mo.message,
    mo.author
FROM jsonb_each(revisions) AS e
LEFT JOIN modifications mo
    ON
        mo.material_id = e.key::uuid
        AND mo.revision = e.value ->> 'revision'
        AND mo.branch = e.value ->> 'branch'
ORDER BY coalesce(e.value ->> 'branch', '') = '', e.key
LIMIT 1
$$;

-- Success rate and medians, in seconds, of the runs since then of a project or of a pipeline; nothing is counted for null.
-- Stages with a gate are not process time.
CREATE FUNCTION run_figures(subject uuid, since timestamptz)
RETURNS TABLE (
    runs_considered integer,
    success_rate double precision,
    lead_time_p50_seconds double precision,
    process_time_p50_seconds double precision
) LANGUAGE sql STABLE AS $$
SELECT
    count(*)::integer,
    avg((r.status = 'success')::integer)::double precision,
    percentile_cont(0.5) WITHIN GROUP (
        ORDER BY extract(EPOCH FROM r.finished_at - r.started_at)::double precision
    ),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY w.seconds)
FROM pipelines pl
INNER JOIN runs r
    ON
        r.pipeline_id = pl.id
        AND r.created_at >= since
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
WHERE pl.project_id = subject OR pl.id = subject
$$;
