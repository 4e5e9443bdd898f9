"""Ways to a participant: in this process and over HTTP."""
