"""Corners of the SQLite log that no ordinary day leads into: each says what is wrong, and lets go of the file."""

# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

import asyncio
import errno
import fcntl
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amends.core.words.errors import LogBroken, LogDamaged, LogInUse, LogTooSlow, LogUnavailable
from amends.logs.memory import MemoryLog
from amends.logs.sqlite import log as log_module
from amends.logs.sqlite import opening, pace
from amends.logs.sqlite import reader as reader_module
from amends.logs.sqlite.lane import SqliteThread
from amends.logs.sqlite.lock import LockFile
from amends.logs.sqlite.log import ReadingThread, SqliteLog, check_place, open_readonly
from amends.logs.sqlite.reader import Reader
from amends.logs.sqlite.writer import SqliteWriter
from amends.ports.log import ACCEPTED, Find
from amends.testing.contracts.log_entries import ORDERS, append, row, start, write
from tests.fast.logs.test_sqlite_faults import sqlite_error
from tests.support.forked import forked


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.db"


class Breaking:
    """A connection that raises when a statement begins so, and forwards everything else."""

    def __init__(self, inner: sqlite3.Connection, statement: str, error: sqlite3.Error) -> None:
        self.inner, self.statement, self.error, self.fired = inner, statement, error, 0

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:  # noqa: ANN401 - as sqlite3 has it
        if sql.startswith(self.statement):
            self.fired += 1
            raise self.error
        return self.inner.execute(sql, *parameters)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the connection has
        return getattr(self.inner, name)


IO_ERROR = sqlite_error(sqlite3.SQLITE_IOERR, "SQLITE_IOERR")

# -- who has it, and since when


def test_neither_log_of_one_process_has_a_lease_to_renew(path: Path) -> None:
    assert SqliteLog(path).lease is None
    assert MemoryLog().lease is None


async def test_who_only_reads_owns_nothing(path: Path) -> None:
    log = SqliteLog(path)
    await log.open()
    async with open_readonly(path) as reader:
        assert isinstance(reader, ReadingThread)
        assert reader.lease is None
    await log.close()


async def test_who_only_reads_is_told_all_that_the_owner_is(path: Path) -> None:
    log = SqliteLog(path)
    await log.open()
    await log.define(ORDERS, b"{}")
    await write(log, start("a"), start("b"))
    await write(log, append("a", 1))
    async with open_readonly(path) as reader:
        for run in ("a", "b", "nowhere"):
            assert await reader.read(run) == await log.read(run)
            assert await reader.read_row(run) == await log.read_row(run)
            assert await reader.read_events(run, 1) == await log.read_events(run, 1)
        assert len(await reader.read_events("a", 1)) == 1
        assert await reader.live() == await log.live()
        assert await reader.standing(["a", "nowhere"]) == await log.standing(["a", "nowhere"]) != {}
        assert await reader.workers() == await log.workers()
        assert await reader.graph(ORDERS) == b"{}"
        assert await reader.count() == await log.count()
    await log.close()


async def test_a_list_is_given_up_after_a_while_and_holds_up_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "LIST_SECONDS", -1.0)
    monkeypatch.setattr(reader_module, "STEPS_BETWEEN_LOOKS", 1)
    log = SqliteLog(path)
    await log.open()
    await write(log, start("a", owned=False, shown=row(due_at=1)))
    for _ in range(2):
        with pytest.raises(LogTooSlow, match="a list was given up"):
            await log.find(Find())
    blocked, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def long(_: Reader) -> None:
        loop.call_soon_threadsafe(blocked.set)
        go_on.wait(60)

    listing = asyncio.create_task(log._lists.call(long))
    await blocked.wait()
    assert await log.next_due() == 1
    assert (await log.read("a")) is not None
    assert [run.run for run in await log.claim([ORDERS], now=2, limit=1)] == ["a"]
    assert [each.count for each in await log.live()] == [1]
    assert not listing.done()
    go_on.set()
    await listing
    await log.close()


# -- where it is


def refused_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


def no_lock_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def opens(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", opens)


@pytest.mark.parametrize(
    ("fault", "said"), [(refused_lock, "No locks available"), (no_lock_file, "Too many open files")]
)
def test_a_lock_that_can_not_be_taken_for_another_reason_is_no_other_process(
    path: Path, fault: Callable[[pytest.MonkeyPatch], None], said: str
) -> None:
    lock = LockFile(path)
    with pytest.MonkeyPatch.context() as patch:
        fault(patch)
        with pytest.raises(LogUnavailable, match=f"can't be locked: .*{said}"):
            lock.take()
    lock.drop()  # nothing is held
    lock.take()
    lock.drop()


def test_a_lock_that_can_not_be_written_is_not_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(LogUnavailable, match="No space left"):
        LockFile(path).take()
    monkeypatch.undo()
    LockFile(path).take()


@pytest.mark.parametrize("kind", ["symbolic link", "dangling link", "hard link", "pipe"])
def test_a_lock_file_that_leads_elsewhere_is_refused_and_changes_nothing(path: Path, kind: str) -> None:
    other, lock = path.with_name("other"), Path(f"{path}.lock")
    if kind != "dangling link":
        other.write_text("precious")
    match kind:
        case "hard link":
            lock.hardlink_to(other)
        case "pipe":
            os.mkfifo(lock)
        case _:
            lock.symlink_to(other)
    with pytest.raises(LogUnavailable, match="can't be locked"):
        LockFile(path).take()
    assert not other.exists() if kind == "dangling link" else other.read_text() == "precious"


def test_a_log_is_its_users_alone(path: Path) -> None:
    before = os.umask(0)
    lock = LockFile(path)
    try:
        lock.take()
        writer = SqliteWriter(path, "me")
        writer.append([start("a")])
    finally:
        os.umask(before)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    writer.close()
    lock.drop()
    assert len(modes) == 4, "the log, its write-ahead log and index, the lock"
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o640, False), (0o600, False)])
def test_a_log_that_every_user_can_read_is_told_of_and_left_as_it_is(
    path: Path, mode: int, *, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    SqliteWriter(path, "me").close()
    path.chmod(mode)
    SqliteWriter(path, "me").close()
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert ("Every user of this machine can read" in caplog.text) is warned


def test_a_forked_child_does_not_keep_the_lock(path: Path) -> None:
    lock = LockFile(path)
    lock.take()
    with forked():
        with pytest.raises(LogInUse):
            LockFile(path).take()
        lock.drop()
        LockFile(path).take()  # though the child is alive


@pytest.mark.parametrize(
    ("denied", "said"), [("directory", "the directory .* can't be written"), ("file", "can't be read and written")]
)
def test_a_place_that_this_user_may_not_use_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch, denied: str, said: str
) -> None:
    path.touch()
    monkeypatch.setattr(log_module, "may", lambda asked, _what: asked.is_dir() is not (denied == "directory"))
    with pytest.raises(LogUnavailable, match=said):
        check_place(path)


# -- opening


def test_a_file_that_sqlite_will_not_open_says_what_sqlite_says(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(*_: object, **__: object) -> None:
        raise IO_ERROR

    monkeypatch.setattr(opening, "prepare", prepare)
    with pytest.raises(LogUnavailable, match="can't be opened for writing: database disk image"):
        opening.open_for_writing(path)


def test_a_newer_sqlite_needs_no_word_about_its_age(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", opening.WAL_RESET_FIXED)
    caplog.set_level("INFO")
    opening.open_for_writing(path).close()
    assert caplog.messages == []


def test_a_disk_that_can_have_no_write_ahead_log_is_refused(path: Path) -> None:
    with sqlite3.connect(":memory:") as connection, pytest.raises(LogUnavailable, match="can't have a write-ahead log"):
        opening.prepare(path, connection, is_new=True)
    connection.close()


def nothing(_path: Path) -> None:
    return


@pytest.mark.parametrize(
    ("make", "said"), [(nothing, "There is no log at"), (Path.touch, "is empty: no log was ever opened")]
)
async def test_reading_what_is_not_there_is_told(path: Path, make: Callable[[Path], None], said: str) -> None:
    make(path)
    with pytest.raises(LogUnavailable, match=said):
        async with open_readonly(path):
            pass


def made(path: Path) -> None:
    opening.open_for_writing(path).close()


def test_a_log_that_can_not_be_read_just_now_is_not_called_damaged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(path)
    error = sqlite3.OperationalError("unable to open database file")
    error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN

    def check_content(*_: object, **__: object) -> bool:
        raise error

    monkeypatch.setattr(opening, "check_content", check_content)
    with pytest.raises(LogUnavailable, match="can't be read: unable to open"):
        opening.open_for_reading(path)
    with pytest.raises(LogUnavailable, match="can't be read: unable to open"):
        opening.check(path)


def test_a_file_whose_first_bytes_can_not_be_read_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(path)

    def check_header(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(opening, "check_header", check_header)
    with pytest.raises(LogUnavailable, match="can't be read: Input/output error"):
        opening.check(path)


def test_what_a_dead_process_began_is_looked_at_by_who_may_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(path)
    real, modes = opening.check_content, list[str]()
    error = sqlite3.OperationalError("attempt to write a readonly database")
    error.sqlite_errorcode = sqlite3.SQLITE_READONLY | (3 << 8)

    def check_content(place: Path, mode: Any, *, whole: bool) -> bool:  # noqa: ANN401 - as the real one
        modes.append(mode)
        if mode == "ro":
            raise error
        return real(place, mode, whole=whole)

    monkeypatch.setattr(opening, "check_content", check_content)
    assert opening.check(path)
    assert modes == ["ro", "rw"]


def journal(
    pages_before: int, *, magic: bytes = opening.JOURNAL_MAGIC, length: int = opening.JOURNAL_HEADER_BYTES
) -> bytes:
    return (magic + b"\0" * 8 + pages_before.to_bytes(4, "big")).ljust(opening.JOURNAL_HEADER_BYTES, b"\0")[:length]


@pytest.mark.parametrize(
    ("content", "half_made"),
    [
        (journal(0), True),
        (journal(1), False),
        (journal(0, length=opening.JOURNAL_HEADER_BYTES - 1), False),
        (journal(0, magic=b"12345678"), False),
        (b"", False),
        (None, False),
    ],
)
def test_only_a_journal_of_an_empty_file_says_that_it_was_half_made(
    path: Path, content: bytes | None, half_made: bool
) -> None:
    if content is not None:
        Path(f"{path}-journal").write_bytes(content)
    path.write_bytes(b"torn")
    assert opening.is_half_made(path) is half_made
    if not half_made:
        with pytest.raises(LogDamaged, match="isn't an SQLite database"):
            opening.check(path)


def test_the_bytes_of_a_half_made_file_say_nothing_about_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(f"{path}-journal").write_bytes(journal(0))
    path.write_bytes(b"torn")
    monkeypatch.setattr(opening, "check_content", lambda *_, **__: False)
    assert opening.check(path) is False


def test_what_sqlite_finds_wrong_inside_is_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(path)

    class Cursor:
        def __init__(self, found: object) -> None:
            self.found = found

        def fetchone(self) -> tuple[object]:
            return (self.found,)

    class Connection:
        def execute(self, sql: str) -> Cursor:
            if "quick_check" in sql:
                return Cursor("row 3 missing\n from index")
            return Cursor(opening.APPLICATION_ID if "application_id" in sql else 1)

        def close(self) -> None:
            closed.append(True)

    closed: list[bool] = []
    monkeypatch.setattr(opening, "connect", lambda *_: Connection())
    with pytest.raises(LogDamaged, match="is damaged: row 3 missing from index"):
        opening.check_content(path, "ro", whole=True)
    assert closed == [True]


def test_what_sqlite_can_not_do_just_now_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(path)
    locked = sqlite3.OperationalError("database is locked")
    connections: list[Any] = []

    def connect(*_: object) -> Any:  # noqa: ANN401 - a connection that breaks
        connections.append(Breaking(sqlite3.connect(path), "PRAGMA user_version", locked))
        return connections[-1]

    monkeypatch.setattr(opening, "connect", connect)
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        opening.check_content(path, "ro", whole=True)
    assert [each.fired for each in connections] == [1]
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connections[0].inner.execute("select 1")


# -- writing


def test_a_writer_that_can_not_say_it_is_there_lets_go_of_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_writer: SqliteWriter) -> None:
        raise IO_ERROR

    monkeypatch.setattr(SqliteWriter, "_begin_work", fails)
    with pytest.raises(LogUnavailable, match="SQLITE_IOERR"):
        SqliteWriter(path, "me")
    monkeypatch.undo()
    SqliteWriter(path, "me").close()


def test_a_writer_that_can_not_say_goodbye_closes_all_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SqliteWriter(path, "me")

    def fails() -> None:
        raise IO_ERROR

    monkeypatch.setattr(writer, "_end_work", fails)
    writer.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        writer.connection.execute("SELECT 1")


def test_a_checkpoint_that_fails_ends_the_writing_and_is_not_tried_again(path: Path) -> None:
    writer = SqliteWriter(path, "me")
    breaking: Any = Breaking(writer.connection, "PRAGMA wal_checkpoint", IO_ERROR)
    writer.connection = breaking
    writer.checkpoint()
    assert "SQLITE_IOERR" in (writer.broken or "")
    writer.checkpoint()
    assert breaking.fired == 1
    with pytest.raises(LogBroken):
        writer.append([start("a")])
    writer.close()


@pytest.mark.parametrize("name", ["SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_BUSY"])
def test_a_checkpoint_without_room_is_made_later_and_the_log_goes_on(
    path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    writer = SqliteWriter(path, "me")
    real = writer.connection
    breaking: Any = Breaking(real, "PRAGMA wal_checkpoint", sqlite_error(getattr(sqlite3, name), name))
    writer.connection = breaking
    for _ in range(3):
        writer.checkpoint()
    assert breaking.fired == 3
    assert writer.broken is None
    assert writer.append([start("a")]) == [ACCEPTED]
    writer.connection = real
    writer.checkpoint()
    writer.close()
    said = [each.getMessage() for each in caplog.records]
    assert [each.split(": ")[1].split(",")[0] for each in said] == [
        "no checkpoint was made",
        "checkpoints are made again",
    ], "said once, and when it is over"


def test_waits_of_a_log_from_the_future_last_as_long_as_they_were_to(path: Path) -> None:
    """The clock was set back by an hour while the log was closed; a run that wasn't written then keeps its moment."""
    now = time.time_ns() // 1_000
    hour, wait = 3_600_000_000, 90_000_000
    writer = SqliteWriter(path, "me")
    writer.append([start("future"), start("past")])
    set_row = "UPDATE runs SET owner = NULL, updated_at = ?, due_at = ? WHERE id = ?"
    writer.connection.execute(set_row, (now + hour, now + hour + wait, "future"))
    writer.connection.execute(set_row, (now - hour, now + hour, "past"))
    writer.close()
    writer = SqliteWriter(path, "me too")
    due = dict(writer.connection.execute("SELECT id, due_at FROM runs"))
    writer.close()
    assert 0 <= due["future"] - (now + wait) < hour / 2
    assert due["past"] == now + hour


def test_a_rollback_that_fails_ends_the_writing(path: Path) -> None:
    writer = SqliteWriter(path, "me")
    breaking: Any = Breaking(writer.connection, "ROLLBACK", IO_ERROR)
    writer.connection = breaking

    def is_full() -> None:
        raise sqlite_error(sqlite3.SQLITE_FULL, "SQLITE_FULL")

    with pytest.raises(LogUnavailable, match="SQLITE_IOERR"):
        writer.transact(is_full)
    assert breaking.fired == 1
    writer.close()


def test_a_value_that_sqlite_can_not_take_is_the_callers_mistake_and_the_log_goes_on(path: Path) -> None:
    writer = SqliteWriter(path, "me")

    def mistaken() -> None:
        writer.connection.execute("SELECT ?", (object(),))

    with pytest.raises(sqlite3.Error, match="not supported"):
        writer.transact(mistaken)
    assert writer.broken is None
    writer.append([start("a")])
    writer.close()


def test_a_transaction_that_can_not_begin_for_another_reason_is_not_waited_for(path: Path) -> None:
    writer = SqliteWriter(path, "me")
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR, "SQLITE_IOERR"
    breaking: Any = Breaking(writer.connection, "BEGIN IMMEDIATE", error)
    writer._cursor = breaking
    with pytest.raises(LogUnavailable, match="SQLITE_IOERR"):
        writer.append([start("a")])
    assert breaking.fired == 1
    writer._cursor = breaking.inner.cursor()
    writer.close()


def test_a_question_that_sqlite_can_not_answer_is_told(path: Path) -> None:
    connection = opening.open_for_writing(path)
    breaking: Any = Breaking(connection, "SELECT", sqlite3.OperationalError("disk I/O error"))
    with pytest.raises(LogUnavailable, match="can't be read: disk I/O error"):
        Reader(path, breaking).read_row("a")
    assert breaking.fired
    assert not connection.in_transaction
    connection.close()


# -- threads


async def test_a_sqlite_that_can_not_change_threads_writes_on_its_own(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "threadsafety", pace.SERIALIZED - 2)
    assert not pace.Pace().is_quick()
    log = SqliteLog(path)
    await log.open()
    await write(log, start("a"), start("b"))
    await write(log, append("a", 1))
    await log.close()


def test_an_answer_to_a_loop_that_is_closed_is_nobodys() -> None:
    lane = SqliteThread("lane")
    loop = asyncio.new_event_loop()
    answer: asyncio.Future[None] = loop.create_future()
    loop.close()
    lane._perform(lambda: None, loop, answer)
    assert not answer.done()
    lane.stop()
    lane._thread.join(20)
    assert not lane._thread.is_alive()


def test_an_append_is_this_processs_own_work(path: Path) -> None:
    """Each half of what comes at once would wait for a disk of its own."""
    assert not SqliteLog(path).is_elsewhere
