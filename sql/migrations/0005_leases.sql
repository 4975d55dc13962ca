-- Agents whose process keeps its jobs through a break of its stream (docs/concepts.md, "Lease").

ALTER TABLE agents
-- SHA-256 of the secret that the process came to with its last registration; empty: it has no lease.
ADD COLUMN lease_hash text NOT NULL DEFAULT '',
ADD COLUMN lease_seconds integer NOT NULL DEFAULT 0;
