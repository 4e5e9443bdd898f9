"""Plays a page: its files are written, its commands run, and what they print is compared with what it says."""

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.docs.collect import PROJECT, Block
from tests.support.plain_pytest import WITHOUT_OURS

TIMEOUT_SECONDS = 60
DIAGRAMS = {"flowchart", "stateDiagram-v2", "sequenceDiagram"}
PUT_ASIDE = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z| UTC)?"), "<time>"),
    (re.compile(r"\b\d{16}\b"), "<time>"),
    (re.compile(r"\b\d\d:\d\d:\d\d(\.\d+)?\b"), "<clock>"),
    (re.compile(r"\b\d+(\.\d+)? (ms|s|min)\b"), "<age>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:<port>"),
)


def play(block: Block, folder: Path) -> None:
    """Check one block in the folder that its page's earlier blocks were played in."""
    match block.how:
        case "file":
            path = folder / block.what
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text + "\n", "utf-8")
        case "output of":
            compare(block, block.text, ran(block, block.what, folder))
        case "run":
            console(block, folder)
        case "served by":
            with serving(block, folder) as address:
                console(block, folder, address)
        case "rows of":
            rows(block, folder)
        case "excerpt of":
            source = (PROJECT / block.what).read_text("utf-8")
            assert block.text in source, f"{block.where}: this isn't in {block.what} (any more)"
        case "json":
            json.loads(block.text)
        case "mermaid":
            kind = block.text.partition("\n")[0].split()[0]
            assert kind in DIAGRAMS, f"{block.where}: {kind} is no diagram"
        case "not run,":
            pass
        case how:
            pytest.fail(f"{block.where}: nobody knows how to play {how!r}")


def console(block: Block, folder: Path, address: str = "") -> None:
    for command, said in commands(block.text):
        if command.startswith("curl ") and shutil.which("curl") is None:
            pytest.skip("no curl on this machine")
        compare(block, said, ran(block, command.replace("127.0.0.1:8700", address) if address else command, folder))


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each `$ ` line as a reader pastes it, with the lines it goes on in, and what is said to be printed."""
    command, said = "", list[str]()
    for line in text.split("\n"):
        if line.startswith("$ "):
            if command:
                yield command, "\n".join(said)
            command, said = line[2:], []
        elif command.endswith("\\") or has_open_quote(command):
            command += f"\n{line}"
        else:
            said.append(line)
    if command:
        yield command, "\n".join(said)


def has_open_quote(command: str) -> bool:
    """Whether a shell would ask for another line to close a quote."""
    try:
        shlex.split(command, posix=True)
    except ValueError as error:
        return "quotation" in str(error)
    return False


def environment() -> dict[str, str]:
    """The tools of this environment first, and no colours."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NO_COLOR": "1",
        "COLUMNS": "120",
        "PYTHONPATH": "",  # what a page needs is installed or beside it
        # nor is it what lies in a folder above
        "PYTEST_ADDOPTS": f"-c {os.devnull} --rootdir=. {' '.join(WITHOUT_OURS)}",
    }


def ran(block: Block, command: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, f"{block.where}: {command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def serving(block: Block, folder: Path) -> Generator[str]:
    """The address of the server that the block is about, on a free port."""
    server = subprocess.Popen(
        [*block.what.split(), "--listen", "127.0.0.1:0"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert server.stdout is not None
        said = server.stdout.readline()
        found = re.search(r"127\.0\.0\.1:\d+", said)
        assert found is not None, f"{block.where}: {block.what} said {said!r} instead of where it listens"
        yield found[0]
    finally:
        server.terminate()
        server.communicate(timeout=TIMEOUT_SECONDS)
    assert server.returncode == 0, f"{block.where}: {block.what} ended with {server.returncode}"


def rows(block: Block, folder: Path) -> None:
    """`-- ` lines after the statement are the rows it must find, as SQLite's own shell prints them."""
    lines = block.text.split("\n")
    said = [line.removeprefix("-- ") for line in lines if line.startswith("-- ")]
    statement = "\n".join(line for line in lines if not line.startswith("-- "))
    with closing(sqlite3.connect(f"file:{folder / block.what}?mode=ro", uri=True)) as db:
        found = ["|".join("" if each is None else str(each) for each in row) for row in db.execute(statement)]
    assert found, f"{block.where}: the statement finds nothing"
    if said:
        compare(block, "\n".join(said), "\n".join(found))


def compare(block: Block, said: str, printed: str) -> None:
    assert matches(aside(said), aside(printed)), f"{block.where}: said\n{said}\nbut it prints\n{printed}"


def aside(text: str) -> str:
    for pattern, word in PUT_ASIDE:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.strip().split("\n"))


def matches(said: str, printed: str) -> bool:
    """Whether the output is the one said, with `...` for what isn't."""
    parts = [
        "(?:.*\n)*" if line.strip() == "..." else ".*".join(map(re.escape, line.split("..."))) + "\n"
        for line in said.split("\n")
    ]
    return re.fullmatch("".join(parts), printed + "\n") is not None
