-- The public streams on air by their viewers as of the last flush or report, most first, from after one of them on; of
-- equal ones the newer stream first.
SELECT
    id AS stream_id,
    viewer_count AS viewers
FROM streams
WHERE is_live
    AND is_public
    AND (viewer_count, id) < (%(after_viewers)s::bigint, %(after_id)s::bigint)
ORDER BY viewer_count DESC, id DESC
LIMIT %(limit)s::bigint
