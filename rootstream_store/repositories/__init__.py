"""Plain typed functions, one module a table: `users.get(store, 1)`."""
