"""The tables of the log, one file per version."""
