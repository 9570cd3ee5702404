-- Viewers are counted in Redis and flushed to their session: how far that has come stands in the row that it changes, so
-- that a flush made twice, by whoever and after whatever crash, adds nothing. On Citus: nothing new.

ALTER TABLE stream_sessions
ADD COLUMN unique_viewers bigint NOT NULL DEFAULT 0,
ADD COLUMN viewers_epoch bigint NOT NULL DEFAULT 0,
ADD COLUMN viewers_counted bigint NOT NULL DEFAULT 0,
ADD COLUMN viewers_flushed_at timestamptz;

-- One row for each time on air: reading them all takes no time.
ALTER TABLE stream_sessions
-- squawk-ignore constraint-missing-not-valid
ADD CONSTRAINT stream_sessions_unique_viewers_range CHECK (unique_viewers >= 0 AND unique_viewers <= total_viewers);

COMMENT ON COLUMN stream_sessions.unique_viewers IS 'Different viewers, estimated within about 1 %. 0: they were told as numbers only.';
COMMENT ON COLUMN stream_sessions.viewers_epoch IS 'Which counter in Redis was flushed last: the microsecond in which it began. It begins anew where Redis lost it. 0: none.';
COMMENT ON COLUMN stream_sessions.viewers_counted IS 'How much of that counter is in total_viewers. With viewers_epoch the id of the last flush.';
COMMENT ON COLUMN stream_sessions.viewers_flushed_at IS 'When a flush last changed the figures. NULL: none did.';
