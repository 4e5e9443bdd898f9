"""The workshop: the real engine with real services in one process, and a clock that jumps."""
