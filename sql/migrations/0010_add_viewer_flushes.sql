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

-- Which session is on air is an answer of the cache, too, by which viewers are counted. As the triggers before it:
-- it runs as the owner, and builds the key as rootstream_store/cache/keys.py does.
DO $$
BEGIN
    EXECUTE format(
        $function$
            CREATE FUNCTION invalidate_on_air() RETURNS trigger
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
            BEGIN
                INSERT INTO %1$I.cache_invalidations (key) VALUES ('{stream:' || OLD.id || ':viewers}:session');
                RETURN NULL;
            END
            $body$;
        $function$,
        current_schema()
    );
END
$$;

REVOKE EXECUTE ON FUNCTION invalidate_on_air() FROM PUBLIC;

CREATE TRIGGER streams_invalidate_on_air
AFTER UPDATE OF is_live ON streams
FOR EACH ROW WHEN (OLD.is_live <> NEW.is_live)
EXECUTE FUNCTION invalidate_on_air();

COMMENT ON COLUMN stream_sessions.unique_viewers IS 'Different viewers, estimated within about 1 %. 0: they were told as numbers only.';
COMMENT ON COLUMN stream_sessions.viewers_epoch IS 'Which counter in Redis was flushed last: the microsecond in which it began. It begins anew where Redis lost it. 0: none.';
COMMENT ON COLUMN stream_sessions.viewers_counted IS 'How much of that counter is in total_viewers. With viewers_epoch the id of the last flush.';
COMMENT ON COLUMN stream_sessions.viewers_flushed_at IS 'When a flush last changed the figures. NULL: none did.';
