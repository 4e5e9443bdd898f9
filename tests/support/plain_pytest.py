"""pytest as somebody has it who uses amends: without the plugins that only this project's own tests need."""

from typing import Final

WITHOUT_OURS: Final = tuple(
    part for name in ("schemathesis", "hypothesispytest", "xdist", "xdist.looponfail") for part in ("-p", f"no:{name}")
)
"""Options; they also spare half of the time that pytest takes to start."""
