"""The cyclic garbage collector, for processes that are ours: `amends serve`, and what is measured.

A run in flight is some hundred objects, none of which form cycles: counting references frees them all. By default the
collector goes through the young ones each time 700 more were made than freed, so with a few dozen runs in flight it
goes through living objects several times per wave and finds nothing (measured: 5 to 15 % of a run). Cycles are made by
exceptions and by clients that come and go; for those it is enough to look now and then.

A program that embeds an `Orchestrator` decides this for itself: it is a setting of the whole process.
"""

import gc
from typing import Final

YOUNG_MAX: Final = 20_000
"""Objects made, less those freed, between two looks through the young ones: a few megabytes."""


def collect_seldom() -> None:
    """Leave out what is loaded by now, which lives as long as the process, and look less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, *gc.get_threshold()[1:])
