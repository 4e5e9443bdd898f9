"""The demo: the shop's services and an orchestrator as real processes, under faults, with an audit."""
