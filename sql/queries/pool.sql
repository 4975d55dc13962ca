-- name: ping
-- One round trip, to know that the database answers.
SELECT 1;

-- name: moment
-- Which transactions are visible now, and of which start of the server: nothing has changed between two equal answers.
SELECT concat_ws(' ', pg_current_snapshot(), pg_postmaster_start_time());
