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
