"""Settings: what can be set, where it was set, and what that comes to."""
