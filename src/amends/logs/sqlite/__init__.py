"""The transaction log in one SQLite file, for one process."""
