-- Secrets of projects, and global ones. What is secret is sealed by the server; the database never has a key.

CREATE TABLE secrets (
    id uuid PRIMARY KEY,
    -- Null: a global secret, for every project that has none of that name.
    project_id uuid REFERENCES projects ON DELETE CASCADE,
    name text NOT NULL CHECK (name ~ '^[A-Za-z][A-Za-z0-9_]{0,63}$'),
    source text NOT NULL DEFAULT 'db',
    value_sealed bytea,
    -- Which key it was sealed with.
    key_id text,
    ref_path text,
    ref_key text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CHECK (
        CASE
            WHEN source = 'db'
                THEN value_sealed IS NOT NULL AND key_id IS NOT NULL AND ref_path IS NULL AND ref_key IS NULL
            ELSE value_sealed IS NULL AND key_id IS NULL AND ref_path IS NOT NULL
        END
    )
);
CREATE UNIQUE INDEX secrets_of_project ON secrets (project_id, name) WHERE project_id IS NOT NULL;
CREATE UNIQUE INDEX secrets_global ON secrets (name) WHERE project_id IS NULL;
-- What is left to seal anew when the key changes.
CREATE INDEX secrets_by_key ON secrets (key_id, id) WHERE key_id IS NOT NULL;

-- Whether jobs of it need secrets: only then they are looked for.
ALTER TABLE pipeline_definitions
ADD COLUMN needs_secrets boolean NOT NULL GENERATED ALWAYS AS (
    jsonb_path_exists(definition, '$.jobs[*].secrets[*]')
) STORED;
