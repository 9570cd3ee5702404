-- Seals over the log, which tell of every later change, and the erasure of personal data, which they know of.
--
-- Apply sql/roles/ again. On Citus event_erased is distributed by aggregate_id, the other two are reference tables.

-- All of an event in one digest, of a record in the form that PostgreSQL sends: each column with its type, its length
-- (-1: NULL) and its bytes. Texts go in as bytes of UTF-8, so that no setting of the session has a say.
CREATE FUNCTION hash_event(
    event_position bigint,
    version bigint,
    event_time timestamptz,
    user_id bigint,
    event_id uuid,
    is_repeatable boolean,
    aggregate_id text,
    aggregate_type text,
    event_type text,
    event_data jsonb,
    metadata jsonb
) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(record_send(ROW(
    event_position,
    version,
    event_time,
    user_id,
    event_id,
    is_repeatable,
    convert_to(aggregate_id, 'UTF8'),
    convert_to(aggregate_type, 'UTF8'),
    convert_to(event_type, 'UTF8'),
    convert_to(event_data::text, 'UTF8'),
    convert_to(metadata::text, 'UTF8')
)));

CREATE TABLE event_erasures (
    operation bigint NOT NULL,
    erased_at timestamptz NOT NULL,
    event_count bigint NOT NULL,
    archived_count bigint NOT NULL,
    log_version bigint NOT NULL,
    user_id bigint,
    reason text NOT NULL,
    requested_by text,
    aggregates jsonb NOT NULL,
    positions int8multirange NOT NULL,
    digest bytea NOT NULL,
    CONSTRAINT event_erasures_pkey PRIMARY KEY (operation),
    CONSTRAINT event_erasures_reason_length CHECK (char_length(reason) BETWEEN 1 AND 1000),
    CONSTRAINT event_erasures_requested_by_length CHECK (char_length(requested_by) BETWEEN 1 AND 255)
);

COMMENT ON TABLE event_erasures IS 'Each erasure: what was asked for, why, and what it touched. Numbered from 1 without gaps.';
COMMENT ON COLUMN event_erasures.log_version IS 'Version of the event of aggregate event_log erasures that tells of it.';
COMMENT ON COLUMN event_erasures.digest IS 'sha256 over the digests in event_erased, in the order of positions.';

CREATE TABLE event_erased (
    position bigint NOT NULL,
    version bigint NOT NULL,
    operation bigint NOT NULL,
    aggregate_id text NOT NULL,
    aggregate_type text NOT NULL,
    original_hash bytea NOT NULL,
    erased_hash bytea NOT NULL,
    CONSTRAINT event_erased_pkey PRIMARY KEY (aggregate_id, aggregate_type, version)
);

CREATE INDEX event_erased_position_idx ON event_erased (position);

COMMENT ON TABLE event_erased IS 'Erased events with the digest of what they were, which the seals are made of, and of what they are now.';

-- What stands in the metadata of an event that an erasure emptied.
CREATE FUNCTION erased_metadata(operation bigint, erased_at timestamptz) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_build_object(
    'erased',
    jsonb_build_object(
        'operation', operation,
        'at', to_char(erased_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    )
);

CREATE TABLE event_seals (
    number bigint NOT NULL,
    first_position bigint NOT NULL,
    last_position bigint NOT NULL,
    event_count bigint NOT NULL,
    sealed_at timestamptz NOT NULL DEFAULT now(),
    previous_hash bytea NOT NULL,
    hash bytea NOT NULL,
    positions int8multirange NOT NULL,
    fingerprints bytea NOT NULL,
    CONSTRAINT event_seals_pkey PRIMARY KEY (number),
    CONSTRAINT event_seals_position_order CHECK (first_position <= last_position),
    CONSTRAINT event_seals_hash_length CHECK (octet_length(hash) = 32 AND octet_length(previous_hash) = 32),
    CONSTRAINT event_seals_fingerprints_length CHECK (octet_length(fingerprints) = 8 * event_count)
);

-- Digests do not compress; without it one is cut out without the others being read.
ALTER TABLE event_seals ALTER COLUMN fingerprints SET STORAGE EXTERNAL;

COMMENT ON TABLE event_seals IS 'Digests over one range of positions after the other, each over the one before it too.';
COMMENT ON COLUMN event_seals.positions IS 'Those that have an event.';
COMMENT ON COLUMN event_seals.fingerprints IS 'The first 8 bytes of each event''s digest, in the order of positions: they name the event that was changed.';

-- The events of a range, live and archived, with the digest that a seal is made of: of an erased event that of what it
-- was. is_as_erased: not an erased event, or still exactly what the erasure left.
CREATE FUNCTION list_event_hashes(from_position bigint, to_position bigint)
RETURNS TABLE (
    event_position bigint, aggregate_id text, aggregate_type text, version bigint, hash bytea, is_as_erased boolean
)
LANGUAGE sql STABLE
BEGIN ATOMIC
SELECT
    events.position AS event_position,
    events.aggregate_id,
    events.aggregate_type,
    events.version,
    coalesce(erased.original_hash, events.hash) AS hash,
    erased.position IS NULL OR (
        events.hash = erased.erased_hash
        AND events.position = erased.position
        AND events.event_data = '{}'::jsonb
        AND events.metadata IS NOT DISTINCT FROM erased_metadata(
            erased.operation,
            (SELECT erasures.erased_at FROM event_erasures AS erasures WHERE erasures.operation = erased.operation)
        )
    ) AS is_as_erased
FROM (
    SELECT
        l.position,
        l.aggregate_id,
        l.aggregate_type,
        l.version,
        l.event_data,
        l.metadata,
        hash_event(
            l.position, l.version, l.timestamp, l.user_id, l.event_id, l.is_repeatable, l.aggregate_id,
            l.aggregate_type, l.event_type, l.event_data, l.metadata
        ) AS hash
    FROM event_log AS l
    WHERE l.position >= from_position
        AND l.position <= to_position
    UNION ALL
    SELECT
        a.position,
        a.aggregate_id,
        a.aggregate_type,
        a.version,
        a.event_data,
        a.metadata,
        hash_event(
            a.position, a.version, a.timestamp, a.user_id, a.event_id, a.is_repeatable, a.aggregate_id,
            a.aggregate_type, a.event_type, a.event_data, a.metadata
        ) AS hash
    FROM (
        SELECT
            segments.aggregate_id,
            segments.aggregate_type,
            unpacked.*
        FROM event_segments AS segments
        -- OFFSET 0, so that the positions are looked at once and not for each column.
        CROSS JOIN LATERAL (
            SELECT
                width_bucket(from_position - 1, segments.positions) + 1 AS from_number,
                width_bucket(to_position, segments.positions) AS to_number
            OFFSET 0
        ) AS part
        CROSS JOIN LATERAL unpack_events(segments, part.from_number, part.to_number) AS unpacked
        WHERE int8range(segments.first_position, segments.last_position, '[]')
            && int8range(from_position, to_position, '[]')
    ) AS a
) AS events
LEFT JOIN event_erased AS erased ON erased.position = events.position
    AND erased.aggregate_id = events.aggregate_id
    AND erased.aggregate_type = events.aggregate_type
    AND erased.version = events.version
    -- Told again, so that it is looked for by the range and not read whole.
    AND erased.position >= from_position
    AND erased.position <= to_position;
END;

-- What a seal over a range has to say, given the seal before it.
CREATE FUNCTION seal_events(from_position bigint, to_position bigint, previous_hash bytea)
RETURNS TABLE (
    event_count bigint, hash bytea, positions int8multirange, fingerprints bytea, altered_erased_position bigint
)
LANGUAGE sql STABLE
BEGIN ATOMIC
SELECT
    count(*) AS event_count,
    sha256(
        previous_hash
        || int8send(from_position)
        || int8send(to_position)
        || int8send(count(*))
        || coalesce(string_agg(events.hash, ''::bytea), ''::bytea)
    ) AS hash,
    coalesce(range_agg(int8range(events.event_position, events.event_position, '[]')), '{}'::int8multirange) AS positions,
    coalesce(string_agg(substring(events.hash FROM 1 FOR 8), ''::bytea), ''::bytea) AS fingerprints,
    min(events.event_position) FILTER (WHERE NOT events.is_as_erased) AS altered_erased_position
FROM (
    SELECT
        event_position,
        hash,
        is_as_erased
    FROM list_event_hashes(from_position, to_position)
    ORDER BY
        event_position ASC,
        hash ASC
) AS events;
END;

-- An erasure empties events and marks them; all else of them stays. So does all else of a segment that has some.
CREATE FUNCTION guard_event_erasure() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF to_jsonb(NEW) - 'event_data' - 'metadata' IS DISTINCT FROM to_jsonb(OLD) - 'event_data' - 'metadata' THEN
        RAISE EXCEPTION 'an erasure may change nothing but event_data and metadata of %', TG_TABLE_NAME
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER event_log_guard_erasure
BEFORE UPDATE ON event_log
FOR EACH ROW EXECUTE FUNCTION guard_event_erasure();

CREATE TRIGGER event_segments_guard_erasure
BEFORE UPDATE ON event_segments
FOR EACH ROW EXECUTE FUNCTION guard_event_erasure();

CREATE TRIGGER event_erasures_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON event_erasures
FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_log_change();

CREATE TRIGGER event_erased_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON event_erased
FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_log_change();

CREATE TRIGGER event_seals_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON event_seals
FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_log_change();

-- Empties the events that a user caused and those of the named aggregates, live and archived, deletes the snapshots of
-- all aggregates that have such events, and logs that it did: here and as an event. `operation` is NULL where there was
-- nothing left to erase.
CREATE FUNCTION erase_events(
    user_id bigint, aggregate_types text [], aggregate_ids text [], reason text, requested_by text
) RETURNS TABLE (operation bigint, events bigint, archived_events bigint, aggregates bigint, snapshots bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    number bigint;
    at timestamptz;
    mark jsonb;
    digest bytea;
    positions int8multirange;
    touched bigint;
    head bigint;
BEGIN
    -- One erasure at a time, so that none counts what another has done.
    LOCK TABLE event_erasures IN SHARE ROW EXCLUSIVE MODE;
    SELECT coalesce(max(e.operation), 0) + 1 INTO number FROM event_erasures AS e;
    at := clock_timestamp();
    mark := erased_metadata(number, at);

    -- Live events first: what is archived meanwhile is found among the segments.
    PERFORM set_config('rootstream.event_log_door', 'UPDATE event_log', TRUE);
    WITH
    keys AS (
        SELECT event_log.aggregate_id, event_log.aggregate_type, event_log.version
        FROM event_log
        WHERE event_log.user_id = erase_events.user_id
        UNION
        SELECT event_log.aggregate_id, event_log.aggregate_type, event_log.version
        FROM unnest(erase_events.aggregate_ids, erase_events.aggregate_types) AS given (id, type)
        INNER JOIN event_log ON event_log.aggregate_id = given.id AND event_log.aggregate_type = given.type
    ),
    wanted AS MATERIALIZED (
        SELECT
            l.aggregate_id,
            l.aggregate_type,
            l.version,
            hash_event(
                l.position, l.version, l.timestamp, l.user_id, l.event_id, l.is_repeatable, l.aggregate_id,
                l.aggregate_type, l.event_type, l.event_data, l.metadata
            ) AS hash
        FROM keys
        INNER JOIN event_log AS l
            ON l.aggregate_id = keys.aggregate_id
                AND l.aggregate_type = keys.aggregate_type
                AND l.version = keys.version
        WHERE (l.aggregate_type, l.aggregate_id) <> ('event_log', 'erasures')
            AND NOT EXISTS (
                SELECT 1
                FROM event_erased AS e
                WHERE e.aggregate_id = l.aggregate_id
                    AND e.aggregate_type = l.aggregate_type
                    AND e.version = l.version
            )
    ),
    emptied AS (
        UPDATE event_log AS l
        SET event_data = '{}', metadata = mark
        FROM wanted
        WHERE l.aggregate_id = wanted.aggregate_id
            AND l.aggregate_type = wanted.aggregate_type
            AND l.version = wanted.version
        RETURNING
            l.position,
            l.version,
            l.aggregate_id,
            l.aggregate_type,
            wanted.hash AS original_hash,
            hash_event(
                l.position, l.version, l.timestamp, l.user_id, l.event_id, l.is_repeatable, l.aggregate_id,
                l.aggregate_type, l.event_type, l.event_data, l.metadata
            ) AS erased_hash
    )
    INSERT INTO event_erased (
        position, version, operation, aggregate_id, aggregate_type, original_hash, erased_hash
    )
    SELECT e.position, e.version, number, e.aggregate_id, e.aggregate_type, e.original_hash, e.erased_hash
    FROM emptied AS e;
    GET DIAGNOSTICS erase_events.events = ROW_COUNT;

    INSERT INTO event_erased (
        position, version, operation, aggregate_id, aggregate_type, original_hash, erased_hash
    )
    SELECT
        a.position,
        a.version,
        number,
        a.aggregate_id,
        a.aggregate_type,
        hash_event(
            a.position, a.version, a.timestamp, a.user_id, a.event_id, a.is_repeatable, a.aggregate_id,
            a.aggregate_type, a.event_type, a.event_data, a.metadata
        ),
        hash_event(
            a.position, a.version, a.timestamp, a.user_id, a.event_id, a.is_repeatable, a.aggregate_id,
            a.aggregate_type, a.event_type, '{}', mark
        )
    FROM (
        SELECT s.aggregate_id, s.aggregate_type, s.first_version
        FROM event_segments AS s
        WHERE s.user_ids @> ARRAY[erase_events.user_id]
        UNION
        SELECT s.aggregate_id, s.aggregate_type, s.first_version
        FROM unnest(erase_events.aggregate_ids, erase_events.aggregate_types) AS given (id, type)
        INNER JOIN event_segments AS s ON s.aggregate_id = given.id AND s.aggregate_type = given.type
    ) AS hit
    INNER JOIN event_log_archived AS a
        ON a.aggregate_id = hit.aggregate_id
            AND a.aggregate_type = hit.aggregate_type
            AND a.first_version = hit.first_version
    WHERE (
        a.user_id = erase_events.user_id
        OR (a.aggregate_id, a.aggregate_type) IN (
            SELECT given.id, given.type
            FROM unnest(erase_events.aggregate_ids, erase_events.aggregate_types) AS given (id, type)
        )
    )
        AND (a.aggregate_type, a.aggregate_id) <> ('event_log', 'erasures')
        AND NOT EXISTS (
            SELECT 1
            FROM event_erased AS e
            WHERE e.aggregate_id = a.aggregate_id
                AND e.aggregate_type = a.aggregate_type
                AND e.version = a.version
        );
    GET DIAGNOSTICS erase_events.archived_events = ROW_COUNT;

    PERFORM set_config('rootstream.event_log_door', 'UPDATE event_segments', TRUE);
    UPDATE event_segments AS s
    SET event_data = rewritten.event_data, metadata = rewritten.metadata
    FROM (
        SELECT
            a.aggregate_id,
            a.aggregate_type,
            a.first_version,
            array_agg(CASE WHEN e.version IS NULL THEN a.event_data ELSE '{}' END ORDER BY a.version) AS event_data,
            array_agg(CASE WHEN e.version IS NULL THEN a.metadata ELSE mark END ORDER BY a.version) AS metadata
        FROM (
            SELECT DISTINCT event_segments.aggregate_id, event_segments.aggregate_type, event_segments.first_version
            FROM event_erased AS e
            INNER JOIN event_segments
                ON event_segments.aggregate_id = e.aggregate_id
                    AND event_segments.aggregate_type = e.aggregate_type
                    AND e.version BETWEEN event_segments.first_version AND event_segments.last_version
            WHERE e.operation = number
        ) AS hit
        INNER JOIN event_log_archived AS a
            ON a.aggregate_id = hit.aggregate_id
                AND a.aggregate_type = hit.aggregate_type
                AND a.first_version = hit.first_version
        LEFT JOIN event_erased AS e
            ON e.aggregate_id = a.aggregate_id
                AND e.aggregate_type = a.aggregate_type
                AND e.version = a.version
                AND e.operation = number
        GROUP BY a.aggregate_id, a.aggregate_type, a.first_version
    ) AS rewritten
    WHERE erase_events.archived_events > 0
        AND s.aggregate_id = rewritten.aggregate_id
        AND s.aggregate_type = rewritten.aggregate_type
        AND s.first_version = rewritten.first_version;
    PERFORM set_config('rootstream.event_log_door', '', TRUE);

    -- Also where all was erased before: a reader may have saved what it had read earlier.
    WITH
    gone AS (
        DELETE FROM snapshots AS s
        USING (
            SELECT l.aggregate_id, l.aggregate_type FROM event_log AS l WHERE l.user_id = erase_events.user_id
            UNION
            SELECT a.aggregate_id, a.aggregate_type FROM event_segments AS a
            WHERE a.user_ids @> ARRAY[erase_events.user_id]
            UNION
            SELECT given.id, given.type
            FROM unnest(erase_events.aggregate_ids, erase_events.aggregate_types) AS given (id, type)
        ) AS of
        WHERE s.aggregate_id = of.aggregate_id AND s.aggregate_type = of.aggregate_type
        RETURNING 1
    )
    SELECT count(*) INTO erase_events.snapshots FROM gone;

    SELECT
        sha256(coalesce(string_agg(e.original_hash || e.erased_hash, ''::bytea ORDER BY e.position), ''::bytea)),
        range_agg(int8range(e.position, e.position, '[]')),
        count(DISTINCT (e.aggregate_id, e.aggregate_type))
    INTO digest, positions, touched
    FROM event_erased AS e
    WHERE e.operation = number;
    erase_events.aggregates := touched;

    IF erase_events.events + erase_events.archived_events > 0 THEN
        INSERT INTO aggregates AS a (aggregate_id, aggregate_type, version)
        VALUES ('erasures', 'event_log', 1)
        ON CONFLICT (aggregate_id, aggregate_type) DO UPDATE SET version = a.version + 1
        RETURNING a.version INTO head;

        INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data)
        SELECT 'erasures', 'event_log', head, 'EventsErased', jsonb_build_object(
            'operation', number,
            'reason', erase_events.reason,
            'requested_by', erase_events.requested_by,
            'user_id', erase_events.user_id,
            'aggregates', aggregate_list.names,
            'events', erase_events.events + erase_events.archived_events,
            -- As ranges; a scattered thousand of them would be a burden to every reader, and are in event_erasures.
            'positions', (
                SELECT jsonb_agg(jsonb_build_array(lower(r.part), upper(r.part) - 1) ORDER BY lower(r.part))
                FROM unnest(positions) AS r (part)
                HAVING count(*) <= 1000
            ),
            'digest', encode(digest, 'hex')
        )
        FROM (
            SELECT coalesce(jsonb_agg(jsonb_build_object('type', given.type, 'id', given.id)), '[]') AS names
            FROM unnest(erase_events.aggregate_ids, erase_events.aggregate_types) AS given (id, type)
        ) AS aggregate_list;

        INSERT INTO event_erasures (
            operation, erased_at, event_count, archived_count, log_version, user_id, reason, requested_by,
            aggregates, positions, digest
        )
        SELECT
            number,
            at,
            erase_events.events + erase_events.archived_events,
            erase_events.archived_events,
            head,
            erase_events.user_id,
            erase_events.reason,
            erase_events.requested_by,
            coalesce(jsonb_agg(jsonb_build_object('type', given.type, 'id', given.id)), '[]'),
            positions,
            digest
        FROM unnest(erase_events.aggregate_ids, erase_events.aggregate_types) AS given (id, type);
        erase_events.operation := number;
    END IF;
    RETURN NEXT;
END
$$;

REVOKE EXECUTE ON FUNCTION erase_events(bigint, text [], text [], text, text) FROM PUBLIC;
