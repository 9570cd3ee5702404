-- Until the transaction ends, new objects go to the schema to try files in.
-- rootstream: writes
SELECT set_config(
    'search_path',
    'rootstream_baseline_scratch, ' || current_setting('search_path'),
    TRUE
) AS search_path
