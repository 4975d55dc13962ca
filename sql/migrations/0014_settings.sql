-- Settings of projects and of the server: labels, credentials for hosts of repositories, runner profiles.

CREATE TABLE project_labels (
    project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    key text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (project_id, key, value)
);

-- What the server and its agents sign in with at a host of repositories. The token is sealed by the server.
CREATE TABLE scm_credentials (
    id uuid PRIMARY KEY,
    provider text NOT NULL CHECK (provider IN ('github', 'gitlab', 'bitbucket')),
    -- Lower case, with the port where there is one, without a scheme.
    host text NOT NULL,
    api_base text NOT NULL DEFAULT '',
    display_name text NOT NULL DEFAULT '',
    auth_ref bytea NOT NULL,
    -- Which key it was sealed with.
    key_id text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (provider, host)
);
CREATE INDEX scm_credentials_by_key ON scm_credentials (key_id, id);

-- What jobs that name one get besides what they say themselves.
CREATE TABLE runner_profiles (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    description text NOT NULL DEFAULT '',
    engine text NOT NULL CHECK (engine = 'kubernetes'),
    default_image text NOT NULL DEFAULT '',
    default_cpu_request text NOT NULL DEFAULT '',
    default_cpu_limit text NOT NULL DEFAULT '',
    default_mem_request text NOT NULL DEFAULT '',
    default_mem_limit text NOT NULL DEFAULT '',
    max_cpu text NOT NULL DEFAULT '',
    max_mem text NOT NULL DEFAULT '',
    tags text [] NOT NULL DEFAULT '{}',
    config jsonb NOT NULL DEFAULT '{}',
    node_selector jsonb NOT NULL DEFAULT '{}',
    tolerations jsonb NOT NULL DEFAULT '[]',
    preferred_node_affinity jsonb NOT NULL DEFAULT '[]',
    env jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- Secret variables of profiles: a value, sealed, or the name of a global secret that is looked up for each job.
CREATE TABLE runner_profile_secrets (
    id uuid PRIMARY KEY,
    profile_id uuid NOT NULL REFERENCES runner_profiles ON DELETE CASCADE,
    key text NOT NULL,
    value_sealed bytea,
    key_id text,
    global_name text,
    UNIQUE (profile_id, key),
    CHECK ((value_sealed IS NULL) = (key_id IS NULL)),
    CHECK ((value_sealed IS NULL) <> (global_name IS NULL))
);
CREATE INDEX runner_profile_secrets_by_key ON runner_profile_secrets (key_id, id) WHERE key_id IS NOT NULL;
