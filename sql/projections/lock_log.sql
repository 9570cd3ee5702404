-- Waits for those who append, and keeps others from it until the transaction ends.
LOCK TABLE event_log IN SHARE MODE
