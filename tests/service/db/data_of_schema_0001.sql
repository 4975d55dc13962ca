-- What the first schema could hold: a project with runs of every ending, agents, log lines in order.
INSERT INTO projects (id, slug, name, created_at, updated_at)
VALUES ('00000000-0000-4000-8000-000000000001', 'acme', 'Acme', now(), now());
INSERT INTO scm_sources (id, project_id, provider, url, clone_url, created_at, updated_at)
VALUES (gen_random_uuid(), '00000000-0000-4000-8000-000000000001', 'github', 'https://github.com/acme/app',
    'https://github.com/acme/app.git', now(), now());
INSERT INTO pipelines (id, project_id, name, definition_id, last_counter, source, source_file, created_at, updated_at)
VALUES ('00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-000000000001', 'ci',
    '00000000-0000-4000-8000-000000000003', 200, 'name: ci', 'ci.yaml', now(), now());
INSERT INTO pipeline_definitions (id, pipeline_id, version, definition, created_at)
VALUES ('00000000-0000-4000-8000-000000000003', '00000000-0000-4000-8000-000000000002', 1,
    '{"name": "ci", "stages": ["build"], "jobs": [{"name": "unit", "stage": "build", "tasks": []}]}', now());
INSERT INTO materials (id, pipeline_id, type, fingerprint, config, created_at)
VALUES ('00000000-0000-4000-8000-000000000004', '00000000-0000-4000-8000-000000000002', 'git', 'abc', '{}', now());
INSERT INTO modifications (material_id, revision, branch, detected_at)
VALUES ('00000000-0000-4000-8000-000000000004', '4be1f0c9', 'main', now());
INSERT INTO runs (id, pipeline_id, definition_id, counter, cause, status, created_at, started_at, finished_at)
SELECT gen_random_uuid(), '00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-000000000003', n, 'webhook',
    (ARRAY ['canceled', 'success', 'failed', 'success'])[n % 4 + 1], now(), now(), now()
FROM generate_series(1, 200) n;
INSERT INTO stage_runs (id, run_id, name, ordinal, status) SELECT gen_random_uuid(), id, 'build', 0, status FROM runs;
INSERT INTO job_runs (id, run_id, stage_run_id, name, status)
SELECT gen_random_uuid(), run_id, id, 'unit', status FROM stage_runs;
INSERT INTO agents (id, name, token_hash, registered_at) VALUES (gen_random_uuid(), 'runner', 'x', now());
SELECT ensure_log_partitions(now(), 2);
INSERT INTO log_cursors (run_id, last) SELECT id, 20 FROM runs WHERE counter <= 20;
INSERT INTO log_lines (job_run_id, run_id, cursor, seq, at, stream, text)
SELECT j.id, j.run_id, n, n, now(), 'stdout', 'line ' || n
FROM job_runs j INNER JOIN runs r ON r.id = j.run_id, generate_series(1, 20) n WHERE r.counter <= 20;
