-- An aggregate's newest snapshot of this shape, if any, and the events that follow it and are not archived, as one JSON array of arrays.
SELECT
    coalesce(snapshot.version, 0) AS version,
    coalesce(snapshot.position, 0) AS position,
    snapshot.state::text AS state,
    tail.events,
    -- Where it ends: more than is found here is archived.
    coalesce((
        SELECT version
        FROM aggregates
        WHERE aggregate_id = %(aggregate_id)s::text
            AND aggregate_type = %(aggregate_type)s::text
    ), 0) AS last_version,
    -- Not on a standby.
    current_setting('transaction_read_only') = 'off' AS is_writable
FROM (SELECT %(after_version)s::bigint AS version) AS known
-- Schema version 0 is nobody's: there the events alone are read.
LEFT JOIN LATERAL (
    SELECT
        version,
        position,
        state
    FROM snapshots
    WHERE aggregate_id = %(aggregate_id)s::text
        AND aggregate_type = %(aggregate_type)s::text
        AND schema_version = %(schema_version)s::bigint
        AND version > known.version
        AND version <= %(to_version)s::bigint
    ORDER BY version DESC
    LIMIT 1
) AS snapshot ON TRUE
-- As text: json is kept as it is written, jsonb would be built anew, and ends at 256 MB.
CROSS JOIN LATERAL (
    SELECT
        json_agg(
            json_build_array(
                event.position,
                event.version,
                event.event_type,
                event.event_id,
                event.event_data,
                event.metadata,
                event.user_id,
                event.timestamp
            )
            ORDER BY event.version
        )::text AS events
    FROM (
        SELECT
            position,
            version,
            event_type,
            event_id,
            event_data,
            metadata,
            user_id,
            timestamp
        FROM event_log
        WHERE aggregate_id = %(aggregate_id)s::text
            AND aggregate_type = %(aggregate_type)s::text
            AND version > coalesce(snapshot.version, known.version)
            AND version <= %(to_version)s::bigint
        ORDER BY version ASC
        LIMIT %(limit)s::bigint
    ) AS event
) AS tail
