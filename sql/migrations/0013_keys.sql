-- Keys that job identity tokens are signed with, and the stores outside of the database that values of secrets come from.

CREATE TABLE oidc_keys (
    id uuid PRIMARY KEY,
    -- The RFC 7638 thumbprint of the public part.
    kid text NOT NULL UNIQUE,
    alg text NOT NULL DEFAULT 'RS256',
    -- Modulus and exponent, base64url: what verifiers are given.
    public_n text NOT NULL,
    public_e text NOT NULL,
    -- PKCS#8, sealed by the server. Gone as soon as the key signs no more.
    private_sealed bytea,
    key_id text,
    created_at timestamptz NOT NULL,
    -- It signs no more, and stays published until the last token of it has ended.
    retired_at timestamptz,
    published_until timestamptz,
    -- It signs no more and is not published either.
    revoked_at timestamptz,
    CHECK ((private_sealed IS NULL) = (key_id IS NULL)),
    CHECK ((retired_at IS NULL) = (published_until IS NULL)),
    CHECK ((private_sealed IS NULL) = (retired_at IS NOT NULL OR revoked_at IS NOT NULL))
);
-- One key signs.
CREATE UNIQUE INDEX oidc_keys_active ON oidc_keys ((TRUE)) WHERE retired_at IS NULL AND revoked_at IS NULL;

CREATE TABLE secret_backends (
    id uuid PRIMARY KEY,
    source text NOT NULL UNIQUE CHECK (source = 'vault'),
    enabled boolean NOT NULL,
    -- What is no secret of its settings.
    value jsonb NOT NULL,
    -- A JSON object of its credentials, sealed by the server.
    credentials_sealed bytea,
    key_id text,
    updated_at timestamptz NOT NULL,
    CHECK ((credentials_sealed IS NULL) = (key_id IS NULL))
);
