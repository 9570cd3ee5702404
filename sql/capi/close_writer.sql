-- Takes the row of a writer away, which has nothing left to write.
DELETE FROM queue_writers
WHERE writer = %(writer)s::uuid
