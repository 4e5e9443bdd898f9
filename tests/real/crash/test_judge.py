"""The judge of the kills isn't blind: whatever a crash could have broken, broken on purpose, is seen."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.real.crash.judge import judge, sent
from tests.real.crash.lives import RUN, Life, Mother
from tests.real.crash.mortal import write_line

CASE = "refused-at-the-third"


@pytest.fixture(scope="module")
def fine(mothers: tuple[Mother, Mother], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fine")
    assert mothers[0].bear(Life(folder=str(folder), case=CASE)) == 0
    judge(folder, CASE)
    return folder


@pytest.mark.parametrize(
    ("file", "sql"),
    [
        pytest.param("stock.db", "insert into effect select * from effect limit 1", id="an effect happened twice"),
        pytest.param("bank.db", "delete from effect where phase = 'compensation'", id="an effect is left behind"),
        pytest.param(
            "stock.db", "update effect set at = 1 where phase = 'compensation'", id="undone before it was done"
        ),
        pytest.param(
            "bank.db", "update effect set at = 2 * at where phase = 'compensation'", id="undone in the wrong order"
        ),
        pytest.param("bank.db", "update amends_barrier set state = 'succeeded'", id="a barrier row is left as done"),
        pytest.param("stock.db", "update amends_barrier set state = 'acting'", id="a barrier row is left half-way"),
        pytest.param("log.db", "delete from events where version = 3", id="an event is missing"),
        pytest.param("log.db", "delete from events where kind = 'RunEnded'", id="the last event is missing"),
        pytest.param("log.db", "update runs set owner = 'gone'", id="an ended run has an owner"),
        pytest.param("log.db", "update runs set due_at = 1", id="an ended run is due"),
        pytest.param("log.db", "update runs set state = 'completed'", id="the row says another end"),
        pytest.param("log.db", "update events set epoch = 9 where version = 1", id="an epoch fell"),
    ],
)
def test_a_database_that_breaks_a_promise_is_seen(fine: Path, tmp_path: Path, file: str, sql: str) -> None:
    folder = shutil.copytree(fine, tmp_path / "broken")
    with closing(sqlite3.connect(folder / file, isolation_level=None)) as db:
        assert db.execute(sql).rowcount > 0, "it was broken"
    with pytest.raises(AssertionError):
        judge(folder, CASE)


def test_other_bytes_under_the_same_key_are_seen(fine: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fine, tmp_path / "broken")
    key, _ = sent(folder)[0]
    assert key.startswith(f"{RUN}:")
    write_line(folder / "sent", json.dumps([key, "other"]).encode())
    with pytest.raises(AssertionError):
        judge(folder, CASE)


def test_a_run_that_nobody_saw_end_is_seen(folders: Callable[[], Path], fine: Path) -> None:
    folder = shutil.copytree(fine, folders() / "broken")
    (folder / "said").write_text("started\n")
    with pytest.raises(AssertionError):
        judge(folder, CASE)
