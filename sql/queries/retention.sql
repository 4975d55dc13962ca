-- The plan of retention: a rehearsal of what sweepers do.

-- name: limit_waiting
-- For the rest of the transaction no lock is waited for longer than this.
SELECT set_config('lock_timeout', $1, TRUE);
