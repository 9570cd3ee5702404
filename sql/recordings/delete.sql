-- Deletes the row of a recording; its file is the caller's to delete.
DELETE FROM recordings
WHERE stream_id = %(stream_id)s::bigint AND id = %(recording_id)s::bigint
RETURNING id
