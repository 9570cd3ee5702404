-- Makes the checkpoints of a subscription, one a partition, unless it is there already.
WITH
-- the first partition; whoever makes it makes the others, so that two callers never mix their numbers
first_partition AS (
    INSERT INTO subscriptions (name, partition, partitions, position)
    VALUES (%(name)s::text, 0, %(partitions)s::bigint, %(position)s::bigint)
    ON CONFLICT (name, partition) DO NOTHING
    RETURNING name
)

INSERT INTO subscriptions (name, partition, partitions, position)
SELECT
    first_partition.name,
    others.number,
    %(partitions)s::bigint,
    %(position)s::bigint
FROM first_partition
CROSS JOIN generate_series(1, %(partitions)s::bigint - 1) AS others (number)
