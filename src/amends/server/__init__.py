"""The orchestrator over HTTP."""
