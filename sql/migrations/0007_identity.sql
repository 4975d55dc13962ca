-- Who may sign in: people, service accounts, their sessions and tokens, and the groups that gates ask for.

-- The shape of `users` is contractual (contract-admin 16): other programs write accounts into it.
CREATE TABLE users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email text NOT NULL CHECK (length(email) BETWEEN 1 AND 320),
    name text NOT NULL DEFAULT '',
    avatar_url text NOT NULL DEFAULT '',
    provider text NOT NULL,
    external_id text NOT NULL,
    -- `user` is what the reference's command line writes; it counts as maintainer.
    role text NOT NULL DEFAULT 'viewer' CHECK (role IN ('admin', 'maintainer', 'user', 'viewer')),
    disabled_at timestamptz,
    last_login_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- Local accounts only. The ASCII text of the hash: `$argon2id$…`, or `$2…` of the reference until the next sign-in.
    password_hash bytea,
    UNIQUE (provider, external_id)
);
CREATE INDEX users_by_email ON users (email);

CREATE TABLE service_accounts (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    description text NOT NULL DEFAULT '',
    role text NOT NULL CHECK (role IN ('admin', 'maintainer', 'viewer')),
    created_by uuid REFERENCES users ON DELETE SET NULL,
    disabled_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- A session is known by the SHA-256 of its cookie; the cookie itself is kept nowhere.
CREATE TABLE user_sessions (
    id bytea PRIMARY KEY CHECK (length(id) = 32),
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    user_agent text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX user_sessions_by_user ON user_sessions (user_id, created_at);
CREATE INDEX user_sessions_by_end ON user_sessions (expires_at);

CREATE TABLE api_tokens (
    id uuid PRIMARY KEY,
    user_id uuid REFERENCES users ON DELETE CASCADE,
    service_account_id uuid REFERENCES service_accounts ON DELETE CASCADE,
    name text NOT NULL,
    -- SHA-256, in hexadecimal, of the token behind its prefix.
    hash text NOT NULL UNIQUE,
    prefix text NOT NULL,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL,
    CHECK ((user_id IS NULL) <> (service_account_id IS NULL))
);
CREATE INDEX api_tokens_by_user ON api_tokens (user_id, created_at) WHERE user_id IS NOT NULL;
CREATE INDEX api_tokens_by_service_account ON api_tokens (service_account_id, created_at)
WHERE service_account_id IS NOT NULL;

CREATE TABLE user_preferences (
    user_id uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    preferences jsonb NOT NULL,
    updated_at timestamptz NOT NULL
);

-- Groups of people who may open gates (spec-execution 8).
CREATE TABLE groups (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    description text NOT NULL DEFAULT '',
    created_by uuid REFERENCES users ON DELETE SET NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE group_members (
    group_id uuid NOT NULL REFERENCES groups ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    added_by uuid REFERENCES users ON DELETE SET NULL,
    added_at timestamptz NOT NULL,
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX group_members_by_user ON group_members (user_id);
