"""`python -m tests.method.mutation core` (or another area): runs its tests against each mutant; score and survivors.

With `--state FILE` what is known is kept, and a second call goes on where the first one stopped. Survivors that no
test can kill are argued one by one in `argued.txt`; a survivor that isn't there is a failure, and so is an argument
about a mutant that doesn't survive or isn't there.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.method.mutation.mutants import Module
from tests.method.mutation.running import Fate, Runner, State
from tests.method.mutation.sql import Statements

SOURCE = Path(__file__).parents[3] / "src" / "amends"
ARGUED = Path(__file__).parent / "argued.txt"
SCORE_MIN = 95.0
QUIETLY = (
    "-o",
    "addopts=",
    "--import-mode=importlib",
    "-m",
    "not campaign",
    "-p",
    "no:terminal",
    "-p",
    "no:cacheprovider",
)


@dataclass(frozen=True)
class Area:
    """Some modules, and the tests that are to hold them."""

    modules: Sequence[str]
    tests: Sequence[str]
    jobs_max: int = 64
    """How many mutants at once: one, where tests share a database."""


AREAS: Mapping[str, Area] = {
    "core": Area(
        ("core/*/*.py",),
        ("tests/fast/core", "tests/method/mutation/kills", "tests/method/exploration/test_regressions.py"),
    ),
    "barrier": Area(
        tuple(f"participant/{name}.py" for name in ("barrier", "driver", "effects", "service", "handlers", "request")),
        # Not on PostgreSQL: the code is the same on all inboxes.
        (
            "tests/fast/participant",
            "tests/fast/inboxes/test_contract.py",
            "tests/fast/inboxes/test_sqlalchemy.py",
            "tests/fast/transports/test_in_process.py",
        ),
    ),
    "postgres-sql": Area(
        ("logs/postgres/queries.sql",),
        (
            "tests/real/contracts/test_logs.py::TestPostgresLog",
            "tests/real/postgres/test_log_edges.py",
            "tests/real/postgres/test_log_schema.py",
            "tests/real/postgres/test_interleavings.py",
            "tests/real/postgres/test_statements.py",
        ),
        jobs_max=1,
    ),
    "sqlite-sql": Area(
        ("logs/sqlite/queries.sql",),
        (
            "tests/real/contracts/test_logs.py::TestSqliteLog",
            *(f"tests/fast/logs/test_sqlite_{name}.py" for name in ("batches", "edges", "opening", "schema")),
        ),
    ),
}


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.method.mutation")
    options.add_argument("area", choices=AREAS)
    options.add_argument("--state", type=Path, help="where to keep what is known; default: nowhere")
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--imports", action="store_true", help="also what modules make when imported: slow")
    options.add_argument("--seconds", type=float, default=8.0, help="how long to look for a test that notices one")
    options.add_argument("--again", action="store_true", help="try again what survived before")
    options.add_argument("--only", default="", help="only modules whose name contains this")
    asked = options.parse_args()
    area = AREAS[asked.area]
    modules = modules_of(area, asked.only)
    with tempfile.TemporaryDirectory() as folder:
        state = State(asked.state or Path(folder) / "state.json")
        state.load()
        if asked.again:
            state.forget_survivors()
        jobs = min(asked.jobs, area.jobs_max)
        runner = Runner(modules, state, jobs, imports=asked.imports, seconds_max=asked.seconds)
        tests = [test for test in area.tests if Path(test.partition("::")[0]).exists()]
        pytest.main([*QUIETLY, *tests], plugins=[runner])
        return told(modules, state.fates)


def paths_of(area: Area) -> list[Path]:
    """The files of an area."""
    found = [path for pattern in area.modules for path in sorted(SOURCE.glob(pattern))]
    return [path for path in found if path.name != "__init__.py"]


def modules_of(area: Area, only: str = "") -> list[Module | Statements]:
    """Its modules, or those whose name contains a text."""
    return [module_of(path) for path in paths_of(area) if only in path.name]


def module_of(path: Path) -> Module | Statements:
    """A file in which something can be changed."""
    return Module(path) if path.suffix == ".py" else Statements(path)


def told(modules: Sequence[Module | Statements], fates: Mapping[str, str]) -> int:
    """Print the score and what isn't right; 0 if all is."""
    argued = arguments(ARGUED)
    counts: Counter[str] = Counter()
    wrong = stale(modules, fates, argued)
    for line in wrong:
        print(line)
    for module in modules:
        for mutant in module.mutants:
            fate = fates.get(f"{module.path.parent.name}/{mutant.name}")
            if fate is None:
                continue
            lives = fate in {Fate.SURVIVED, Fate.UNCOVERED}
            if lives and mutant.claim in argued:
                counts["argued"] += 1
                continue
            counts[fate] += 1
            if lives:
                wrong.append(f"{fate}: {mutant.name}\n    {mutant.text}")
                print(wrong[-1])
    total = counts.total()
    killed = counts[Fate.KILLED] + counts[Fate.TIMED_OUT]
    score = 100 * killed / max(1, total - counts["argued"])
    print(", ".join(f"{count} {fate}" for fate, count in counts.most_common()))
    print(f"score {score:.1f} % of {total - counts['argued']} mutants (argued: {counts['argued']})")
    return 0 if score >= SCORE_MIN and not wrong else 1


def arguments(path: Path) -> set[str]:
    """What is argued: the claims in a file, without their reasons."""
    lines = path.read_text("utf-8").splitlines()
    return {line.rpartition(" | because ")[0] for line in lines if not line.startswith("#")}


def stale(modules: Sequence[Module | Statements], fates: Mapping[str, str], argued: Collection[str]) -> list[str]:
    """Arguments about these modules that are about nothing: there is no such mutant, or a test notices it.

    A mutant that wasn't tried, or whose tests took too long, says nothing about its argument.
    """
    tried: dict[str, list[str | None]] = {}
    for module in modules:
        for mutant in module.mutants:
            fate = fates.get(f"{module.path.parent.name}/{mutant.name}")
            tried.setdefault(mutant.claim, []).append(fate)
    names = {module.name for module in modules}
    found: list[str] = []
    for claim in sorted(each for each in argued if each.partition(" | ")[0] in names):
        met = tried.get(claim)
        if met is None:
            found.append(f"argued, but there is no such mutant: {claim}")
        elif all(fate == Fate.KILLED for fate in met):
            found.append(f"argued, but a test notices it: {claim}")
    return found


if __name__ == "__main__":
    sys.exit(main())
