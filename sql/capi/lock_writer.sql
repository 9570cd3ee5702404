-- How far a writer has come, once whatever it had under way on another connection has ended.
SELECT
    events_position,
    stats_batch
FROM queue_writers
WHERE writer = %(writer)s::uuid
FOR UPDATE
