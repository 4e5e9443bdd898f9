"""One case again and again, for a profiler: `uv run python -m bench.profiling accepted/memory/32`.

Prints wall and CPU time per run of each repetition, the CPU time being what to compare on a machine that others use
too. `--functions` lists where it goes by cProfile, which makes calls dearer than they are; a sampling profiler, started
as in `README.md`, doesn't.
"""

import argparse
import cProfile
import pstats

from amends.server.garbage import collect_seldom
from bench.__main__ import loop_factory
from bench.measure import all_cases, measure
from bench.participant import ParticipantProcess
from bench.report import MICRO, cpu_us, rate

SHOWN = 45


def main() -> None:
    """Measure one case."""
    parser = argparse.ArgumentParser(prog="python -m bench.profiling", description="one case, for a profiler")
    parser.add_argument("case", help="as `python -m bench` names it: accepted/memory/32")
    parser.add_argument("--runs", type=int, default=3_000, help="per repetition")
    parser.add_argument("--times", type=int, default=3, help="repetitions")
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--functions", action="store_true", help="where it goes, by cProfile")
    given = parser.parse_args()
    in_flight = int(given.case.rpartition("/")[2])
    case = next(each for each in all_cases((in_flight,), served=True) if each.name == given.case)
    collect_seldom()
    profile = cProfile.Profile() if given.functions else None
    with ParticipantProcess() as participant:
        for _ in range(given.times):
            if profile is not None:
                profile.enable()
            measured = measure(case, given.runs, participant, loop=loop_factory(uvloop=given.uvloop))
            if profile is not None:
                profile.disable()
            print(
                f"{case.name}: {rate(measured):,.0f} runs/s, {MICRO / rate(measured):,.0f} us and "
                f"{cpu_us(measured):,.0f} us of CPU per run, load {measured.load:.2f}"
            )
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(SHOWN)


if __name__ == "__main__":
    main()
