"""The store for asyncio: its own tests, and those of the synchronous store run on it."""
