"""A batch of owners' appends is written by few statements, and one at a time only where an entry was refused."""

from pathlib import Path

import pytest

from amends.logs.sqlite.log import SqliteLog
from amends.logs.sqlite.writer import SqliteWriter
from amends.ports.log import Append, Start, Written
from amends.testing.contracts.log_entries import append, start

ONE_BY_ONE = "_append_one_by_one"


@pytest.fixture
def separately(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How large the batches were that had to be written one by one."""
    sizes: list[int] = []
    real = getattr(SqliteWriter, ONE_BY_ONE)

    def counted(self: SqliteWriter, batch: list[Start | Append]) -> object:
        sizes.append(len(batch))
        return real(self, batch)

    monkeypatch.setattr(SqliteWriter, ONE_BY_ONE, counted)
    return sizes


async def test_a_batch_that_is_accepted_is_written_together(tmp_path: Path, separately: list[int]) -> None:
    log = SqliteLog(tmp_path / "log.db")
    await log.open()
    try:
        runs = [f"r{n}" for n in range(77)]
        assert set(await log.append([start(run) for run in runs])) == {Written.ACCEPTED}
        assert set(await log.append([append(run, 1) for run in runs])) == {Written.ACCEPTED}
        assert separately == []
        assert [row.version for run in runs if (row := await log.read(run)) is not None] == [2] * 77
    finally:
        await log.close()


async def test_a_batch_with_a_refused_entry_is_written_one_by_one(tmp_path: Path, separately: list[int]) -> None:
    log = SqliteLog(tmp_path / "log.db")
    await log.open()
    try:
        await log.append([start("a"), start("b"), start("c")])
        verdicts = await log.append([append("a", 1), append("b", 7), append("c", 1)])
        assert list(verdicts) == [Written.ACCEPTED, Written.MOVED_ON, Written.ACCEPTED]
        assert separately == [3]
    finally:
        await log.close()
