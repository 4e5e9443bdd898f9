"""Running the command line as people do: a process, a folder, an exit code, two streams."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SECONDS = 60


@dataclass(frozen=True, slots=True)
class Told:
    code: int
    out: str
    err: str


def amends(folder: Path, *arguments: str, before: str = "") -> Told:
    """Run one command in a folder. `before` is Python that runs first in its process."""
    script = f"{before}\nfrom amends.cli.main import main\nmain()"
    return _run(folder, [sys.executable, "-c", script, *arguments])


def python(folder: Path, *arguments: str) -> Told:
    return _run(folder, [sys.executable, *arguments])


def _run(folder: Path, command: list[str]) -> Told:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "PYTHONSAFEPATH": ""}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    told = Told(done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in told.err, told.err
    return told
