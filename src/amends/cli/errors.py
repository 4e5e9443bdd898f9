"""Errors in how a command was typed."""

from amends.core.words.errors import AmendsError


class BadUsage(AmendsError):
    """The command can't be understood as it was typed: exit code 2."""
