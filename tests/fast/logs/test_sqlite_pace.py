"""Where commits are waited for: on the loop as long as they are quick, and again once they are."""

from pathlib import Path
from threading import get_ident

import pytest

from amends.logs.sqlite import log as log_module
from amends.logs.sqlite.log import SqliteLog
from amends.logs.sqlite.pace import LOOK_AGAIN_EVERY, QUICK_SECONDS, Pace
from amends.logs.sqlite.writer import SqliteWriter
from amends.testing.contracts.log_entries import append, start, write


def test_one_pause_of_the_machine_changes_nothing() -> None:
    pace = Pace()
    pace.took(0.0003)
    pace.took(3 * QUICK_SECONDS)
    assert pace.is_quick()


def test_a_slow_disk_is_left_to_the_thread_and_looked_at_again() -> None:
    pace = Pace()
    for _ in range(4):
        pace.took(0.05)
    asked = [pace.is_quick() for _ in range(2 * LOOK_AGAIN_EVERY)]
    assert asked.count(True) == 2
    pace.took(0.05)
    assert not pace.is_quick()
    pace.took(0.0003)
    assert pace.is_quick()


async def test_the_write_ahead_log_is_carried_over_on_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "CHECKPOINT_ENTRIES", 10)
    carried: list[int] = []
    real = SqliteWriter.checkpoint

    def checkpoint(writer: SqliteWriter) -> None:
        carried.append(get_ident())
        real(writer)

    monkeypatch.setattr(SqliteWriter, "checkpoint", checkpoint)
    log = SqliteLog(tmp_path / "orders.db")
    await log.open()
    size = (tmp_path / "orders.db").stat().st_size
    await write(log, start("a"))
    for version in range(1, 25):
        await write(log, append("a", version, number=version + 1))
    assert len(carried) == 2
    assert get_ident() not in carried
    assert (tmp_path / "orders.db").stat().st_size > size
    await log.close()
