-- Signing in by way of GitHub or an OpenID provider.

CREATE TABLE auth_providers (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    kind text NOT NULL CHECK (kind IN ('github', 'oidc')),
    display_name text NOT NULL DEFAULT '',
    client_id text NOT NULL,
    -- Sealed; `key_id` names the key.
    client_secret bytea NOT NULL,
    key_id text NOT NULL,
    issuer text NOT NULL DEFAULT '',
    github_api_base text NOT NULL DEFAULT '',
    enabled boolean NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CHECK ((kind = 'oidc') = (issuer <> ''))
);

-- Sign-ins that were begun, each for one browser and for minutes. What nonce and PKCE verifier follow from is in the
-- browser and in the address it comes back with; here are only hashes.
CREATE TABLE auth_states (
    state_hash bytea PRIMARY KEY CHECK (length(state_hash) = 32),
    browser_hash bytea NOT NULL CHECK (length(browser_hash) = 32),
    provider text NOT NULL,
    redirect_to text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX auth_states_by_end ON auth_states (expires_at);

-- Who vouched for an account of a provider at its first sign-in. A provider of the same name that asks somebody else must
-- not hand the accounts of one person to another who has the same subject there.
ALTER TABLE users ADD COLUMN issuer text NOT NULL DEFAULT '';
