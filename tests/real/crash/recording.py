"""What the SQLite log asks of the disk, in order: every write, truncation, file made or removed, and every sync.

The log itself runs here, statement for statement; only the module it gets its connections from is exchanged, for one
whose SQLite can be watched from Python. Syncs aren't carried out, only noted: the disk that may lose what wasn't
synced is `images.Disk`.
"""

import sqlite3
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast
from unittest import mock
from urllib.parse import quote

import apsw
from typing_extensions import override

from amends.logs.sqlite import log as log_module
from amends.logs.sqlite import opening

Row: TypeAlias = tuple[Any, ...]
"""A row as SQLite gives it: its columns have no types."""


@dataclass(frozen=True, slots=True)
class Made:
    """A file appeared in the directory."""

    name: str


@dataclass(frozen=True, slots=True)
class Removed:
    name: str


@dataclass(frozen=True, slots=True)
class Wrote:
    name: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """A file was truncated to this size."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """What was written to this file is on the disk."""

    name: str


@dataclass(frozen=True, slots=True)
class DirectorySynced:
    """Which files there are is on the disk."""


Act: TypeAlias = Made | Removed | Wrote | Cut | Synced | DirectorySynced

NAMED_BY_ITS_SYNC: Final = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL
"""SQLite on Unix syncs the directory with the first sync of each journal or write-ahead log that it opened so that it
be made if need be (`unixSync` in its os_unix.c): below what can be watched here, so it is added to what was watched.
"""


@dataclass
class Trace:
    """What was asked of the disk so far."""

    acts: list[Act] = field(default_factory=list[Act])

    def note(self, act: Act) -> None:
        self.acts.append(act)

    @property
    def length(self) -> int:
        return len(self.acts)


class _Disk(apsw.VFS):
    def __init__(self, name: str, trace: Trace) -> None:
        super().__init__(name, "")
        self._trace = trace

    @override
    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(name, flags, self._trace)

    @override
    def xDelete(self, filename: str, syncdir: bool) -> None:
        if not Path(filename).exists():
            return  # SQLite asks for that, and minds no more than this
        super().xDelete(filename, syncdir)
        self._trace.note(Removed(Path(filename).name))
        if syncdir:
            self._trace.note(DirectorySynced())


class _File(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], trace: Trace) -> None:
        assert name is not None, "the log needs no temporary files"
        path = Path(name if isinstance(name, str) else name.filename())
        # The log makes its file itself, empty and for its owner alone, before SQLite opens it.
        known = {act.name for act in trace.acts if isinstance(act, Made)}
        asked, is_new = flags[0], not path.exists() or (path.stat().st_size == 0 and path.name not in known)
        super().__init__("", name, flags)
        self._name = path.name
        self._trace = trace
        self._is_read_only = bool(flags[1] & apsw.SQLITE_OPEN_READONLY)
        self._name_is_owed = bool(asked & apsw.SQLITE_OPEN_CREATE) and bool(asked & NAMED_BY_ITS_SYNC)
        if is_new and path.exists():
            trace.note(Made(path.name))

    @override
    def xLock(self, level: int) -> None:
        if self._is_read_only and level > apsw.SQLITE_LOCK_SHARED:
            raise apsw.BusyError  # the system would say so as well, as a fault that SQLite minds no more than this
        super().xLock(level)

    @override
    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)  # pyright: ignore[reportUnknownMemberType] - its stubs need Python 3.12
        self._trace.note(Wrote(self._name, offset, bytes(data)))

    @override
    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._trace.note(Cut(self._name, newsize))

    @override
    def xSync(self, flags: int) -> None:
        self._trace.note(Synced(self._name))
        if self._name_is_owed:
            self._name_is_owed = False
            self._trace.note(DirectorySynced())


# -- a connection as the log knows it


class _Cursor:
    def __init__(self, connection: apsw.Connection, instead: Mapping[str, str]) -> None:
        self._connection = connection
        self._instead = instead
        self._rows: list[Row] = []
        self.rowcount = -1

    def execute(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> "_Cursor":
        sql = self._instead.get(sql, sql)
        execute = self._connection.execute  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - as above
        self._rows = list(execute(sql, cast("Any", parameters)))
        self.rowcount = self._connection.changes()
        return self

    def executemany(self, sql: str, parameters: Iterable[Sequence[object]]) -> "_Cursor":
        for each in parameters:
            self.execute(sql, each)
        return self

    def fetchone(self) -> Row | None:
        return self._rows.pop(0) if self._rows else None

    def fetchall(self) -> list[Row]:
        rows, self._rows = self._rows, []
        return rows

    def __iter__(self) -> Generator[Row]:
        yield from self.fetchall()

    def close(self) -> None:
        self._rows = []


class _Connection:
    """So much of `sqlite3.Connection` as the log uses. `instead`: statements to be replaced by others."""

    def __init__(self, uri: str, vfs: str, instead: Mapping[str, str]) -> None:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
        self._connection = apsw.Connection(uri, flags, vfs)
        self._connection.set_busy_timeout(5_000)
        self._instead = instead

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def cursor(self) -> _Cursor:
        return _Cursor(self._connection, self._instead)

    def execute(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> _Cursor:
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Sequence[object]]) -> _Cursor:
        return self.cursor().executemany(sql, parameters)

    def set_progress_handler(self, handler: Callable[[], bool] | None, steps: int) -> None:
        self._connection.set_progress_handler(handler, steps)

    def executescript(self, sql: str) -> _Cursor:
        return self.execute(sql)

    def close(self) -> None:
        self._connection.close()


@contextmanager
def recorded(instead: Mapping[str, str], *, checkpoint_pages: int, wal_bytes_kept: int) -> Generator[Trace]:
    """Within, every SQLite log of this process is watched. Its write-ahead log goes to the file much sooner than usual,
    so that a short story has that in it, too.
    """
    trace = Trace()
    disk = _Disk("amends-recording", trace)

    def connect(path: Path, mode: Literal["ro", "rw", "rwc"]) -> sqlite3.Connection:
        uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
        return cast("sqlite3.Connection", _Connection(uri, "amends-recording", instead))

    def sync_directory(directory: Path) -> None:
        assert directory.is_dir()
        trace.note(DirectorySynced())

    with (
        mock.patch.object(opening, "connect", connect),
        mock.patch.object(log_module, "connect", connect),
        mock.patch.object(opening, "sync_directory", sync_directory),
        mock.patch.object(opening, "CHECKPOINT_PAGES", checkpoint_pages),
        mock.patch.object(opening, "WAL_BYTES_KEPT", wal_bytes_kept),
    ):
        try:
            yield trace
        finally:
            disk.unregister()
