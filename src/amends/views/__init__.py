"""A run as people and programs see it, without a web framework: server, command line and dashboard share it."""
