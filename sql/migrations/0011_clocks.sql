-- Clocks and polls: when schedules fire next, and what repositories said when they were asked.

-- The schedule of a cron material. Whoever moves `next_at` on has the fire.
CREATE TABLE cron_state (
    material_id uuid PRIMARY KEY REFERENCES materials ON DELETE CASCADE,
    -- Null: the schedule has no time any more.
    next_at timestamptz,
    last_fired_at timestamptz
);
CREATE INDEX cron_state_due ON cron_state (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX materials_with_schedule ON materials (id) WHERE type = 'cron';

ALTER TABLE scm_sources
-- How often the project's git materials are polled that do not say it themselves; 0: not at all.
ADD COLUMN poll_interval_ns bigint NOT NULL DEFAULT 0;

-- When each repository was asked last, and how that went, for all materials of it together.
CREATE TABLE repository_polls (
    -- SHA-256 of the url as the materials write it: with another spelling it may be reached with other rights.
    repository bytea PRIMARY KEY,
    asked_at timestamptz NOT NULL,
    -- In a row, up to now.
    failures integer NOT NULL DEFAULT 0,
    -- The part of its interval by which it is asked earlier, so that not all are asked at once.
    jitter real NOT NULL
);
CREATE INDEX repository_polls_by_age ON repository_polls (asked_at);

-- What was found at the branch of each polled material.
CREATE TABLE material_poll_state (
    material_id uuid PRIMARY KEY REFERENCES materials ON DELETE CASCADE,
    last_polled_at timestamptz NOT NULL,
    last_head_sha text,
    last_poll_error text
);
