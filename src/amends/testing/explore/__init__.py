"""The explorer: one run on paper, and every way through it."""
