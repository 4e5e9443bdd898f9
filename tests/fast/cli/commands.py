"""The command line as people use it: a folder, an exit code, two streams.

`amends` runs a command in this process, as quick as a function; the others in one of its own, where that is tested.
"""

import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from amends.cli.main import run

SECONDS = 120
TERMINAL = {"COLUMNS": "200", "NO_COLOR": "1"}


@dataclass(frozen=True, slots=True)
class Told:
    code: int
    out: str
    err: str


def amends(folder: Path, *arguments: str) -> Told:
    """Run one command in a folder; modules that it loads from there are forgotten afterwards."""
    out, err = StringIO(), StringIO()
    modules, paths, environment = dict(sys.modules), list(sys.path), dict(os.environ)
    os.environ.update(TERMINAL)
    try:
        with chdir(folder), redirect_stdout(out), redirect_stderr(err):
            code = run(arguments)
    finally:
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = paths
        for name in set(sys.modules) - set(modules):
            if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
    return Told(code, out.getvalue(), err.getvalue())


def amends_process(folder: Path, *arguments: str, before: str = "") -> Told:
    """Run one command as a process. `before` is Python that runs first in it."""
    return python(folder, "-c", f"{before}\nfrom amends.cli.main import main\nmain()", *arguments)


def python(folder: Path, *arguments: str) -> Told:
    """Run Python in a folder."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, **TERMINAL},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    told = Told(done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in told.err, told.err
    return told
