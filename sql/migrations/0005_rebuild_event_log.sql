-- The event log anew: columns in an order that leaves no gaps, ids that make a repeated append harmless, the low
-- watermark that tells a reader how far the log is complete, and no CHECK on the path of an append.
--
-- The rows are copied under an exclusive lock. Grants on the table are lost with it: apply sql/roles/ again.

-- Columns of 8 bytes first, those of any length last: 14 bytes less an event than in any other order.
CREATE TABLE event_log_rebuilt (
    position bigint NOT NULL DEFAULT nextval('event_log_position_seq'),
    version bigint NOT NULL,
    -- Taken after the head row is locked, so that times never run backwards within an aggregate; now() would.
    timestamp timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- No foreign key: the trail of a user stays when the user goes.
    user_id bigint,
    event_id uuid NOT NULL DEFAULT gen_random_uuid(),
    is_repeatable boolean NOT NULL DEFAULT FALSE,
    aggregate_id text NOT NULL,
    aggregate_type text NOT NULL,
    event_type text NOT NULL,
    event_data jsonb NOT NULL,
    metadata jsonb
);

INSERT INTO event_log_rebuilt (
    position, version, timestamp, user_id, event_id, aggregate_id, aggregate_type, event_type, event_data, metadata
)
SELECT
    position,
    version,
    timestamp,
    user_id,
    event_id,
    aggregate_id,
    aggregate_type,
    event_type,
    event_data,
    metadata
FROM event_log
ORDER BY position;

ALTER SEQUENCE event_log_position_seq OWNED BY NONE;
-- squawk-ignore ban-drop-table
DROP TABLE event_log;
-- squawk-ignore renaming-table
ALTER TABLE event_log_rebuilt RENAME TO event_log;
ALTER SEQUENCE event_log_position_seq OWNED BY event_log.position;

-- No CHECK on these two tables: the server reads the text of each anew for every statement, 13 of 65 µs of an append.
-- The functions that append check the same, and tell it better.
ALTER TABLE aggregates
-- squawk-ignore ban-drop-constraint
DROP CONSTRAINT aggregates_aggregate_id_length,
-- squawk-ignore ban-drop-constraint
DROP CONSTRAINT aggregates_aggregate_type_length,
-- squawk-ignore ban-drop-constraint
DROP CONSTRAINT aggregates_version_range;

ALTER TABLE event_log
-- squawk-ignore adding-serial-primary-key-field, constraint-missing-not-valid
ADD CONSTRAINT event_log_pkey PRIMARY KEY (aggregate_id, aggregate_type, version);

-- squawk-ignore require-concurrent-index-creation
CREATE INDEX event_log_position_idx ON event_log (position);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX event_log_user_id_idx ON event_log (user_id, position) WHERE user_id IS NOT NULL;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX event_log_timestamp_idx ON event_log USING brin (timestamp);
-- Only ids that callers chose: a repeat can come with no other. With aggregate_id, as Citus asks of a unique index.
-- squawk-ignore require-concurrent-index-creation
CREATE UNIQUE INDEX event_log_event_id_key ON event_log (event_id, aggregate_id) WHERE is_repeatable;

COMMENT ON TABLE event_log IS 'What happened, once and for all: rows are never changed and never deleted.';
COMMENT ON COLUMN event_log.position IS 'Place in the whole log. Complete up to the horizon (sql/events/get_horizon.sql), with gaps where an append was rolled back.';
COMMENT ON COLUMN event_log.is_repeatable IS 'True: the caller chose event_id, and the same append made again finds this row by it.';

CREATE TRIGGER event_log_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON event_log
FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_log_change();

-- Numbers are drawn in order but committed in any: a reader at 9 would miss 8, committed later. So whoever inserts,
-- by whatever statement, first takes a shared lock named for the last number drawn, its low watermark, until it
-- commits or rolls back. What it inserts lies above that. A reader takes the lowest watermark for its horizon.
-- Nobody waits for such a lock. The number is cut to 31 bits, which is what a key of two parts has room for.
-- With the schema in the text, so that an INSERT finds the sequence whatever its search_path is.
DO $$
BEGIN
    EXECUTE format(
        $function$
            CREATE FUNCTION mark_event_log_watermark() RETURNS trigger
            LANGUAGE plpgsql AS $body$
            BEGIN
                -- An expression and no statement, which takes a third less time. It fails only if somebody took such a lock
                -- for himself, by hand.
                IF NOT pg_try_advisory_xact_lock_shared(
                    TG_RELID::integer, (coalesce(pg_sequence_last_value(%1$L::regclass), 0) & 2147483647)::integer
                ) THEN
                    RAISE EXCEPTION 'the watermark of event_log is locked' USING ERRCODE = 'lock_not_available';
                END IF;
                RETURN NULL;
            END
            $body$
        $function$,
        format('%I.event_log_position_seq', current_schema())
    );
END
$$;

CREATE TRIGGER event_log_watermark
BEFORE INSERT ON event_log
FOR EACH STATEMENT EXECUTE FUNCTION mark_event_log_watermark();

-- Also for a session that replicates or restores, where triggers are off: it holds readers back like any other.
ALTER TABLE event_log ENABLE ALWAYS TRIGGER event_log_watermark;

CREATE VIEW event_log_in_flight AS
SELECT
    drawn.position - ((drawn.position - locks.objid::bigint) & 2147483647) AS watermark,
    locks.pid,
    activity.usename AS role,
    activity.application_name,
    activity.client_addr AS client_address,
    activity.state,
    activity.wait_event,
    activity.xact_start AS transaction_start
FROM (SELECT coalesce(pg_sequence_last_value('event_log_position_seq'), 0) AS position) AS drawn
INNER JOIN pg_locks AS locks
    ON locks.locktype = 'advisory'
        AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND locks.classid = 'event_log'::regclass
        AND locks.objsubid = 2
LEFT JOIN pg_stat_activity AS activity ON activity.pid = locks.pid;

COMMENT ON VIEW event_log_in_flight IS 'Transactions that have appended and not ended. No reader goes beyond the lowest watermark among them. pid NULL: a prepared transaction, see pg_prepared_xacts.';
