-- The role of an application: reads and writes everything, but can neither change nor delete an event.
--
-- Apply by hand, as the owner of the tables, in the schema they are in, and again after every migration:
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f grant_application.sql
-- Then give it to a login of your own: GRANT rootstream_app TO my_login;
BEGIN;

DO $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'rootstream_app') THEN
        CREATE ROLE rootstream_app NOLOGIN;
    END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO rootstream_app', current_database());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO rootstream_app', current_schema());
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE ON
users,
sessions,
streams,
stream_sessions,
recordings,
usage_logs,
billing_accounts,
snapshots,
subscriptions,
subscription_members,
parked_events,
cache_invalidations,
queue_writers,
rejected_events
TO rootstream_app;

-- An event stays as it was written, and a head row stays as long as its events.
REVOKE ALL ON event_log, aggregates FROM rootstream_app;
GRANT SELECT, INSERT ON event_log TO rootstream_app;
GRANT SELECT, INSERT, UPDATE ON aggregates TO rootstream_app;
GRANT SELECT ON event_log_in_flight TO rootstream_app;

-- Archived events, erasures and seals are read; to archive, to erase and to seal is the owner's.
REVOKE ALL ON event_segments, event_erasures, event_erased, event_seals FROM rootstream_app;
GRANT SELECT ON event_segments, event_log_archived, event_erasures, event_erased, event_seals TO rootstream_app;
REVOKE EXECUTE ON FUNCTION archive_events(text [], text [], timestamptz, bigint) FROM rootstream_app;
REVOKE EXECUTE ON FUNCTION erase_events(bigint, text [], text [], text, text) FROM rootstream_app;

-- For the default values of their columns.
GRANT USAGE ON SEQUENCE event_log_position_seq, usage_logs_id_seq TO rootstream_app;

-- To tell whether migrations are pending.
GRANT SELECT ON schema_migrations TO rootstream_app;

-- Only the owner of a table can make or drop its partitions, and who could make schemas at will could make one that the
-- owner's own statements look into first. So these run as the owner, and name no other partition and no other schema
-- than they are for. With a fixed search path whose last entry is pg_temp: a caller's temporary table must not be taken
-- for one of ours.
DO $$
DECLARE
    maintainer text;
BEGIN
    FOREACH maintainer IN ARRAY ARRAY[
        'usage_logs_create_partitions(date, integer)', 'usage_logs_drop_partitions(date)',
        'projection_create_schema(text, text)', 'projection_drop_schema(text, text)', 'projection_switch_schemas(text)'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = %I, pg_temp', maintainer, current_schema());
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', maintainer);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO rootstream_app', maintainer);
    END LOOP;
    ALTER FUNCTION projection_create_schema(text, text) SET rootstream.projections_of = 'rootstream_app';
END
$$;

COMMIT;
