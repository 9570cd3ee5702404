-- What users consumed, in monthly partitions, and what they may consume.
-- On Citus: usage_logs is distributed by user_id, billing_accounts is a reference table.

CREATE TABLE billing_accounts (
    user_id bigint NOT NULL,
    payment_method text,
    subscription_tier text NOT NULL DEFAULT 'free',
    monthly_limit_gb bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT billing_accounts_user_id_key PRIMARY KEY (user_id),
    CONSTRAINT billing_accounts_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT billing_accounts_payment_method_length CHECK (char_length(payment_method) BETWEEN 1 AND 64),
    CONSTRAINT billing_accounts_subscription_tier_known CHECK (subscription_tier IN ('free', 'pro', 'enterprise')),
    -- The upper bound keeps the limit in bytes within bigint.
    CONSTRAINT billing_accounts_monthly_limit_gb_range CHECK (monthly_limit_gb BETWEEN 0 AND 1000000000)
);

CREATE TRIGGER billing_accounts_set_updated_at
BEFORE UPDATE ON billing_accounts
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
EXECUTE FUNCTION set_updated_at();

COMMENT ON COLUMN billing_accounts.monthly_limit_gb IS 'In units of 10^9 bytes for a calendar month in UTC; null: no limit.';

-- Not an identity column: before PostgreSQL 17 partitions do not take one over.
CREATE SEQUENCE usage_logs_id_seq AS bigint;

CREATE TABLE usage_logs (
    user_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    id bigint NOT NULL DEFAULT nextval('usage_logs_id_seq'),
    -- No foreign key: what was consumed stays on record when the stream goes.
    stream_id bigint,
    event_type text NOT NULL,
    bytes_transferred bigint NOT NULL DEFAULT 0,
    duration_seconds bigint NOT NULL DEFAULT 0,
    CONSTRAINT usage_logs_pkey PRIMARY KEY (user_id, created_at, id),
    CONSTRAINT usage_logs_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT usage_logs_event_type_format CHECK (event_type ~ '^[a-z][a-z0-9_]{0,63}$'),
    CONSTRAINT usage_logs_bytes_transferred_range CHECK (bytes_transferred >= 0),
    CONSTRAINT usage_logs_duration_seconds_range CHECK (duration_seconds >= 0)
) PARTITION BY RANGE (created_at);

ALTER SEQUENCE usage_logs_id_seq OWNED BY usage_logs.id;

CREATE INDEX usage_logs_stream_id_idx ON usage_logs (stream_id, created_at);

-- Takes a row for which no month was made ahead, so that no usage is ever refused.
CREATE TABLE usage_logs_default PARTITION OF usage_logs DEFAULT;

CREATE FUNCTION usage_logs_create_partitions(first_day date, months integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    month_start date;
    lower_bound timestamptz;
    upper_bound timestamptz;
    partition_name text;
    created integer := 0;
    callers_limit text := current_setting('lock_timeout');
BEGIN
    -- Whoever logs in queues behind a wait for users: where the caller sets no limit, it is a short one.
    IF callers_limit = '0' THEN
        PERFORM set_config('lock_timeout', '2s', TRUE);
    END IF;
    -- Two callers at once must not both make the same month.
    PERFORM pg_advisory_xact_lock(hashtext('usage_logs_partitions'));
    FOR offset_months IN 0 .. months - 1 LOOP
        month_start := (date_trunc('month', first_day::timestamp) + make_interval(months => offset_months))::date;
        lower_bound := month_start::timestamp AT TIME ZONE 'UTC';
        upper_bound := (month_start + interval '1 month') AT TIME ZONE 'UTC';
        partition_name := 'usage_logs_' || to_char(month_start, '"y"YYYY"m"MM');
        CONTINUE WHEN to_regclass(partition_name) IS NOT NULL;
        -- ATTACH takes this lock for the foreign key, and ACCESS EXCLUSIVE on usage_logs_default: until the transaction
        -- ends, nobody writes users (a login does) or uses the default partition. So one month a transaction is best.
        -- Users come first, as for those who delete a user, so that neither waits for the other.
        LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE;
        -- A writer on its way into the default partition would be refused once its month is attached. So writers of such a
        -- month wait here, before they have chosen a partition. Months that lie ahead, the usual case, have none.
        IF lower_bound <= now() OR EXISTS (
            SELECT 1 FROM usage_logs_default WHERE created_at >= lower_bound AND created_at < upper_bound
        ) THEN
            LOCK TABLE ONLY usage_logs IN SHARE ROW EXCLUSIVE MODE;
        END IF;
        EXECUTE format('CREATE TABLE %I (LIKE usage_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition_name);
        -- Rows that came before their month was made move into it; a partition cannot be attached otherwise.
        EXECUTE format(
            'WITH moved AS (DELETE FROM usage_logs_default WHERE created_at >= $1 AND created_at < $2 RETURNING *)
             INSERT INTO %I SELECT * FROM moved', partition_name)
        USING lower_bound, upper_bound;
        EXECUTE format('ALTER TABLE usage_logs ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            partition_name, lower_bound, upper_bound);
        created := created + 1;
    END LOOP;
    PERFORM set_config('lock_timeout', callers_limit, TRUE);
    RETURN created;
END
$$;

COMMENT ON FUNCTION usage_logs_create_partitions IS 'Makes the partitions of so many months (UTC) from that day on; returns how many were new. Holds locks on users: best called for one month.';

CREATE FUNCTION usage_logs_drop_partitions(before_day date) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    partition_name text;
    dropped integer := 0;
    callers_limit text := current_setting('lock_timeout');
BEGIN
    -- As above: a drop takes ACCESS EXCLUSIVE on usage_logs, and every reader and writer queues behind a wait for that.
    IF callers_limit = '0' THEN
        PERFORM set_config('lock_timeout', '2s', TRUE);
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('usage_logs_partitions'));
    SELECT min(child.relname) INTO partition_name
    FROM pg_inherits
    JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
    WHERE pg_inherits.inhparent = 'usage_logs'::regclass
        AND child.relname ~ '^usage_logs_y[0-9]{4}m[0-9]{2}$'
        AND to_date(substring(child.relname FROM 'y[0-9]{4}m[0-9]{2}$'), '"y"YYYY"m"MM') + interval '1 month' <= before_day;
    IF partition_name IS NOT NULL THEN
        EXECUTE format('DROP TABLE %I', partition_name);
        dropped := 1;
    ELSE
        DELETE FROM usage_logs_default WHERE created_at < before_day::timestamp AT TIME ZONE 'UTC';
    END IF;
    PERFORM set_config('lock_timeout', callers_limit, TRUE);
    RETURN dropped;
END
$$;

COMMENT ON FUNCTION usage_logs_drop_partitions IS 'Drops the oldest partition of a month that ended by that day (UTC) and returns 1; else deletes such rows from the default partition and returns 0. To be repeated until then.';

SELECT usage_logs_create_partitions((now() AT TIME ZONE 'UTC')::date, 3);
