"""Runs the tests against one mutant after the other, each in a fork of a process that has collected all tests already.

First every test runs once, and it is noted which lines it runs. A mutant is tried only against tests that run its
line, until one fails: first those that noticed other mutants of the same function, then the quickest. A function's
code is exchanged in place, wherever the function is referred to; what a module makes when it is imported can't be, so
for those mutants a fresh process imports the changed module before anything else does. Statements in SQL are mutated as
well: a test runs those that it asks for.

What is made once for all tests (a server) is made once for all mutants: forks have it from the process they come from.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import coverage
import pytest

from tests.method.mutation.mutants import Module, Mutant
from tests.method.mutation.sql import Statements, watch

PATIENCE_SECONDS = 2.0
"""Beyond what its tests take otherwise: a mutant that takes so much longer has been noticed."""


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    TIMED_OUT = "timed out"
    SURVIVED = "survived"
    UNCOVERED = "no test runs its line"


@dataclass
class State:
    """What is known by now, kept in a file so that a run goes on where it stopped."""

    path: Path
    fates: dict[str, str] = field(default_factory=dict[str, str])

    def load(self) -> None:
        if self.path.exists():
            self.fates = json.loads(self.path.read_text("utf-8"))

    def forget_survivors(self) -> None:
        self.fates = {name: fate for name, fate in self.fates.items() if fate in {Fate.KILLED, Fate.TIMED_OUT}}

    def save(self) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(self.fates, indent=0, sort_keys=True), "utf-8")
        fresh.replace(self.path)


@dataclass(frozen=True)
class Running:
    """A mutant that is being tried."""

    name: str
    function: tuple[Path, str]
    tests: Sequence[str]
    hears: int
    until: float


class Runner:
    """A pytest plugin that, instead of running the tests, runs them against every mutant."""

    def __init__(
        self, modules: Sequence[Module | Statements], state: State, jobs: int, *, imports: bool, seconds_max: float
    ) -> None:
        self.modules = modules
        self.state = state
        self.jobs = jobs
        self.imports = imports
        self.seconds_max = seconds_max
        """Spent on one mutant at the most, by what its tests take otherwise; quick tests come first."""
        self._failed = False
        self._seconds: dict[str, float] = {}
        self._lines: dict[str, dict[int, list[str]]] = {}
        self._noticed: dict[tuple[Path, str], list[str]] = {}
        """Tests that noticed mutants, by function, the last one first."""

    # -- as pytest calls it

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._measure(session)
        assert not self._failed, "tests fail without any mutant"
        self._try_all({item.nodeid: item for item in session.items})
        return True

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed = self._failed or report.failed

    # -- which test runs which line

    def _measure(self, session: pytest.Session) -> None:
        files = [str(module.path) for module in self.modules if isinstance(module, Module)]
        asked = [(module, watch(module.package)) for module in self.modules if isinstance(module, Statements)]
        watched = coverage.Coverage(data_file=None, include=files, config_file=False)
        watched.start()
        for item in session.items:
            watched.switch_context(item.nodeid)
            began = time.monotonic()
            run_alone(item)
            self._seconds[item.nodeid] = time.monotonic() - began
            for module, known in asked:
                lines = self._lines.setdefault(str(module.path), {})
                for name in known.asked:
                    lines.setdefault(module.line(name), []).append(item.nodeid)
                known.asked.clear()
            if self._failed:
                print(f"fails without any mutant: {item.nodeid}")
                break
        watched.stop()
        data = watched.get_data()
        for path in files:
            self._lines[path] = {line: [*contexts] for line, contexts in data.contexts_by_lineno(path).items()}
        for module, _ in asked:  # what was asked for on import is no single test's
            for name in module.texts:
                self._lines[str(module.path)].setdefault(module.line(name), [*self._seconds])

    def _tests_of(self, module: Module | Statements, mutant: Mutant) -> list[str]:
        lines = self._lines[str(module.path)]
        tests = {test for line in _lines_of(module, mutant) for test in lines.get(line, ()) if test}
        listed, spent = list[str](), 0.0
        known = self._noticed.get((module.path, mutant.function), [])
        sharp = [test for test in known if test in tests]
        for test in (*sharp, *sorted(tests.difference(sharp), key=self._seconds.__getitem__)):
            spent += self._seconds[test]
            if listed and spent > self.seconds_max:
                break
            listed.append(test)
        return listed

    # -- mutants

    def _try_all(self, items: Mapping[str, pytest.Item]) -> None:
        functions = functions_of({str(module.path) for module in self.modules})
        gc.collect()
        gc.freeze()
        running: dict[int, Running] = {}
        todo = [(module, mutant) for module in self.modules for mutant in module.mutants]
        began, done = time.monotonic(), 0
        for module, mutant in todo:
            done += 1
            name = f"{module.path.parent.name}/{mutant.name}"
            if name in self.state.fates:
                continue
            tests = self._tests_of(module, mutant)
            if not mutant.function and not self.imports:
                continue
            if not tests and mutant.function:
                self.state.fates[name] = Fate.UNCOVERED
                continue
            with module.mutated(mutant) as code:
                while len(running) >= self.jobs:
                    self._reap(running)
                allowed = sum(_patience(self._seconds[test]) for test in tests)
                hears, says = os.pipe()
                pid = os.fork()
                if not pid:
                    _be_quiet()
                    if mutant.function:
                        plant(code, functions)
                        os._exit(self._run_all([items[test] for test in tests], says))
                    assert isinstance(module, Module), "statements are in no function at all, or named after it"
                    os._exit(_fresh(module, mutant, self._files()))
                os.close(says)
                until = time.monotonic() + (allowed if mutant.function else 120)
                running[pid] = Running(name, (module.path, mutant.function), tests, hears, until)
            if done % 25 == 0:
                self._tell(done, len(todo), began)
        while running:
            self._reap(running)
        self._tell(done, len(todo), began)

    def _files(self) -> list[str]:
        return sorted({test.partition("::")[0] for test in self._seconds})

    def _run_all(self, items: Sequence[pytest.Item], says: int) -> int:
        for number, item in enumerate(items):
            signal.setitimer(signal.ITIMER_REAL, _patience(self._seconds[item.nodeid]))
            try:
                run_alone(item)
            except BaseException:  # noqa: BLE001 - whatever a mutant does, it was noticed
                self._failed = True
            if self._failed:
                os.write(says, str(number).encode())
                return 1
        return 0

    def _reap(self, running: "dict[int, Running]") -> None:
        """Wait until one has ended, or its time is over."""
        while True:
            for pid, each in list(running.items()):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
                    self.state.fates[each.name] = Fate.TIMED_OUT
                elif ended:
                    self.state.fates[each.name] = Fate.SURVIVED if status == 0 else Fate.KILLED
                elif time.monotonic() > each.until:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    self.state.fates[each.name] = Fate.TIMED_OUT
                else:
                    continue
                self._learn(each)
                del running[pid]
                return
            time.sleep(0.002)

    def _learn(self, each: "Running") -> None:
        told = os.read(each.hears, 16)
        os.close(each.hears)
        if told:
            test = each.tests[int(told)]
            noticed = self._noticed.setdefault(each.function, [])
            if test in noticed:
                noticed.remove(test)
            noticed.insert(0, test)

    def _tell(self, done: int, of: int, began: float) -> None:
        self.state.save()
        print(f"{done}/{of} mutants, {time.monotonic() - began:.0f} s", flush=True)


def _patience(seconds: float) -> float:
    return PATIENCE_SECONDS + 5 * seconds


def _lines_of(module: Module | Statements, mutant: Mutant) -> Iterator[int]:
    """The lines that tell whether a test runs into a mutant: its own, or where its statement begins."""
    yield mutant.line
    if isinstance(module, Statements):
        return
    for back in range(1, 12):  # a statement over several lines is run by its first
        yield mutant.line - back
        if module.lines[mutant.line - back - 1].rstrip().endswith((":", ")", "]", "}")):
            return


def run_alone(item: pytest.Item) -> None:
    """Run one test, and take down all that was made for it but what the whole session has: a fork has that, too."""
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=item.session)


Functions = Mapping[tuple[str, str, int], list[types.FunctionType]]
"""Function objects, by what their code is called."""


def functions_of(paths: set[str]) -> Functions:
    """Every function object there is of these files, by what its code is called.

    What was frozen is no object that the collector tells of, and the suite freezes all that it has collected.
    """
    gc.unfreeze()
    found: dict[tuple[str, str, int], list[types.FunctionType]] = {}
    for each in gc.get_objects():
        if isinstance(each, types.FunctionType) and each.__code__.co_filename in paths:
            found.setdefault(_key(each.__code__), []).append(each)
    return found


def _key(code: types.CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def plant(made: types.CodeType | Callable[[], None], functions: Functions) -> None:
    """Put a change in use, in this process."""
    if isinstance(made, types.CodeType):
        put_in(made, functions)
    else:
        made()


def put_in(code: types.CodeType, functions: Functions) -> None:
    """Put the changed code into every function that has the old one."""
    for each in _codes(code):
        for function in functions.get(_key(each), ()):
            if (
                function.__code__.co_code != each.co_code
                or function.__code__.co_consts != each.co_consts
                or (function.__code__.co_names != each.co_names)
            ):
                function.__code__ = _fitting(each, function)


def _fitting(code: types.CodeType, function: types.FunctionType) -> types.CodeType:
    """A change that leaves `super()` out leaves its cell out as well; the function has it still: it stays, unused."""
    had = function.__code__.co_freevars
    return code.replace(co_freevars=had) if had and not code.co_freevars else code


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield each
            yield from _codes(each)


def _be_quiet() -> None:
    """What a mutant says is of no interest; and what hangs in it mustn't write into the report."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)


def _fresh(module: Module, mutant: Mutant, tests: Sequence[str]) -> int:
    """Run the tests in a process that imports the changed module."""
    number = module.mutants.index(mutant)
    command = [sys.executable, "-m", "tests.method.mutation.fresh", str(module.path), str(number), *tests]
    try:
        return subprocess.run(command, timeout=110, check=False).returncode
    except subprocess.TimeoutExpired:
        return 1
