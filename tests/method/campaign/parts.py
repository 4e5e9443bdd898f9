"""What a campaign consists of: units that are run one at a time, each a command of its own."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parents[3]

SEEDS_PER_UNIT: Final[Mapping[str, int]] = {"memory": 2_000, "sqlite": 200}
FIRST_SEED: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Unit:
    """One piece of work, and how long it may take."""

    name: str
    command: tuple[str, ...]
    seconds_max: float


@dataclass(frozen=True, slots=True)
class Size:
    """How much of what has no end."""

    state: Path
    seeds: int


def marked(folder: str) -> Iterator[Unit]:
    """The tests of a folder that are marked `campaign`, each a unit."""
    collect = (*_PYTEST, "--collect-only", "-q", "-m", "campaign", folder)
    listed = subprocess.run(collect, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)
    for line in listed.stdout.splitlines():
        if "::" in line:
            yield Unit(line, (*_PYTEST, "-q", "-m", "campaign", line), 3 * 3_600)


def seeds(size: Size) -> Iterator[Unit]:
    """So many worlds of the simulator, on both logs."""
    for log, each in SEEDS_PER_UNIT.items():
        worlds = size.seeds if log == "memory" else size.seeds // 10
        for first in range(FIRST_SEED, FIRST_SEED + worlds, each):
            options = ("--log", log, "--seed", str(first), "--schedules", str(min(each, FIRST_SEED + worlds - first)))
            yield Unit(f"simulate {log} {first}", (sys.executable, "-m", "tests.method.simulation", *options), 3_600)


def mutants(size: Size) -> Iterator[Unit]:
    """The mutation score; what is known of single mutants is kept as well."""
    for area in ("core", "barrier"):
        command = (sys.executable, "-m", "tests.method.mutation", area, "--imports")
        yield Unit(f"mutation {area}", (*command, "--state", str(size.state / f"mutants-{area}.json")), 6 * 3_600)


_PYTEST: Final = (
    sys.executable,
    "-m",
    "pytest",
    "-n",
    "0",
    "-p",
    "no:cacheprovider",
    *("-o", "faulthandler_timeout=3600"),
)
"""What is no test of every day may take longer than one; where one hangs it is shown before its unit's time is over."""

PARTS: Final[Mapping[str, Callable[[Size], Iterator[Unit]]]] = {
    "exploration": lambda _: marked("tests/method/exploration"),
    "crash": lambda _: marked("tests/real/crash/test_kills.py"),
    "power": lambda _: marked("tests/real/crash/test_power_loss.py"),
    "postgres": lambda _: marked("tests/real/postgres"),
    "simulation": seeds,
    "mutation": mutants,
}
