-- The events that a user caused, newest first, before one position of the log.
(
    SELECT
        position,
        aggregate_id,
        aggregate_type,
        version,
        event_type,
        event_id,
        event_data,
        metadata,
        user_id,
        timestamp
    FROM event_log
    WHERE user_id = %(user_id)s::bigint
        AND position < %(before_position)s::bigint
    ORDER BY position DESC
    LIMIT %(limit)s::bigint
)
UNION ALL
(
    SELECT
        position,
        aggregate_id,
        aggregate_type,
        version,
        event_type,
        event_id,
        event_data,
        metadata,
        user_id,
        timestamp
    FROM event_log_archived
    WHERE user_ids @> ARRAY[%(user_id)s::bigint]
        -- Of the user's segments only; + 0, as those of everybody are too many to be looked up.
        AND first_position + 0 < %(before_position)s::bigint
        AND user_id = %(user_id)s::bigint
        AND position < %(before_position)s::bigint
    ORDER BY position DESC
    LIMIT %(limit)s::bigint
)
ORDER BY position DESC
LIMIT %(limit)s::bigint
