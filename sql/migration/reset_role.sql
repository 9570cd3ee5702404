-- Undoes a SET ROLE that a migration left behind.
RESET ROLE
