"""Processes that are killed, disks that are full or broken, callers that go away: what was acknowledged is there."""

import asyncio
import json
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from amends.core.words.errors import LogUnavailable
from amends.logs.sqlite import pace, writer
from amends.logs.sqlite.log import SqliteLog
from amends.ports.log import Find, Written
from amends.testing.contracts.log_entries import ORDERS, append, must_read, start, write
from tests.fast.logs.processes import started


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.db"


@pytest_asyncio.fixture(params=["quick disk", "slow disk"])
async def log(path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteLog]:
    """Both ways of writing: on the loop, and on the thread."""
    if request.param == "slow disk":
        write_on_the_thread(monkeypatch)
    log = SqliteLog(path)
    await log.open()
    yield log
    await log.close()


def write_on_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "QUICK_SECONDS", -1.0)
    monkeypatch.setattr(pace, "LOOK_AGAIN_EVERY", 10**9)


async def test_kill_9_in_the_middle_of_appends_loses_nothing_acknowledged(path: Path) -> None:
    async with started("write_on", path) as process:
        assert process.stdout is not None
        said: list[bytes] = []
        while len(said) < 300:
            said.append(await asyncio.wait_for(process.stdout.readline(), 60))
        process.send_signal(signal.SIGKILL)
        said += (await process.stdout.read()).splitlines(keepends=True)
        assert await process.wait() == -signal.SIGKILL  # it would never have ended by itself
    acknowledged = dict(line.decode().split() for line in said if line.endswith(b"\n"))
    assert len(acknowledged) == 8

    log = SqliteLog(path)
    await log.open()
    for run, version in acknowledged.items():
        found = await must_read(log, run)
        assert found.version >= int(version)
        assert len(found.events) == found.version
    claimed = await log.claim([ORDERS], now=0, limit=100)
    assert {run.run for run in claimed} == set(acknowledged)
    await write(log, *(append(run.run, run.version, epoch=run.epoch, number=10**6) for run in claimed))
    await log.close()


async def test_a_full_disk_refuses_one_batch_and_the_log_goes_on(log: SqliteLog) -> None:
    await write(log, start("a"))

    async def allow(pages: int) -> int:
        """As many as there are already, at least; gives how many it is."""
        sql = f"PRAGMA max_page_count = {pages}"
        return await log.write(lambda writer: int(writer.connection.execute(sql).fetchone()[0]))

    assert await allow(1) < 1_000
    much = {f"tag{number}": "x" * 10_000 for number in range(4)}
    with pytest.raises(LogUnavailable, match="database or disk is full"):
        await log.append([append("a", 1), start("b", tags=much)])
    assert (await must_read(log, "a")).version == 1
    assert await log.read("b") is None

    await allow(1_000_000)
    assert await log.append([append("a", 1), start("b", tags=much)]) == [Written.ACCEPTED] * 2


async def test_a_write_that_fails_ends_the_log_until_it_is_opened_again(path: Path) -> None:
    async with started("fail_to_write", path) as process:
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0
    said = json.loads(output)
    assert said["big"].startswith("unavailable: ")
    assert "SQLITE_IOERR" in said["big"]
    for call in ("after", "claim", "read"):  # though the disk would take it by then
        assert said[call] == said["big"]
    assert "start the process again" in said["big"]
    assert said["reopened"].startswith("fine")
    assert said["runs"] == "again,before"


async def test_damage_met_while_writing_ends_the_log(log: SqliteLog) -> None:
    await write(log, start("a"))

    def damage() -> None:
        raise sqlite_error(sqlite3.SQLITE_CORRUPT, "SQLITE_CORRUPT")

    with pytest.raises(LogUnavailable, match="SQLITE_CORRUPT"):
        await log.write(lambda writer: writer.transact(damage))
    with pytest.raises(LogUnavailable, match="SQLITE_CORRUPT"):
        await log.append([start("b")])


def sqlite_error(code: int, name: str) -> sqlite3.Error:
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = code
    error.sqlite_errorname = name
    return error


async def test_somebody_elses_transaction_refuses_one_batch(
    log: SqliteLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(log, start("a"))
    monkeypatch.setattr(writer, "BUSY_SECONDS", 0.001)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogUnavailable, match="database is locked"):
        await log.append([append("a", 1)])
    other.execute("ROLLBACK")
    other.close()
    await write(log, append("a", 1))


async def test_values_that_cant_be_stored_are_the_callers_mistake(log: SqliteLog) -> None:
    with pytest.raises(OverflowError):
        await log.append([start("a"), start("b", at=2**70)])
    assert await log.read("a") is None  # the batch as a whole
    await write(log, start("a"))


async def test_somebody_elses_transaction_is_waited_for_beside_the_loop(log: SqliteLog, path: Path) -> None:
    await write(log, start("a"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    appending = asyncio.create_task(log.append([append("a", 1)]))
    for _ in range(100):
        await asyncio.sleep(0)  # the loop goes on while the append waits
    assert not appending.done()
    other.execute("ROLLBACK")
    other.close()
    assert await appending == [Written.ACCEPTED]


async def test_a_caller_that_goes_away_takes_nothing_back(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    write_on_the_thread(monkeypatch)
    gone = asyncio.create_task(log.append([start("a")]))
    await asyncio.sleep(0)  # handed over
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert await log.append([start("a")]) == [Written.ACCEPTED]
    assert (await must_read(log, "a")).version == 1


async def test_many_callers_at_once_each_get_their_own_verdicts(log: SqliteLog) -> None:
    async def one(run: str) -> list[Written]:
        verdicts = list(await log.append([start(run)]))
        for version in range(1, 20):
            verdicts += await log.append([append(run, version, number=version + 1)])
            verdicts += await log.append([append(run, version, number=999)])
        return verdicts

    for verdicts in await asyncio.gather(*(one(f"r{number}") for number in range(30))):
        assert verdicts == [Written.ACCEPTED] + [Written.ACCEPTED, Written.MOVED_ON] * 19
    assert {run.version for run in await log.find(Find())} == {20}


async def test_closing_waits_for_what_was_handed_over(path: Path) -> None:
    log = SqliteLog(path)
    await log.open()
    appends = [asyncio.create_task(log.append([start(f"r{number}")])) for number in range(50)]
    await asyncio.sleep(0)
    await log.close()
    assert [verdict for (verdict,) in await asyncio.gather(*appends)] == [Written.ACCEPTED] * 50
    await log.open()
    assert len(await log.find(Find())) == 50
    await log.close()


async def test_an_opening_that_is_cancelled_leaves_nothing_open(path: Path) -> None:
    opening = asyncio.create_task(SqliteLog(path).open())
    await asyncio.sleep(0)  # handed over
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    log = SqliteLog(path)
    await log.open()
    await write(log, start("a"))
    await log.close()
