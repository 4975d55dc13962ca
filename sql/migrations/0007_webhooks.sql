-- Pushes: which run a modification has started, the secrets of webhooks, and the deliveries that came.

ALTER TABLE modifications
-- What it is a revision of: a branch, a tag, or somebody's request to change a branch. The same commit may come as each.
ADD COLUMN kind text NOT NULL DEFAULT 'branch' CHECK (kind IN ('branch', 'tag', 'pull_request')),
-- The run that it started by itself. Null: none (a start by hand looked at the branch), or one that is deleted.
ADD COLUMN run_id uuid REFERENCES runs ON DELETE SET NULL,
DROP CONSTRAINT modifications_material_id_revision_branch_key,
ADD CONSTRAINT modifications_once UNIQUE (material_id, revision, branch, kind);
CREATE INDEX modifications_by_run ON modifications (run_id) WHERE run_id IS NOT NULL;

-- Materials that tags start: a tag is on no branch, so it is not found by fingerprint alone.
CREATE INDEX materials_of_tags ON materials ((config ->> 'branch'))
WHERE type = 'git' AND config -> 'events' ? 'tag';

ALTER TABLE scm_sources
ADD COLUMN webhook_secret bytea,
-- Which key it was sealed with.
ADD COLUMN webhook_key_id text,
ADD CHECK ((webhook_secret IS NULL) = (webhook_key_id IS NULL));

-- What providers sent, what was answered and why (contract-admin 7.7).
CREATE TABLE webhook_deliveries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text NOT NULL,
    event text NOT NULL,
    -- The provider's own name of the delivery; the same one comes again when it is repeated there.
    delivery text NOT NULL DEFAULT '',
    -- The first material that started a run. No foreign key: the delivery stays what it was.
    material_id uuid,
    status text NOT NULL CHECK (status IN ('accepted', 'rejected', 'error', 'ignored', 'skipped')),
    http_status integer NOT NULL,
    error text,
    -- Whether its signature or token was right: only then it may be processed again.
    verified boolean NOT NULL,
    redelivery_of bigint,
    headers jsonb NOT NULL,
    payload jsonb,
    -- The rules that were asked, in their order, and what each said.
    trace jsonb NOT NULL DEFAULT '[]',
    runs uuid [] NOT NULL DEFAULT '{}',
    received_at timestamptz NOT NULL
);
CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (received_at DESC, id DESC);
CREATE INDEX webhook_deliveries_refused ON webhook_deliveries (id) WHERE NOT verified;
