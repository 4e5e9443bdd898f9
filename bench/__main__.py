"""`uv run python -m bench`: amends against a bare client, in one run, in alternating rounds. See `README.md`."""

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.metadata import version
from typing import Any

from amends.server.garbage import collect_seldom
from bench.measure import BARE, Case, LoopFactory, Measured, all_cases, measure
from bench.participant import ParticipantProcess
from bench.report import as_json, as_table

IN_FLIGHT = (1, 32, 256)
ROUNDS = 5
RUNS = 1_000
QUICK_ROUNDS = 2
QUICK_RUNS = 100
LOCAL_TIMES = 3
"""Runs without calls are that much shorter, so there are that many more of them."""

ALONE_PART = 4
"""One at a time takes longer for each: a quarter of the runs is enough."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    given = _parser().parse_args(arguments)
    rounds: int = given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)
    runs: int = given.runs or (QUICK_RUNS if given.quick else RUNS)
    cases = chosen(all_cases(tuple(given.in_flight), served=given.postgres), given.only)
    if not cases:
        sys.exit(f"no case is called {given.only}; there are: {' '.join(c.name for c in all_cases(IN_FLIGHT))}")
    loop = loop_factory(uvloop=given.uvloop)
    collect_seldom()  # as `amends serve` does; it holds for the bare client as well
    load_before = os.getloadavg()[0]
    results: dict[Case, list[Measured]] = {case: [] for case in cases}
    with ParticipantProcess() as participant:
        for number in range(rounds):
            # Every other round goes the other way, so that nobody is always measured after the same neighbour.
            for case in cases if number % 2 == 0 else reversed(cases):
                _say(f"round {number + 1} of {rounds}: {case.name}")
                measured = measure(case, runs_of(case, runs), participant, loop=loop, folder=given.folder)
                results[case].append(measured)
    _say("")
    machine: dict[str, Any] = {
        "python": platform.python_version(),
        "aiohttp": version("aiohttp"),
        "loop": "uvloop" if given.uvloop else "asyncio",
        "cpus": os.cpu_count(),
        "load before": round(load_before, 2),
        "load after": round(os.getloadavg()[0], 2),
        "rounds": rounds,
    }
    if given.json:
        print(json.dumps(as_json(results, machine), indent=2))
    else:
        print("\n".join(as_table(results, machine)))


def chosen(cases: Sequence[Case], only: Sequence[str]) -> list[Case]:
    """The cases that match one of the patterns, each with the bare client's that it is held against."""
    wanted = {case for case in cases if any(fnmatchcase(case.name, _pattern(each)) for each in only or ["*"])}
    with_bare = wanted | {Case(case.work, BARE, case.in_flight) for case in wanted}
    return [case for case in cases if case in with_bare]


def _pattern(given: str) -> str:
    return given if "*" in given else f"*{given}*"


def runs_of(case: Case, runs: int) -> int:
    """How many runs a measurement of this case is made of: never fewer than are in flight."""
    many = runs if case.work.calls else LOCAL_TIMES * runs
    return max(case.in_flight, many // ALONE_PART if case.in_flight == 1 else many)


def loop_factory(*, uvloop: bool) -> LoopFactory | None:
    """What makes the loop: asyncio's own unless asked otherwise."""
    if not uvloop:
        return asyncio.new_event_loop
    from uvloop import new_event_loop  # noqa: PLC0415 - only where it is asked for

    return new_event_loop


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="amends against a bare aiohttp client")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="cases whose name matches")
    parser.add_argument("--postgres", action="store_true", help="also a log on PostgreSQL, on a server of its own")
    parser.add_argument("--quick", action="store_true", help="few and short rounds: does it work, not how fast")
    parser.add_argument("--json", action="store_true", help="everything that was measured, as JSON")
    parser.add_argument("--rounds", type=_positive, help=f"default {ROUNDS}")
    parser.add_argument("--runs", type=_positive, help=f"per measurement, default {RUNS}")
    parser.add_argument(
        "--in-flight", type=_positive, nargs="+", default=IN_FLIGHT, metavar="N", help="default 1 32 256"
    )
    parser.add_argument("--uvloop", action="store_true", help="everybody who is measured runs on uvloop")
    parser.add_argument("--folder", help="where the SQLite logs are written; default: the system's for temporary files")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        msg = "expected a number from 1 up"
        raise argparse.ArgumentTypeError(msg)
    return number


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
