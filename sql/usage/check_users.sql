-- What a bulk load must know beforehand: the time that entries without one get, and a user who is not there, if any.
SELECT
    now() AS now,
    (
        SELECT min(given.user_id)
        FROM unnest(%(user_ids)s::bigint[]) AS given (user_id)
        WHERE NOT EXISTS (
            SELECT 1
            FROM users
            WHERE users.id = given.user_id
        )
    ) AS unknown_user_id
