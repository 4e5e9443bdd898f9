"""Measures amends against a bare client: `uv run python -m bench`. Part of the repository, not of the package."""
