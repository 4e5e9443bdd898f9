"""Values and events as JSON."""
