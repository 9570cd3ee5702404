-- Locks the checkpoints of a subscription, so that no batch of it is under way.
SELECT partition
FROM subscriptions
WHERE name = %(name)s::text
ORDER BY partition
FOR UPDATE
