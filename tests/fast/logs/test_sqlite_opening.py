"""Who may open the file, and what is refused before the first byte of it is changed."""

# pyright: reportPrivateUsage=false

import asyncio
import logging
import os
import re
import sqlite3
import struct
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from amends.core.words.errors import LogDamaged, LogInUse, LogUnavailable
from amends.logs.sqlite import opening
from amends.logs.sqlite.log import SqliteLog, open_readonly
from amends.ports.log import Find
from amends.testing.contracts.log_entries import ORDERS, start, write
from tests.fast.logs.processes import started


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.db"


async def filled(path: Path, runs: int = 200) -> None:
    """A log with some runs, closed in good order."""
    log = SqliteLog(path)
    await log.open()
    await write(log, *(start(f"r{number}", tags={"number": str(number)}) for number in range(runs)))
    await log.close()


async def read_line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()


def content(path: Path) -> bytes:
    return path.read_bytes()


def make_empty(path: Path) -> None:
    path.touch()


def names_beside(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


# -- files of earlier versions

EARLIER = """
DROP INDEX runs_live; DROP INDEX runs_other_ends; DROP INDEX runs_late; DROP INDEX runs_due; DROP VIEW run_steps;
CREATE INDEX runs_by_state ON runs (state, created_at, id);
CREATE INDEX runs_due ON runs (due_at) WHERE owner IS NULL AND due_at IS NOT NULL;
CREATE VIEW run_steps AS SELECT id AS run FROM runs;
CREATE INDEX of_ones_own ON runs (digest);
"""


def layout(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as file:
        return dict(
            file.execute("SELECT name, sql FROM sqlite_master WHERE type IN ('index', 'view') AND sql IS NOT NULL")
        )


async def test_a_file_of_an_earlier_version_gets_the_indexes_and_views_of_this_one(path: Path) -> None:
    """Its runs are there before and after, whoever only reads needs none of them, and what isn't ours stays."""
    await filled(path, runs=3)
    whole = layout(path)
    with closing(sqlite3.connect(path)) as file:
        file.executescript(EARLIER)
    async with open_readonly(path) as reader:
        assert [each.count for each in await reader.live()] == [3]
        assert len(await reader.find(Find(states=["running"]))) == 3
    log = SqliteLog(path)
    await log.open()
    assert len(await log.find(Find(states=["running"]))) == 3
    await write(log, start("another"))
    assert [each.count for each in await log.live()] == [4]
    await log.close()
    assert layout(path) == {**whole, "of_ones_own": "CREATE INDEX of_ones_own ON runs (digest)"}


# -- one process


async def test_a_second_process_is_told_who_has_the_log(path: Path) -> None:
    async with started("hold", path) as holder:
        assert await read_line(holder) == "open"
        with pytest.raises(LogInUse) as refused:
            await SqliteLog(path).open()
        assert str(refused.value) == (
            f"{path} is in use by process {holder.pid} on this machine. "
            "One process per SQLite log; for more use --log postgresql://..."
        )
        holder.kill()
        await holder.wait()
        log = SqliteLog(path)
        await log.open()  # the kernel let go of it
        assert [run.run for run in await log.claim([ORDERS], now=0, limit=10)] == ["held"]
        await log.close()


async def test_the_same_process_cant_open_it_twice(path: Path) -> None:
    log = SqliteLog(path)
    await log.open()
    with pytest.raises(LogInUse, match=f"process {os.getpid()} "):
        await SqliteLog(path).open()
    await write(log, start("a"))
    await log.close()
    await log.open()
    await log.close()


@pytest.fixture
def link(path: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    (directory / "link.db").symlink_to(path)
    return directory / "link.db"


async def test_a_symbolic_link_is_no_way_around_the_lock(path: Path, link: Path) -> None:
    log = SqliteLog(path)
    await log.open()
    with pytest.raises(LogInUse):
        await SqliteLog(link).open()
    await log.close()


async def test_a_program_that_the_process_starts_doesnt_keep_the_lock(path: Path) -> None:
    log = SqliteLog(path)
    await log.open()
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "print('up', flush=True); input()"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        close_fds=False,
    )
    assert await read_line(program) == "up"
    await log.close()
    await log.open()
    assert program.returncode is None
    await log.close()
    await program.communicate(b"\n")


async def test_a_log_that_could_not_be_opened_isnt_locked(path: Path) -> None:
    garbage(path)
    for _ in range(2):
        with pytest.raises(LogDamaged):
            await SqliteLog(path).open()


# -- reading beside the owner


async def test_others_read_while_the_log_is_in_use(path: Path) -> None:
    async with started("hold", path) as holder:
        assert await read_line(holder) == "open"
        async with open_readonly(path) as reader:
            assert [run.run for run in await reader.find(Find())] == ["held"]
            assert dict(await reader.count()) == {"running": 1}
            found = await reader.read("held")
            assert found is not None
            assert [event.kind for event in found.events] == ["RunStarted"]
        assert holder.returncode is None


async def test_a_closed_log_can_be_read(path: Path) -> None:
    await filled(path, runs=3)
    async with open_readonly(path) as reader:
        assert len(await reader.find(Find())) == 3
    with pytest.raises(LogUnavailable):
        await reader.count()


async def test_reading_makes_no_file(path: Path) -> None:
    with pytest.raises(LogUnavailable, match="no log at"):
        async with open_readonly(path):
            pass
    assert names_beside(path) == []


async def test_reading_sees_what_was_acknowledged_before(path: Path) -> None:
    log = SqliteLog(path)
    await log.open()
    async with open_readonly(path) as reader:
        for number in range(20):
            await write(log, start(f"r{number}"))
            assert await reader.read_row(f"r{number}") is not None
            assert await log.read_row(f"r{number}") is not None
    await log.close()


# -- what is refused


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(10_000))


def a_few_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def cut_off(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def cut_off_in_a_page(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def scrambled(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 9] = os.urandom(4096 * 6)
    path.write_bytes(data)


def scrambled_first_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100:4096] = os.urandom(3996)
    path.write_bytes(data)


def of_another_program(path: Path) -> None:
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE customers (name TEXT)")
    other.close()


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (garbage, "isn't an SQLite database"),
        (a_few_bytes, "is cut off after 60 bytes"),
        (cut_off, r"is cut off: it has \d+ of \d+ bytes"),
        (cut_off_in_a_page, r"is cut off: it has \d+ of \d+ bytes"),
        (scrambled, "is damaged: "),
        (scrambled_first_page, "is damaged: "),
        (of_another_program, "is an SQLite database of something else"),
    ],
)
async def test_what_is_no_sound_log_is_refused_and_left_as_it_is(
    path: Path, harm: Callable[[Path], None], says: str
) -> None:
    await filled(path)
    sound = content(path)
    harm(path)
    harmed = content(path)
    assert harmed != sound
    with pytest.raises(LogDamaged, match=says) as refused:
        await SqliteLog(path).open()
    assert "Nothing was changed." in str(refused.value)
    assert str(path) in str(refused.value)
    assert content(path) == harmed


async def test_a_log_of_a_newer_version_is_refused_and_left_as_it_is(path: Path) -> None:
    await filled(path, runs=1)
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    before = content(path)
    with pytest.raises(LogUnavailable, match=r"newer amends \(its schema is 99, this one knows 1\).*pip install"):
        await SqliteLog(path).open()
    with pytest.raises(LogUnavailable, match="newer amends"):
        async with open_readonly(path):
            pass
    assert content(path) == before


async def test_a_directory_that_isnt_there(tmp_path: Path) -> None:
    with pytest.raises(LogUnavailable, match=r"there is no directory .*nowhere"):
        await SqliteLog(tmp_path / "nowhere" / "orders.db").open()


async def test_a_directory_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(LogUnavailable, match="is a directory"):
        await SqliteLog(tmp_path).open()


async def test_a_directory_that_cant_be_written() -> None:
    async with started("open_as_nobody", "/orders.db") as process:
        said = await read_line(process)
    assert said == "LogUnavailable: /orders.db: the directory / can't be written by this user. Its owner must allow it."


# -- what is made


async def test_an_empty_file_becomes_a_log(path: Path) -> None:
    make_empty(path)
    await filled(path, runs=2)
    await filled_again(path)


async def filled_again(path: Path) -> None:
    log = SqliteLog(path)
    await log.open()
    assert dict(await log.count()) == {"running": 2}
    await log.close()


async def test_a_name_with_special_letters_is_just_a_name(tmp_path: Path) -> None:
    path = tmp_path / "år 1?mode=ro#%41.db"
    await filled(path, runs=2)
    assert path.name in names_beside(path)
    await filled_again(path)


async def test_commits_reach_the_disk_before_they_are_acknowledged(path: Path) -> None:
    log = SqliteLog(path)
    await log.open()
    settings = ("journal_mode", "synchronous", "fullfsync", "checkpoint_fullfsync")
    found = await log.write(
        lambda writer: [writer.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in settings]
    )
    assert found == ["wal", 2, 1, 1]
    await log.close()


async def test_a_log_closed_in_good_order_is_one_file_and_its_lock(path: Path) -> None:
    await filled(path)
    assert names_beside(path) == ["orders.db", "orders.db.lock"]
    (application,) = struct.unpack_from(">I", content(path), 68)
    assert application == opening.APPLICATION_ID


async def test_workers_that_are_gone_are_forgotten_once_they_own_nothing(path: Path) -> None:
    for _ in range(3):
        await filled(path, runs=0)
    log = SqliteLog(path)
    await log.open()
    await write(log, start("a"))
    assert log._writer is not None
    log._writer.broken = "its process died"  # so that it can't hand over what it owns
    await log.close()
    await log.open()

    def workers() -> list[str]:
        other = sqlite3.connect(path)
        states = [state for (state,) in other.execute("SELECT state FROM workers ORDER BY state")]
        other.close()
        return states

    assert workers() == ["dead", "live"]
    await log.claim([ORDERS], now=0, limit=10)
    await log.close()
    await log.open()
    assert workers() == ["live"]
    await log.close()


async def test_an_old_sqlite_is_no_reason_to_raise_ones_voice(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await filled(path, runs=1)
    is_old = sqlite3.sqlite_version_info < opening.WAL_RESET_FIXED
    said = [record for record in caplog.records if re.search("lacks a fix", record.getMessage())]
    assert [record.levelno for record in said] == ([logging.INFO] if is_old else [])
