"""Transaction logs: memory and SQLite."""
