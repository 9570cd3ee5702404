-- A schema to try files in; rolled back at the end.
CREATE SCHEMA rootstream_baseline_scratch
