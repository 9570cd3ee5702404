-- Subscriptions: how far each reader of the log has come, who reads, and the events that it could not handle.
-- On Citus: local tables, on the coordinator, where the log as a whole is read.

CREATE TABLE subscriptions (
    name text NOT NULL,
    partition bigint NOT NULL,
    partitions bigint NOT NULL,
    position bigint NOT NULL,
    owner uuid,
    lease_expires_at timestamptz,
    failed_position bigint NOT NULL DEFAULT 0,
    attempts bigint NOT NULL DEFAULT 0,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT subscriptions_pkey PRIMARY KEY (name, partition),
    CONSTRAINT subscriptions_name_length CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT subscriptions_partitions_range CHECK (partitions BETWEEN 1 AND 1024),
    CONSTRAINT subscriptions_partition_range CHECK (partition >= 0 AND partition < partitions),
    CONSTRAINT subscriptions_position_range CHECK (position >= 0),
    CONSTRAINT subscriptions_lease_expires_at_required CHECK ((owner IS NULL) = (lease_expires_at IS NULL))
) WITH (fillfactor = 50); -- a row moves with every batch: room on the page, so that each is a HOT update

COMMENT ON TABLE subscriptions IS 'The checkpoint of each subscription, one row a partition. It moves in the transaction of the handler.';
COMMENT ON COLUMN subscriptions.position IS 'All events up to here are handled or parked.';
COMMENT ON COLUMN subscriptions.owner IS 'The member that reads this partition while its lease lasts. NULL: free.';
COMMENT ON COLUMN subscriptions.failed_position IS 'The event that is being tried again, attempts times so far. 0: none.';

CREATE TABLE subscription_members (
    name text NOT NULL,
    member uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT subscription_members_pkey PRIMARY KEY (name, member)
);

COMMENT ON TABLE subscription_members IS 'Who takes part in a subscription now: the partitions are shared among those that have not expired.';

CREATE TABLE parked_events (
    name text NOT NULL,
    position bigint NOT NULL,
    partition bigint NOT NULL,
    aggregate_type text NOT NULL,
    aggregate_id text NOT NULL,
    event_type text NOT NULL,
    attempts bigint NOT NULL,
    error_class text NOT NULL,
    error_text text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT parked_events_pkey PRIMARY KEY (name, position)
);

COMMENT ON TABLE parked_events IS 'Events that a subscription gave up and went past, until somebody retries or discards them.';

-- The partition of an aggregate, from 0. The hash is the one of hash-partitioned tables, which no release of
-- PostgreSQL may change.
CREATE FUNCTION event_partition(aggregate_type text, aggregate_id text, partitions bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT (hashtextextended(aggregate_id, hashtextextended(aggregate_type, 0)) & 9223372036854775807) % partitions $$;

-- The schemas of projections. No other schema can be named, whatever a caller passes.
CREATE FUNCTION projection_schema(projection text, suffix text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF projection !~ '^[a-z]([a-z0-9]|_(?!_)){0,39}$' OR suffix NOT IN ('', '__new', '__old') THEN
        RAISE EXCEPTION 'no projection can be called %', projection USING ERRCODE = 'invalid_name';
    END IF;
    RETURN 'projection_' || projection || suffix;
END
$$;

CREATE FUNCTION projection_schema_exists(projection text, suffix text) RETURNS boolean
LANGUAGE sql STABLE
AS $$ SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = projection_schema(projection, suffix)) $$;

-- Whoever makes or replaces the schemas of a projection does so alone, until the transaction ends.
CREATE FUNCTION projection_lock(projection text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(projection_schema(projection, ''), 0));
    RETURN TRUE;
END
$$;

-- Makes the schema where it is not there, and tells whether it did. Where it runs as the owner (sql/roles/), it gives the
-- schema to the role that the setting names: that may use it and make tables in it.
CREATE FUNCTION projection_create_schema(projection text, suffix text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    grantee text := nullif(current_setting('rootstream.projections_of', TRUE), '');
BEGIN
    PERFORM projection_lock(projection);
    IF projection_schema_exists(projection, suffix) THEN
        RETURN FALSE;
    END IF;
    EXECUTE format('CREATE SCHEMA %I', projection_schema(projection, suffix));
    IF grantee IS NOT NULL THEN
        EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', projection_schema(projection, suffix), grantee);
    END IF;
    RETURN TRUE;
END
$$;

-- Drops the schema with all that is in it, and tells whether it was there.
CREATE FUNCTION projection_drop_schema(projection text, suffix text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT projection_schema_exists(projection, suffix) THEN
        RETURN FALSE;
    END IF;
    EXECUTE format('DROP SCHEMA %I CASCADE', projection_schema(projection, suffix));
    RETURN TRUE;
END
$$;

-- The serving schema becomes the old one, the new one becomes the serving one, in one transaction.
CREATE FUNCTION projection_switch_schemas(projection text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'ALTER SCHEMA %I RENAME TO %I', projection_schema(projection, ''), projection_schema(projection, '__old')
    );
    EXECUTE format(
        'ALTER SCHEMA %I RENAME TO %I', projection_schema(projection, '__new'), projection_schema(projection, '')
    );
    RETURN TRUE;
END
$$;

-- Puts the schema first in the search path until the transaction ends, and tells what the path was.
CREATE FUNCTION projection_use_schema(projection text, suffix text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    previous text := current_setting('search_path');
BEGIN
    PERFORM set_config(
        'search_path', concat_ws(', ', quote_ident(projection_schema(projection, suffix)), nullif(previous, '')), TRUE
    );
    RETURN previous;
END
$$;
