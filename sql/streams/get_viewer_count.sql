-- How many watch a stream, as of the last report.
SELECT viewer_count
FROM streams
WHERE id = %(stream_id)s::bigint
