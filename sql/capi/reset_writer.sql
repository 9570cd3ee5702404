-- Sets the row of a writer to where the writer itself is: the server is another one, which has not heard of it all.
UPDATE queue_writers
SET
    events_position = %(events_position)s::bigint,
    stats_batch = %(stats_batch)s::bigint,
    updated_at = now()
WHERE writer = %(writer)s::uuid
