"""`python -m tests.method.planted`: plants a bug in each module that holds a promise; the tests must find each one.

`planted.txt` has a few for each module, and for each statement of the logs: a line, what is done to it, and the test
that must fail then, which is named for what it protects. They are planted one at a time into a fork of a process that
has collected those tests. A bug whose line or test isn't there any more counts as none; `--renew PART` looks for
others, among the mutants of `tests.method.mutation`.
"""

import argparse
import gc
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from typing_extensions import override

from tests.method.mutation.__main__ import AREAS, QUIETLY, SOURCE, module_of
from tests.method.mutation.mutants import Module, Mutant
from tests.method.mutation.running import PATIENCE_SECONDS, Functions, Runner, State, functions_of, plant, run_alone
from tests.method.mutation.sql import Statements

PLANTED = Path(__file__).parent / "planted.txt"
EACH_MIN = 2
"""Bugs that must be found in every module."""

EACH_KEPT = 4
"""Bugs that are kept of each, so that two are left when lines change."""

OF_MANY = 8
"""Of each statement in SQL one mutant out of so many is kept, two at least."""

TRIED_MAX = 24
SECONDS_MAX = 12.0
"""A test that hasn't failed by then won't."""


@dataclass(frozen=True)
class Part:
    """Some modules, and the tests among which those are looked for that find bugs in them."""

    modules: Sequence[str]
    tests: Sequence[str]


PARTS: Mapping[str, Part] = {
    "core": Part(("core/*/*.py",), ("tests/fast/core", "tests/method/exploration/test_regressions.py")),
    "engine": Part(
        ("engine/*.py",),
        tuple(
            f"tests/fast/engine/test_{name}.py"
            for name in (
                *("appends", "calls", "circuit", "crashes", "faults", "lease", "quarantine", "starting", "steering"),
                "waiting",
            )
        ),
    ),
    "service": Part(("participant/*.py",), ("tests/fast/participant", "tests/fast/inboxes/test_contract.py")),
    "logs": Part(
        ("logs/*.py", "logs/sqlite/*.py", "logs/sqlite/queries.sql"),
        (
            "tests/real/contracts/test_logs.py::TestMemoryLog",
            "tests/real/contracts/test_logs.py::TestSqliteLog",
            "tests/fast/logs/test_memory.py",
            *(f"tests/fast/logs/test_sqlite_{name}.py" for name in ("batches", "edges", "faults", "opening", "pace")),
        ),
    ),
    # Of one process that has started a server, whose forks use one database after the other.
    "postgres": Part(("logs/postgres/*.py", "logs/postgres/queries.sql"), AREAS["postgres-sql"].tests),
    "transports": Part(
        ("transports/*.py", "system/threads.py"), ("tests/fast/transports", "tests/fast/system/test_threads.py")
    ),
}


@dataclass(frozen=True)
class Bug:
    """One that is planted: in which module, what is done to which line, and the test that finds it."""

    module: str
    text: str
    change: str
    test: str

    @property
    def row(self) -> str:
        return f"{self.module} | {self.text} | {self.change} | {self.test}"


def bugs() -> list[Bug]:
    """All that are written down."""
    rows = [row for row in PLANTED.read_text("utf-8").splitlines() if row and not row.startswith("#")]
    return [_bug(row) for row in rows]


def _bug(row: str) -> Bug:
    module, _, rest = row.partition(" | ")
    rest, _, test = rest.rpartition(" | ")
    text, _, change = rest.rpartition(" | ")
    return Bug(module, text, change, test)


def modules_of(part: Part) -> list[Module | Statements]:
    """Its modules with anything to plant a bug in."""
    paths = [path for pattern in part.modules for path in sorted(SOURCE.glob(pattern)) if path.name != "__init__.py"]
    found = [module_of(path) for path in paths]
    return [module for module in found if any(mutant.function for mutant in module.mutants)]


def name_of(module: Module | Statements) -> str:
    return module.path.relative_to(SOURCE).as_posix()


def in_module(module: Module | Statements, bug: Bug) -> Mutant | None:
    """The change that a row describes; `None` if its line isn't there any more."""
    return next((each for each in module.mutants if (each.text, each.change) == (bug.text, bug.change)), None)


def _failed(items: Sequence[pytest.Item], runner: "Checker | Finder") -> int | None:
    """Which of these tests is the first to fail."""
    for number, item in enumerate(items):
        try:
            run_alone(item)
        except BaseException:  # noqa: BLE001 - whatever a bug does, it was noticed
            return number
        if runner.has_failed:
            return number
    return None


def _forked(
    bug: tuple[Module | Statements, Mutant],
    functions: Functions,
    items: Sequence[pytest.Item],
    runner: "Checker | Finder",
) -> int | None:
    """Which of these tests finds this bug."""
    module, mutant = bug
    with module.mutated(mutant) as code:
        hears, says = os.pipe()
        pid = os.fork()
        if not pid:
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nowhere, stream)
            plant(code, functions)
            found = _failed(items, runner)
            os.write(says, b"-" if found is None else str(found).encode())
            os._exit(0)
    os.close(says)
    until = time.monotonic() + SECONDS_MAX + PATIENCE_SECONDS
    while not os.waitpid(pid, os.WNOHANG)[0]:
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            break
        time.sleep(0.002)
    told = os.read(hears, 16).decode()
    os.close(hears)
    return int(told) if told.isdigit() else None


class Checker:
    """A pytest plugin that holds each bug against its test."""

    def __init__(self, planted: Sequence[tuple[Module | Statements, Mutant, Bug]]) -> None:
        self.planted = planted
        self.has_failed = False
        self.missed: list[str] = []
        self.found: Counter[str] = Counter()

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.has_failed = self.has_failed or report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        named = {bug.test for _, _, bug in self.planted}
        items = {item.nodeid: item for item in session.items if item.nodeid in named}
        failed = _failed(list(items.values()), self)
        if failed is not None:
            self.missed.append(f"fails without any bug: {list(items)[failed]}")
            return True
        functions = functions_of({str(module.path) for module, _, _ in self.planted})
        gc.collect()
        gc.freeze()
        for module, mutant, bug in self.planted:
            if bug.test not in items:
                continue
            if _forked((module, mutant), functions, [items[bug.test]], self) is not None:
                self.found[bug.module] += 1
            else:
                self.missed.append(f"not found: {bug.row}")
        return True


class Finder(Runner):
    """Looks for bugs that a test finds, a few in each module and in functions that differ."""

    has_failed = False

    @override
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        super().pytest_runtest_logreport(report)
        self.has_failed = self._failed

    @override
    def _try_all(self, items: Mapping[str, pytest.Item]) -> None:
        functions = functions_of({str(module.path) for module in self.modules})
        gc.collect()
        gc.freeze()
        self.bugs: list[Bug] = []
        for module in self.modules:
            self.bugs += self._some(module, functions, items)

    def _some(
        self, module: Module | Statements, functions: Functions, items: Mapping[str, pytest.Item]
    ) -> Iterator[Bug]:
        """A few of a module, in functions that differ; a few of each statement."""
        likely = [*_likely(module)]
        if isinstance(module, Module):
            yield from self._found((module, likely), functions, items, EACH_KEPT)
            return
        for statement in module.texts:
            of_it = [mutant for mutant in likely if mutant.function == statement]
            yield from self._found((module, of_it), functions, items, max(EACH_MIN, len(of_it) // OF_MANY))

    def _found(
        self,
        among: tuple[Module | Statements, Sequence[Mutant]],
        functions: Functions,
        items: Mapping[str, pytest.Item],
        kept: int,
    ) -> Iterator[Bug]:
        (module, mutants), found, tried, had = among, 0, 0, set[str]()
        for mutant in mutants:
            if found >= kept or tried >= TRIED_MAX:
                break
            place = mutant.function if isinstance(module, Module) else mutant.text
            tests = self._tests_of(module, mutant)
            if not tests or (place in had and tried < TRIED_MAX // 2):
                continue
            tried += 1
            number = _forked((module, mutant), functions, [items[test] for test in tests], self)
            if number is not None:
                found += 1
                had.add(place)
                yield Bug(name_of(module), mutant.text, mutant.change, tests[number])
        print(f"{name_of(module)}: {found} of {tried}", flush=True)


def _likely(module: Module | Statements) -> Iterable[Mutant]:
    """Its mutants, those first that are slips in what is decided; of two that read the same none."""
    read = Counter((each.text, each.change) for each in module.mutants)
    alone = [each for each in module.mutants if each.function and read[each.text, each.change] == 1]
    random.Random(name_of(module)).shuffle(alone)
    decided = ("branch swapped", "and -> or", "or -> and", "removed", "case removed", "not removed", "filter negated")
    return sorted(alone, key=lambda each: each.change not in decided)


def renew(part: Part, only: str) -> None:
    """Write other bugs down for the modules of this part, or for those alone whose names contain one of these words."""
    modules = [module for module in modules_of(part) if any(word in name_of(module) for word in only.split(","))]
    finder = Finder(modules, State(PLANTED.with_suffix(".nowhere")), 1, imports=False, seconds_max=4.0)
    pytest.main([*QUIETLY, *part.tests], plugins=[finder])
    names = {name_of(module) for module in modules}
    kept = [bug for bug in bugs() if bug.module not in names]
    head = "# module | line | what is done to it | the test that finds it\n"
    rows = sorted({bug.row for bug in (*kept, *finder.bugs)})
    PLANTED.write_text(head + "".join(f"{row}\n" for row in rows), "utf-8")


def check(parts: Iterable[Part], only: str = "") -> int:
    """Plant each, and see that it is found; 0 if every module has enough of them. `only` as for `renew`."""
    modules = {
        name_of(module): module
        for part in parts
        for module in modules_of(part)
        if any(word in name_of(module) for word in only.split(","))
    }
    planted = [
        (module, mutant, bug)
        for bug in bugs()
        if (module := modules.get(bug.module)) is not None and (mutant := in_module(module, bug)) is not None
    ]
    checker = Checker(planted)
    # By their files: a test that is called otherwise by now would end it all before it begins.
    pytest.main([*QUIETLY, *sorted({bug.test.partition("::")[0] for _, _, bug in planted})], plugins=[checker])
    for sentence in checker.missed:
        print(sentence)
    few = [name for name in modules if checker.found[name] < EACH_MIN and name not in ARGUED]
    for name in few:
        print(f"{name}: {checker.found[name]} planted bugs are found, {EACH_MIN} are asked for")
    print(f"{checker.found.total()} planted bugs in {len(checker.found)} modules were found")
    return 1 if few or checker.missed else 0


ARGUED: Mapping[str, str] = {
    "core/words/codec.py": "a protocol, and an exception that carries two texts",
    "core/words/errors.py": "exceptions, and what a few of them carry",
    "core/words/reasons.py": "a table of texts",
    "core/words/values.py": "one line",
    "participant/codec.py": "one line",
    "engine/wakeups.py": "one; two more are found by the simulator (tests/method/simulation/test_planted.py)",
    "engine/calls.py": "one; those of the worker, which it belongs to, are found by the simulator",
    "logs/sqlite/lock.py": "its tests need a second process, in which nothing is planted",
    "engine/elsewhere.py": "looks at runs of other processes, so its tests are on PostgreSQL",
    "engine/log_clock.py": "as above",
    "logs/sqlite/lane.py": "a queue and a thread: what is wrong in it hangs, which is no name",
    "logs/sqlite/statements.py": "as `named_sql.py`",
    "logs/postgres/statements.py": "one line; the statements themselves have theirs",
    "logs/named_sql.py": "runs when the logs are imported, before any bug can be planted; the schema's tests read it",
}
"""Modules with fewer, and why."""


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.method.planted")
    options.add_argument("--renew", choices=PARTS, help="look for other bugs in this part")
    options.add_argument("--only", default="", help="only in modules whose name contains one of these, with commas")
    asked = options.parse_args()
    if asked.renew is not None:
        renew(PARTS[asked.renew], asked.only)
        return 0
    return check(PARTS.values(), asked.only)


if __name__ == "__main__":
    sys.exit(main())
