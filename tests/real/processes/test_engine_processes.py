"""A real process on real files is killed again and again, and every order it acknowledged ends, exactly once."""

import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.real.processes.engine_process import is_refused

RUNS = 120
ROOT = Path(__file__).parents[3]


def life(folder: Path, lines: int | None) -> tuple[list[str], int]:
    """One life of the process: killed after it said so many lines, or left to its end."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.real.processes.engine_process", str(folder), str(RUNS)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line.strip())
            if lines is not None and len(said) >= lines:
                process.kill()
                break
        said += [line.strip() for line in process.stdout]
    return said, process.returncode


def effects(path: Path) -> Counter[str]:
    with sqlite3.connect(path) as db:
        return Counter(dict(db.execute("select what, sum(change) from effect group by what")))


def unfinished(path: Path) -> int:
    with sqlite3.connect(path) as db:
        (count,) = db.execute("select count(*) from runs where ended_at is null").fetchone()
    return int(count)


def test_every_acknowledged_run_ends_once_however_often_the_process_is_killed(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    interrupted = 0
    for lines in (2, 10, 40, 80, 110, 119, 121, 121, 121, None):
        said, code = life(tmp_path, lines)
        acknowledged |= {line.removeprefix("started ") for line in said if line.startswith("started ")}
        if code == 0:
            assert said[-1] == "over"
            break
        interrupted += unfinished(tmp_path / "log.db") > 0
    assert interrupted >= 3, "it was killed with work under way: or this tests nothing"
    runs = {f"o-{i}" for i in range(RUNS)}
    assert acknowledged == runs

    stock, bank = effects(tmp_path / "stock.db"), effects(tmp_path / "bank.db")
    for run in runs:
        fine = 0 if is_refused(run) else 1
        assert (stock[run], bank[run]) == (fine, fine), run
        assert (stock[f"{run} sent"], bank[f"{run} captured"]) == (fine, fine), run
    with sqlite3.connect(tmp_path / "log.db") as log:
        states = dict(log.execute("select state, count(*) from runs where owner is null group by state"))
    assert states == {"compensated": 40, "completed": 80}
    with sqlite3.connect(tmp_path / "stock.db") as db:
        (most,) = db.execute("select max(n) from (select count(*) n from effect group by what, change)").fetchone()
    assert most == 1, "each effect, and each undo, happened once"
