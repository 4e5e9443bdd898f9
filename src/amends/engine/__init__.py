"""Moves what the core decided: orchestrator, worker, group-committing writer."""
