"""A call as participants see it: its headers, written once and read once."""
