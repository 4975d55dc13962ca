-- What agents report of their jobs beside logs and results: test cases, coverage, services.

-- The cases of a job's newest batch. `attempt` says of which: rows of an attempt that is repeated count for nothing.
CREATE TABLE test_results (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    job_run_id uuid NOT NULL REFERENCES job_runs ON DELETE CASCADE,
    attempt integer NOT NULL,
    suite text NOT NULL,
    classname text NOT NULL,
    name text NOT NULL,
    status text NOT NULL CHECK (status IN ('passed', 'failed', 'skipped', 'errored')),
    duration_ms bigint NOT NULL,
    failure_type text NOT NULL,
    failure_message text NOT NULL,
    failure_detail text NOT NULL,
    system_out text NOT NULL,
    system_err text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX test_results_by_job ON test_results (job_run_id);
-- Names are longer than an index entry may be; a hash of both finds a case's history, newest first.
CREATE INDEX test_results_history
ON test_results (hashtextextended(name, hashtextextended(classname, 0)), created_at DESC);

CREATE TABLE coverage_reports (
    job_run_id uuid PRIMARY KEY REFERENCES job_runs ON DELETE CASCADE,
    attempt integer NOT NULL,
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    pipeline_id uuid NOT NULL REFERENCES pipelines ON DELETE CASCADE,
    job_name text NOT NULL,
    matrix_key text NOT NULL,
    format text NOT NULL,
    lines_covered bigint NOT NULL,
    lines_total bigint NOT NULL CHECK (lines_covered BETWEEN 0 AND lines_total),
    packages jsonb NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX coverage_reports_by_run ON coverage_reports (run_id);
CREATE INDEX coverage_reports_series ON coverage_reports (pipeline_id, job_name, matrix_key, created_at DESC);

CREATE TABLE service_runs (
    id uuid PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    name text NOT NULL,
    image text NOT NULL,
    pod_name text NOT NULL,
    status text NOT NULL CHECK (status IN ('starting', 'ready', 'stopped', 'failed')),
    error text NOT NULL,
    started_at timestamptz,
    ready_at timestamptz,
    stopped_at timestamptz,
    UNIQUE (run_id, name)
);

-- The newest service generation of a run whose clean-up an agent has confirmed; -1 is none.
ALTER TABLE runs ADD COLUMN services_cleaned bigint NOT NULL DEFAULT -1;
CREATE INDEX runs_services_left ON runs (finished_at)
WHERE has_services AND finished_at IS NOT NULL AND services_cleaned < service_generation;
