-- name: ping
-- One round trip, to know that the database answers.
SELECT 1;
