-- Archived logs keep the order of their run's lines, for readers that come back later.

ALTER TABLE log_archives
-- How many lines of the job are before each stretch of lines whose cursors are neighbours, and the cursor of its first.
-- Empty for what was archived before they were kept.
ADD COLUMN cursor_lines bigint [] NOT NULL DEFAULT '{}',
ADD COLUMN cursors bigint [] NOT NULL DEFAULT '{}';
