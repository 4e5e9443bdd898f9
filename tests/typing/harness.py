"""Runs a type checker over a folder of samples and compares what it says with what the samples expect.

A line that must be refused says by whom and how, at its end:

    Saga("x", Order).run(3)  # expect: mypy[arg-type] pyright[reportArgumentType]

Several rules of one checker are separated by commas: `mypy[arg-type,call-arg]`. A checker that isn't named must say
nothing about that line; where the two report one mistake on two lines of a statement, each line has its own marker.
The comparison is exact, by file, line, checker and rule: an expected error that isn't reported fails, and so does
any other.

Each checker runs once per folder, under its strict mode and without the project's own settings, so that a sample
means to a user what it means here.
"""

import fcntl
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

PROJECT = Path(__file__).parent.parent.parent
TIMEOUT_SECONDS = 300
"""A cold mypy takes about 20 s on a slow machine; what takes longer than this hangs."""

MARKER = re.compile(r"#\s*expect\b")
EXPECTATION = re.compile(r"# expect:(?P<all>(?: (?:mypy|pyright)\[[\w,-]+\])+)")
PER_CHECKER = re.compile(r"(?P<checker>mypy|pyright)\[(?P<rules>[\w,-]+)\]")


class HarnessError(Exception):
    """The samples or the checker can't be used: nothing was compared."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One error at one line, said or expected. What the checker says in words is no part of its identity."""

    file: str
    line: int
    checker: str
    rule: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.checker}[{self.rule}]"


@dataclass(frozen=True, slots=True)
class Report:
    """What a checker said about a folder: its errors, and its own words for each of them."""

    found: frozenset[Finding]
    words: tuple[str, ...]


def samples(folder: Path) -> list[Path]:
    """The samples of a folder. An empty folder checks nothing, so it is an error."""
    paths = sorted(folder.rglob("*.py"))
    if not paths:
        raise HarnessError(f"{folder}: no samples; a typing test without samples protects nothing")
    return paths


def expected(folder: Path, checker: str) -> frozenset[Finding]:
    """What the samples of `folder` say that `checker` must report."""
    return frozenset(
        Finding(path.relative_to(folder).as_posix(), line, checker, rule)
        for path in samples(folder)
        for line, named, rule in markers(path)
        if named == checker
    )


def markers(path: Path) -> Iterator[tuple[int, str, str]]:
    """Each expectation in a file as (line, checker, rule). A comment that only resembles one is an error."""
    with tokenize.open(path) as source:
        for token in tokenize.generate_tokens(source.readline):
            if token.type != tokenize.COMMENT or not MARKER.match(token.string):
                continue
            line = token.start[0]
            matched = EXPECTATION.fullmatch(token.string.rstrip())
            if matched is None:
                raise HarnessError(f"{path}:{line}: write '# expect: mypy[code] pyright[rule]', not {token.string!r}")
            for part in PER_CHECKER.finditer(matched["all"]):
                for rule in part["rules"].split(","):
                    yield line, part["checker"], rule


def difference(expected: frozenset[Finding], report: Report) -> str:
    """Empty if they agree; else what is missing and what is too much, with all that the checker said."""
    missing = [f"expected, not reported:  {each}" for each in sorted(expected - report.found)]
    surplus = [f"reported, not expected:  {each}" for each in sorted(report.found - expected)]
    if not missing and not surplus:
        return ""
    return "\n".join([*missing, *surplus, "the checker's words:", *(report.words or ("(none)",))])


def run_mypy(folder: Path) -> Report:
    # One cache for all samples, so that mypy reads amends once. Two runs at a time would spoil it: they take turns.
    cache = PROJECT / ".mypy_cache" / "samples"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "turn").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        status, output, errors = run(
            [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", "--output=json"],
            [str(path) for path in samples(folder)],
        )
    # 0: clean, 1: errors in the samples. All else (2: wrong usage or a crash) means that nothing was checked.
    if status not in {0, 1}:
        raise HarnessError(f"mypy stopped with {status}:\n{output}\n{errors}")
    said = [msgspec.json.decode(line, type=MypyMessage) for line in output.splitlines() if line.strip()]
    return report(
        folder,
        [
            (each.file, each.line, "mypy", each.code or "no-code", each.message)
            for each in said
            if each.severity == "error"
        ],
        failed=status == 1,
    )


def run_pyright(folder: Path) -> Report:
    settings = folder / "pyrightconfig.json"  # strict; a list of files on the command line would read no settings
    status, output, errors = run(
        [sys.executable, "-m", "pyright", "--outputjson", f"--pythonpath={sys.executable}", f"--project={settings}"],
        [],
    )
    # 0: clean, 1: errors in the samples. All else means that nothing was checked.
    if status not in {0, 1}:
        raise HarnessError(f"pyright stopped with {status}:\n{output}\n{errors}")
    said = msgspec.json.decode(output, type=PyrightOutput)
    if said.summary.files_analyzed < len(samples(folder)):
        raise HarnessError(f"pyright read {said.summary.files_analyzed} of {len(samples(folder))} samples in {folder}")
    return report(
        folder,
        [
            (each.file, each.range.start.line + 1, "pyright", each.rule or "no-rule", each.message)
            for each in said.general_diagnostics
            if each.severity in {"error", "warning"}
        ],
        failed=status == 1,
    )


CHECKERS: dict[str, Callable[[Path], Report]] = {"mypy": run_mypy, "pyright": run_pyright}


def run(command: list[str], files: list[str]) -> tuple[int, str, str]:
    done = subprocess.run(
        [*command, *files],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        # pyright would else ask the network at each start whether it is the newest.
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )
    return done.returncode, done.stdout, done.stderr


def report(folder: Path, said: list[tuple[str, int, str, str, str]], *, failed: bool) -> Report:
    if failed and not said:
        raise HarnessError(f"the checker refused {folder} without saying where")
    found: set[Finding] = set()
    words: list[str] = []
    for file, line, checker, rule, message in said:
        path = (PROJECT / file).resolve()
        if not path.is_relative_to(folder):
            raise HarnessError(f"an error outside the samples, {path}:{line}: {message} [{rule}]")
        finding = Finding(path.relative_to(folder).as_posix(), line, checker, rule)
        found.add(finding)
        words.append(f"  {finding}: {message}")
    return Report(frozenset(found), tuple(words))


class MypyMessage(msgspec.Struct):
    file: str
    line: int
    message: str
    code: str | None
    severity: str


class Position(msgspec.Struct):
    line: int


class Range(msgspec.Struct):
    start: Position


class PyrightMessage(msgspec.Struct):
    file: str
    severity: str
    message: str
    range: Range = msgspec.field(default_factory=lambda: Range(Position(0)))
    rule: str | None = None


class PyrightSummary(msgspec.Struct, rename="camel"):
    files_analyzed: int


class PyrightOutput(msgspec.Struct, rename="camel"):
    general_diagnostics: list[PyrightMessage]
    summary: PyrightSummary
