"""The transaction log in PostgreSQL, for many processes."""
