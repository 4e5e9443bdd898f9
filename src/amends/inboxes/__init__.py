"""Where a service keeps the barrier's rows: in its own database, in its own transaction."""
