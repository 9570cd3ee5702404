-- What was applied, by line (one directory of files each) and version.
CREATE TABLE schema_migrations (
    line text NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    name text NOT NULL,
    checksum text NOT NULL CHECK (checksum ~ '^[0-9a-f]{64}$'),
    state text NOT NULL CHECK (state IN ('running', 'applied')),
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    duration_ms bigint NOT NULL CHECK (duration_ms >= 0),
    PRIMARY KEY (line, version)
)
