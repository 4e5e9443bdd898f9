"""The cyclic garbage collector, for processes that are ours: `amends serve`, and what is measured.

A run in flight is some hundred objects, and they form no cycles: counting references frees them all. By default the
collector goes through the young ones each time 700 more were made than freed, and finds nothing: counted with 32 runs
in flight, that is 4 to 5 % of the instructions of a run. Cycles are made by exceptions and by clients that come and go;
for those it is enough to look now and then.

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
