-- The append-only event log, the head row of each aggregate, and snapshots.
-- On Citus: all three are distributed by aggregate_id, colocated.

CREATE TABLE aggregates (
    aggregate_id text NOT NULL,
    aggregate_type text NOT NULL,
    version bigint NOT NULL,
    is_closed boolean NOT NULL DEFAULT FALSE,
    CONSTRAINT aggregates_pkey PRIMARY KEY (aggregate_id, aggregate_type),
    CONSTRAINT aggregates_aggregate_id_length CHECK (char_length(aggregate_id) BETWEEN 1 AND 255),
    CONSTRAINT aggregates_aggregate_type_length CHECK (char_length(aggregate_type) BETWEEN 1 AND 255),
    CONSTRAINT aggregates_version_range CHECK (version >= 1)
) WITH (fillfactor = 70); -- room on the page, so that moving a head is a HOT update

COMMENT ON TABLE aggregates IS 'The head of each aggregate: its last version. An append moves it, so that no two events share a version.';
COMMENT ON COLUMN aggregates.is_closed IS 'True: no further event is accepted.';

-- CACHE 1: a cached block would hand a later event of an aggregate an earlier position.
CREATE SEQUENCE event_log_position_seq AS bigint CACHE 1;

CREATE TABLE event_log (
    position bigint NOT NULL DEFAULT nextval('event_log_position_seq'),
    aggregate_id text NOT NULL,
    aggregate_type text NOT NULL,
    version bigint NOT NULL,
    event_type text NOT NULL,
    event_id uuid NOT NULL DEFAULT gen_random_uuid(),
    event_data jsonb NOT NULL,
    metadata jsonb,
    -- No foreign key: the trail of a user stays when the user goes.
    user_id bigint,
    -- Taken after the head row is locked, so that times never run backwards within an aggregate; now() would.
    timestamp timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT event_log_pkey PRIMARY KEY (aggregate_id, aggregate_type, version),
    CONSTRAINT event_log_version_range CHECK (version >= 1),
    CONSTRAINT event_log_event_type_length CHECK (char_length(event_type) BETWEEN 1 AND 255)
);

ALTER SEQUENCE event_log_position_seq OWNED BY event_log.position;

CREATE INDEX event_log_position_idx ON event_log (position);
CREATE INDEX event_log_user_id_idx ON event_log (user_id, position) WHERE user_id IS NOT NULL;
CREATE INDEX event_log_timestamp_idx ON event_log USING brin (timestamp);

COMMENT ON TABLE event_log IS 'What happened, once and for all: rows are never changed and never deleted.';

CREATE FUNCTION refuse_event_log_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on event_log is not allowed: the log is append-only', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER event_log_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON event_log
FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_log_change();

CREATE TABLE snapshots (
    aggregate_id text NOT NULL,
    aggregate_type text NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    schema_version bigint NOT NULL DEFAULT 1,
    state jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- The shape of the state comes first: readers of an older and of a newer shape each find their newest.
    CONSTRAINT snapshots_pkey PRIMARY KEY (aggregate_id, aggregate_type, schema_version, version),
    CONSTRAINT snapshots_aggregate_fkey FOREIGN KEY (aggregate_id, aggregate_type)
    REFERENCES aggregates (aggregate_id, aggregate_type),
    CONSTRAINT snapshots_version_range CHECK (version >= 1),
    CONSTRAINT snapshots_schema_version_range CHECK (schema_version >= 1)
);

COMMENT ON TABLE snapshots IS 'The folded state of an aggregate as of one version; only ever a shortcut for reading the events.';
