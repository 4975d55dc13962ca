-- The runs that ended lately, for the figures of the dashboard: read from the index alone.
CREATE INDEX runs_by_end ON runs (finished_at) INCLUDE (status, started_at) WHERE finished_at IS NOT NULL;
