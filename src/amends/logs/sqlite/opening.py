"""How the file is looked at before it is written, and opened.

First reading only: whatever isn't a log of ours, is cut off or damaged, or was written by a newer amends is refused
before the first byte is changed. Then the writing connection: WAL, and every commit on the disk before it is
acknowledged.
"""

import logging
import os
import sqlite3
import stat
import struct
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from amends.core.words.errors import LogDamaged, LogUnavailable
from amends.logs.sqlite.reader import kind_of
from amends.logs.sqlite.statements import DERIVED, SCHEMA

APPLICATION_ID = 0x616D6E64
"""The letters `amnd`: tells a log from other programs' databases."""

SCHEMA_VERSION = 1

BUSY_SECONDS = 5.0
"""How long a commit waits for a person's own `sqlite3` session that holds the file."""

CHECKED_BYTES_MAX = 64 * 2**20
"""Up to this size the whole file is checked at opening (under a second); damage in a larger one is met in reading."""

CACHE_KIBIBYTES = 32 * 1024
"""Room for the rows of some ten thousand runs; SQLite's own 2 MiB would read them from the file again and again."""

CHECKPOINT_PAGES = 8_000
"""How long the write-ahead log grows (32 MiB) before its pages go to the file: a busy row goes once, not each time."""

WAL_BYTES_KEPT = 64 * 2**20
"""What the write-ahead log may keep on disk after a checkpoint."""

WAL_RESET_FIXED = (3, 51, 3)

RETIRED = ("runs_by_state",)
"""Indexes of earlier versions that nothing uses any more."""

HEADER_BYTES = 100
MAGIC = b"SQLite format 3\x00"

JOURNAL_HEADER_BYTES = 28
JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""Section 3 of SQLite's file format: how a rollback journal begins that is to be played back."""

_log = logging.getLogger("amends.logs.sqlite")


def connect(path: Path, mode: Literal["ro", "rw", "rwc"]) -> sqlite3.Connection:
    """A connection that begins and ends its transactions itself: a reading one of this thread, or the writing one,
    which its owner uses from one thread at a time.
    """
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    reads = mode == "ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=reads)
    connection.text_factory = text_of
    return connection


def text_of(raw: bytes) -> str:
    """A text column. What isn't UTF-8 gets replacement characters: else one damaged row would fail a whole list."""
    return raw.decode("utf-8", "replace")


def open_for_writing(path: Path) -> sqlite3.Connection:
    """The one writing connection, on a log that is there and sound, or new. The lock must be held."""
    is_new = make_private(path) or not check(path)
    try:
        connection = connect(path, "rwc")
        try:
            prepare(path, connection, is_new=is_new)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise LogUnavailable(f"{path} can't be opened for writing: {error}.") from error
    if sqlite3.sqlite_version_info < WAL_RESET_FIXED:
        # No warning: what goes wrong there needs a second connection that writes, and the lock leaves only this one.
        _log.info(
            "SQLite %s lacks a fix of 3.51.3 for files that several connections write at once. This log has only one; "
            "don't write to %s from elsewhere while it is open.",
            sqlite3.sqlite_version,
            path,
        )
    return connection


def make_private(path: Path) -> bool:
    """Make the file where there is none, readable for this user alone: the log holds the secret of callbacks, and all
    data of the runs. SQLite gives the files beside it the same permissions. Whether it was made.

    The permissions of a file that exists are its owner's decision.
    """
    try:
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            return True
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise LogUnavailable(f"{path} can't be opened for writing: {error.strerror}.") from error
    if mode & stat.S_IROTH:
        _log.warning(
            "Every user of this machine can read %s (its mode is %o), and the secret of callbacks in it. "
            "Unless that is intended: chmod 600 %s*",
            path,
            mode,
            path,
        )
    return False


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that never writes; needs no lock.

    The file is left to SQLite alone: were this process the log's owner, closing it by other means would lose SQLite's
    own locks on it.
    """
    if not path.exists():
        raise LogUnavailable(f"There is no log at {path}.")
    try:
        if not check_content(path, "ro", whole=False):
            raise LogUnavailable(f"{path} is empty: no log was ever opened here.")
        return connect(path, "ro")
    except sqlite3.Error as error:
        raise LogUnavailable(f"{path} can't be read: {error}.") from error


def prepare(path: Path, connection: sqlite3.Connection, *, is_new: bool) -> None:
    """Set the connection up for writing; a new file gets its tables, all or none."""
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise LogUnavailable(f"{path} can't have a write-ahead log (is it on a network drive?); use a local disk.")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # macOS, where fsync alone doesn't reach the disk; no effect elsewhere
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
    connection.execute("PRAGMA temp_store = MEMORY")  # a temporary file needs a descriptor, and there may be none left
    connection.execute("PRAGMA busy_timeout = 0")  # statements that may wait say so, each time
    if is_new:
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
        connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} {marks} COMMIT;")
        sync_directory(path.resolve().parent)
    else:
        bring_up_to_date(path, connection)


def bring_up_to_date(path: Path, connection: sqlite3.Connection) -> None:
    """Give a file that an earlier version made the indexes and views of this one, all or none.

    They hold nothing of their own, and an earlier version works with them as well: the version of the schema stays.
    """
    there = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type IN ('index', 'view')").fetchall())
    changed = [(kind, name, sql) for kind, name, sql in map(_derived, DERIVED) if there.get(name) != sql]
    retired = [("INDEX", name) for name in RETIRED if name in there]
    if not changed and not retired:
        return
    _log.info("%s gets the indexes and views of this version; with many runs that takes a while", path)
    drops = [f"DROP {kind} {name};" for kind, name, _ in changed if name in there]
    drops += [f"DROP {kind} {name};" for kind, name in retired]
    script = "\n".join([*drops, *(f"{sql};" for _, _, sql in changed)])
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {script} COMMIT;")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.rollback()
        raise


def _derived(sql: str) -> tuple[str, str, str]:
    """Kind, name and text of an index or a view."""
    _, kind, name, *_ = sql.split()
    return kind, name, sql


def sync_directory(directory: Path) -> None:
    """A new file's name must be on the disk, too."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check(path: Path) -> bool:
    """Whether there is a log (else an empty file); what isn't a sound log of ours is refused. Changes nothing.

    For the holder of the lock.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            return False
        if not is_half_made(path):
            with path.open("rb") as file:
                check_header(path, file.read(HEADER_BYTES), size)
    except OSError as error:
        raise LogUnavailable(f"{path} can't be read: {error.strerror}.") from error
    whole = size <= CHECKED_BYTES_MAX
    try:
        return check_content(path, "ro", whole=whole)
    except sqlite3.OperationalError as error:
        if kind_of(error) == sqlite3.SQLITE_READONLY:
            # A process died while it made the file: what it began is rolled back by the next writer.
            return check_content(path, "rw", whole=whole)
        raise LogUnavailable(f"{path} can't be read: {error}.") from error


def is_half_made(path: Path) -> bool:
    """Whether the power was lost while the file got its first page: its bytes say nothing yet, and its journal says
    that it was empty before.

    SQLite takes back what was begun.
    """
    journal = Path(f"{path.resolve()}-journal")
    if not journal.exists():
        return False
    with journal.open("rb") as file:
        header = file.read(JOURNAL_HEADER_BYTES)
    if len(header) < JOURNAL_HEADER_BYTES or not header.startswith(JOURNAL_MAGIC):
        return False
    pages_before: int = struct.unpack_from(">I", header, 16)[0]
    return pages_before == 0


def check_header(path: Path, header: bytes, size: int) -> None:
    """What the first bytes say about the file's kind and length."""
    if not header.startswith(MAGIC):
        raise LogDamaged(
            f"{path} isn't an SQLite database, so it can't be a log. Nothing was changed. Is the path right?"
        )
    if len(header) < HEADER_BYTES:
        raise LogDamaged(f"{path} is cut off after {size} bytes. Nothing was changed. Restore it from a backup.")
    page_size, _, changes, pages = struct.unpack_from(">H6sII", header, 16)
    (changes_when_counted,) = struct.unpack_from(">I", header, 92)
    page_size = 65536 if page_size == 1 else page_size
    wal = Path(f"{path.resolve()}-wal")
    # With a write-ahead log the end of the file may still be in there.
    if changes == changes_when_counted and pages * page_size > size and not (wal.exists() and wal.stat().st_size):
        raise LogDamaged(
            f"{path} is cut off: it has {size} of {pages * page_size} bytes. Nothing was changed. "
            "Restore it from a backup."
        )


def check_content(path: Path, mode: Literal["ro", "rw"], *, whole: bool) -> bool:
    """What SQLite says about the file."""
    connection = connect(path, mode)
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (application, version, tables) == (0, 0, 0):
            return False
        if application != APPLICATION_ID:
            raise LogDamaged(
                f"{path} is an SQLite database of something else, not a log. Nothing was changed. Is the path right?"
            )
        if version > SCHEMA_VERSION:
            raise LogUnavailable(
                f"{path} was written by a newer amends (its schema is {version}, this one knows {SCHEMA_VERSION}). "
                "Nothing was changed. Install the newer one again: pip install --upgrade amends"
            )
        if whole:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise LogDamaged(damaged(path, found))
        return True
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise LogDamaged(damaged(path, str(error))) from error
    finally:
        connection.close()


def damaged(path: Path, finding: str) -> str:
    """The message; SQLite's own report may have several lines."""
    return (
        f"{path} is damaged: {' '.join(finding.split())}. Nothing was changed. Restore it from a backup, "
        f"or save what can be read: sqlite3 {path} .recover"
    )
