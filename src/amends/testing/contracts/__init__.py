"""One behaviour suite per port: what every adapter must keep."""
