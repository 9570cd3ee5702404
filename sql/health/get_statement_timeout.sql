-- After how many seconds does the server cancel a statement of this session? 0: never.
SELECT extract(EPOCH FROM current_setting('statement_timeout')::interval)::double precision AS seconds
