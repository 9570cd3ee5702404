-- The role of reports and of people who look: reads everything but secrets.
--
-- Apply by hand, as the owner of the tables, in the schema they are in, and again after every migration:
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f grant_readonly.sql
-- Then give it to a login of your own: GRANT rootstream_readonly TO my_login;
BEGIN;

DO $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'rootstream_readonly') THEN
        CREATE ROLE rootstream_readonly NOLOGIN;
    END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO rootstream_readonly', current_database());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO rootstream_readonly', current_schema());
END
$$;

GRANT SELECT ON
stream_sessions,
recordings,
usage_logs,
billing_accounts,
aggregates,
event_log,
event_log_in_flight,
event_segments,
event_log_archived,
event_erasures,
event_erased,
event_seals,
snapshots,
subscriptions,
subscription_members,
parked_events,
queue_writers,
rejected_events,
schema_migrations
TO rootstream_readonly;

-- To tell how far the log is complete.
GRANT SELECT ON SEQUENCE event_log_position_seq TO rootstream_readonly;

-- Column by column, without the secret: password_hash, token_hash, stream_key, and the key in the cache, which holds a
-- token_hash. A right to the whole table would win.
REVOKE ALL ON users, sessions, streams, cache_invalidations FROM rootstream_readonly;
GRANT SELECT (id, created_at) ON cache_invalidations TO rootstream_readonly;
GRANT SELECT (
    id,
    username,
    email,
    display_name,
    avatar_url,
    is_verified,
    is_active,
    created_at,
    updated_at,
    last_login_at
) ON users TO rootstream_readonly;
GRANT SELECT (
    user_id,
    device_id,
    user_agent,
    ip_address,
    created_at,
    expires_at,
    last_activity,
    is_active
) ON sessions TO rootstream_readonly;
GRANT SELECT (
    id,
    user_id,
    name,
    description,
    stream_url,
    thumbnail_url,
    is_live,
    viewer_count,
    bitrate_kbps,
    resolution,
    fps,
    codec,
    is_public,
    created_at,
    updated_at,
    started_at,
    ended_at
) ON streams TO rootstream_readonly;

COMMIT;
