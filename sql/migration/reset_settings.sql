-- Undoes the settings (search_path among them) that a migration left behind.
RESET ALL
