-- Packed segments for the events of closed aggregates, and the door through which alone events leave event_log.
--
-- Apply sql/roles/ again. On Citus event_segments is distributed by aggregate_id, colocated with event_log.

-- A column of the events as one array, in the order of their versions, which have no gaps within a segment, and of their
-- positions: equal values lie side by side and compress well, and every value stays exactly what it was.
CREATE TABLE event_segments (
    first_version bigint NOT NULL,
    last_version bigint NOT NULL,
    first_position bigint NOT NULL,
    last_position bigint NOT NULL,
    event_count bigint NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT now(),
    aggregate_id text NOT NULL,
    aggregate_type text NOT NULL,
    positions bigint [] NOT NULL,
    timestamps timestamptz [] NOT NULL,
    user_ids bigint [] NOT NULL,
    event_ids uuid [] NOT NULL,
    are_repeatable boolean [] NOT NULL,
    event_types text [] NOT NULL,
    event_data jsonb [] NOT NULL,
    metadata jsonb [] NOT NULL,
    CONSTRAINT event_segments_pkey PRIMARY KEY (aggregate_id, aggregate_type, first_version),
    CONSTRAINT event_segments_version_order CHECK (1 <= first_version AND first_version <= last_version),
    CONSTRAINT event_segments_position_order CHECK (first_position <= last_position),
    CONSTRAINT event_segments_event_count_sum CHECK (
        event_count = last_version - first_version + 1
        AND event_count = cardinality(positions)
        AND event_count = cardinality(timestamps)
        AND event_count = cardinality(user_ids)
        AND event_count = cardinality(event_ids)
        AND event_count = cardinality(are_repeatable)
        AND event_count = cardinality(event_types)
        AND event_count = cardinality(event_data)
        AND event_count = cardinality(metadata)
    )
) WITH (toast_tuple_target = 128); -- compressed also where the aggregate had only a few events

-- Compressed, but in the row itself while they fit: each value that is elsewhere costs a look at another index.
ALTER TABLE event_segments
ALTER COLUMN positions SET STORAGE MAIN,
ALTER COLUMN timestamps SET STORAGE MAIN,
ALTER COLUMN user_ids SET STORAGE MAIN,
ALTER COLUMN are_repeatable SET STORAGE MAIN,
ALTER COLUMN event_types SET STORAGE MAIN;

-- Which segments have events between two positions?
CREATE INDEX event_segments_covers_idx ON event_segments USING gist (int8range(first_position, last_position, '[]'));
CREATE INDEX event_segments_first_position_idx ON event_segments (first_position);
-- Entries go to their place at once: segments are written rarely, and no reader has to look through a list.
CREATE INDEX event_segments_user_ids_idx ON event_segments USING gin (user_ids) WITH (fastupdate = off);

COMMENT ON TABLE event_segments IS 'Archived events, up to a thousand of one aggregate in a row; read them through event_log_archived.';

-- The events of a segment from one to another, counted from 1. Of long values only what is asked for is copied. The server
-- puts the arguments in place of their names, many times: let them be columns, not expressions.
CREATE FUNCTION unpack_events(segment event_segments, from_number integer, to_number integer)
RETURNS TABLE (
    "position" bigint,
    version bigint,
    "timestamp" timestamptz,
    user_id bigint,
    event_id uuid,
    is_repeatable boolean,
    event_type text,
    event_data jsonb,
    metadata jsonb
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT
    events.position,
    (segment).first_version + from_number + events.number - 2 AS version,
    events.timestamp,
    events.user_id,
    events.event_id,
    events.is_repeatable,
    events.event_type,
    events.event_data,
    events.metadata
FROM
    unnest(
        (segment).positions[from_number:to_number],
        (segment).timestamps[from_number:to_number],
        (segment).user_ids[from_number:to_number],
        (segment).event_ids[from_number:to_number],
        (segment).are_repeatable[from_number:to_number],
        (segment).event_types[from_number:to_number],
        (segment).event_data[from_number:to_number],
        (segment).metadata[from_number:to_number]
    ) WITH ORDINALITY AS events (
        position, timestamp, user_id, event_id, is_repeatable, event_type, event_data, metadata, number
    );
END;

CREATE VIEW event_log_archived AS
SELECT
    events.position,
    events.version,
    events.timestamp,
    events.user_id,
    events.event_id,
    events.is_repeatable,
    segments.aggregate_id,
    segments.aggregate_type,
    events.event_type,
    events.event_data,
    events.metadata,
    segments.first_version,
    segments.last_version,
    segments.first_position,
    segments.last_position,
    int8range(segments.first_position, segments.last_position, '[]') AS covers,
    segments.user_ids
FROM event_segments AS segments
CROSS JOIN LATERAL unpack_events(segments, 1, 1000000) AS events;

COMMENT ON VIEW event_log_archived IS 'Archived events with the columns of event_log. Conditions on the columns of the segment (first_version, last_version, covers, user_ids) find the segments by an index, those on the event only sift what they hold.';

-- Who opens the door says so in a setting of the transaction, for one statement of one of the functions below. That is a
-- rail, not a lock: the lock is that the application's role may neither UPDATE nor DELETE nor call these functions.
CREATE OR REPLACE FUNCTION refuse_event_log_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP || ' ' || TG_TABLE_NAME = current_setting('rootstream.event_log_door', TRUE) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% on % is not allowed: the log is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER event_segments_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON event_segments
FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_log_change();

-- Moves the events of these aggregates, each whole, into segments: of those that are closed and have no event at or after
-- `before` or beyond `to_position`. One that somebody appends to just now is left alone.
CREATE FUNCTION archive_events(
    aggregate_ids text [], aggregate_types text [], before timestamptz, to_position bigint
) RETURNS TABLE (aggregates bigint, events bigint, segments bigint, bytes_before bigint, bytes_after bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    ids text[];
    types text[];
BEGIN
    -- The head rows are held until the end of the transaction, so that nobody appends or reopens meanwhile.
    SELECT array_agg(held.aggregate_id), array_agg(held.aggregate_type)
    INTO ids, types
    FROM (
        SELECT heads.aggregate_id, heads.aggregate_type
        FROM aggregates AS heads
        INNER JOIN unnest(archive_events.aggregate_ids, archive_events.aggregate_types) AS given (id, type)
            ON heads.aggregate_id = given.id AND heads.aggregate_type = given.type
        WHERE heads.is_closed
        ORDER BY heads.aggregate_id, heads.aggregate_type
        FOR UPDATE OF heads SKIP LOCKED
    ) AS held;

    -- Looked at again, now that nothing can be added.
    SELECT array_agg(old.id), array_agg(old.type)
    INTO ids, types
    FROM unnest(ids, types) AS old (id, type)
    WHERE NOT EXISTS (
        SELECT 1
        FROM event_log
        WHERE event_log.aggregate_id = old.id
            AND event_log.aggregate_type = old.type
            AND (event_log.timestamp >= archive_events.before OR event_log.position > archive_events.to_position)
    );

    PERFORM set_config('rootstream.event_log_door', 'DELETE event_log', TRUE);
    WITH
    moved AS (
        DELETE FROM event_log
        USING unnest(ids, types) AS old (id, type)
        WHERE event_log.aggregate_id = old.id AND event_log.aggregate_type = old.type
        RETURNING event_log.*
    ),
    measured AS (
        SELECT
            moved.*,
            octet_length(moved.event_data::text) + coalesce(octet_length(moved.metadata::text), 0) AS bytes,
            row_number() OVER aggregate AS number,
            CASE WHEN lag(moved.position) OVER aggregate > moved.position THEN 1 ELSE 0 END AS turns
        FROM moved
        WINDOW aggregate AS (PARTITION BY moved.aggregate_id, moved.aggregate_type ORDER BY moved.version)
    ),
    -- A segment ends after a thousand events, after 4 MiB of data, where a version is missing, and where positions go
    -- back, which only plain SQL can bring about.
    cut AS (
        SELECT
            measured.*,
            measured.version - measured.number AS run,
            (measured.number - 1) / 1000 AS thousand,
            floor(sum(measured.bytes) OVER aggregate / 4194304) AS part,
            sum(measured.turns) OVER aggregate AS turn
        FROM measured
        WINDOW aggregate AS (PARTITION BY measured.aggregate_id, measured.aggregate_type ORDER BY measured.version)
    ),
    packed AS (
        INSERT INTO event_segments (
            aggregate_id, aggregate_type, first_version, last_version, first_position, last_position, event_count,
            positions, timestamps, user_ids, event_ids, are_repeatable, event_types, event_data, metadata
        )
        SELECT
            cut.aggregate_id,
            cut.aggregate_type,
            min(cut.version),
            max(cut.version),
            min(cut.position),
            max(cut.position),
            count(*),
            array_agg(cut.position ORDER BY cut.version),
            array_agg(cut.timestamp ORDER BY cut.version),
            array_agg(cut.user_id ORDER BY cut.version),
            array_agg(cut.event_id ORDER BY cut.version),
            array_agg(cut.is_repeatable ORDER BY cut.version),
            array_agg(cut.event_type ORDER BY cut.version),
            array_agg(cut.event_data ORDER BY cut.version),
            array_agg(cut.metadata ORDER BY cut.version)
        FROM cut
        GROUP BY cut.aggregate_id, cut.aggregate_type, cut.run, cut.thousand, cut.part, cut.turn
        RETURNING event_segments.event_count
    )
    SELECT
        (SELECT count(DISTINCT (moved.aggregate_id, moved.aggregate_type)) FROM moved),
        (SELECT count(*) FROM moved),
        (SELECT count(*) FROM packed),
        -- With the header of a row and its pointer.
        (SELECT coalesce(sum(pg_column_size(moved.*) + 4), 0)::bigint FROM moved)
    INTO archive_events.aggregates, archive_events.events, archive_events.segments, archive_events.bytes_before;
    PERFORM set_config('rootstream.event_log_door', '', TRUE);

    -- As stored, compressed.
    SELECT
        coalesce(sum(
            28 + pg_column_size(new.aggregate_id) + pg_column_size(new.aggregate_type) + 48
            + pg_column_size(new.positions) + pg_column_size(new.timestamps) + pg_column_size(new.user_ids)
            + pg_column_size(new.event_ids) + pg_column_size(new.are_repeatable)
            + pg_column_size(new.event_types) + pg_column_size(new.event_data) + pg_column_size(new.metadata)
        ), 0)
    INTO archive_events.bytes_after
    FROM event_segments AS new
    INNER JOIN unnest(ids, types) AS old (id, type) ON new.aggregate_id = old.id AND new.aggregate_type = old.type
    WHERE new.archived_at = now();
    RETURN NEXT;
END
$$;

REVOKE EXECUTE ON FUNCTION archive_events(text [], text [], timestamptz, bigint) FROM PUBLIC;

-- Closed aggregates, in the order in which archiving goes through them.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX aggregates_closed_idx ON aggregates (aggregate_type, aggregate_id) WHERE is_closed;
