"""A saga orchestrator: transactions over several services that either happen or are made good."""
