-- What an encoder reports of the broadcast on air; only the columns whose set_ parameter is true change, and bytes_sent
-- is added. No row: not on air.
-- rootstream: null viewer_count, bitrate_kbps, resolution, fps, codec
WITH counted AS (
    -- Locked before the stream, as all statements on both do. Every viewer of the peak has joined at some time.
    UPDATE stream_sessions
    SET
        peak_viewers = greatest(peak_viewers, %(viewer_count)s::bigint),
        total_viewers = greatest(total_viewers, %(viewer_count)s::bigint),
        total_bytes_sent = total_bytes_sent + %(bytes_sent)s::bigint
    WHERE stream_id = %(stream_id)s::bigint AND session_end IS NULL
    RETURNING stream_id
)
UPDATE streams
SET
    viewer_count = CASE WHEN %(set_viewer_count)s::boolean THEN %(viewer_count)s::bigint ELSE streams.viewer_count END,
    bitrate_kbps = CASE WHEN %(set_bitrate_kbps)s::boolean THEN %(bitrate_kbps)s::bigint ELSE streams.bitrate_kbps END,
    resolution = CASE WHEN %(set_resolution)s::boolean THEN %(resolution)s::text ELSE streams.resolution END,
    fps = CASE WHEN %(set_fps)s::boolean THEN %(fps)s::double precision ELSE streams.fps END,
    codec = CASE WHEN %(set_codec)s::boolean THEN %(codec)s::text ELSE streams.codec END
FROM counted
WHERE streams.id = counted.stream_id
RETURNING
    streams.id,
    streams.user_id,
    streams.name,
    streams.description,
    streams.stream_url,
    streams.thumbnail_url,
    streams.is_live,
    streams.viewer_count,
    streams.bitrate_kbps,
    streams.resolution,
    streams.fps,
    streams.codec,
    streams.is_public,
    streams.created_at,
    streams.updated_at,
    streams.started_at,
    streams.ended_at
