"""Reading the log: what every connection can do, the writer's own included."""

import json
import math
import socket
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from amends.core.words.errors import LogTooSlow, LogUnavailable
from amends.logs.sqlite.statements import SQL
from amends.ports.log import Find, LiveRuns, SagaKey, StoredEvent, StoredRun, StuckRuns, WorkerRow, WorkerState
from amends.ports.rows import tags_of

R = TypeVar("R")

STEPS_BETWEEN_LOOKS: Final = 10_000
"""Of SQLite's machine, between two looks at the clock: some tenths of a millisecond."""

LIVE: Final = frozenset({"running", "compensating", "stuck"})
OTHER_ENDS: Final = frozenset({"compensated", "abandoned"})

Identity: TypeAlias = tuple[str, str, int, str, str]
Standing: TypeAlias = tuple[int, int, str | None, int, int | None, int, bytes, bytes, bytes, bytes]
Columns: TypeAlias = tuple[*Identity, *Standing, int | None, bytes, int, int, int | None]
"""A row as the statements give it: `by_hand` is a number, the tags are JSON."""


class Reader:
    """Questions to one connection, on the connection's thread. Each sees the log at one moment.

    With `seconds` a question that takes longer is given up: `LogTooSlow`.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, seconds: float | None = None) -> None:
        self.path = path
        self.connection = connection
        self._seconds = seconds
        self._until = 0.0
        if seconds is not None:
            connection.set_progress_handler(self._is_over, STEPS_BETWEEN_LOOKS)

    def _is_over(self) -> bool:
        return time.monotonic() > self._until

    def read(self, run: str) -> StoredRun | None:
        return self._at_one_moment(lambda: self.whole_run(run))

    def read_row(self, run: str) -> StoredRun | None:
        return self._at_one_moment(lambda: self.run(run, ()))

    def read_events(self, run: str, after: int) -> Sequence[StoredEvent]:
        return self._at_one_moment(lambda: self.events(run, after))

    def find(self, question: Find) -> Sequence[StoredRun]:
        sql, parameters = find_statement(question)
        return self._at_one_moment(lambda: [stored(row, ()) for row in self.connection.execute(sql, parameters)])

    def count(self) -> Mapping[str, int]:
        rows = self._at_one_moment(lambda: self.connection.execute(SQL["count"]).fetchall())
        return {state: count for state, count in rows if count}

    def live(self) -> Sequence[LiveRuns]:
        rows = self._at_one_moment(lambda: self.connection.execute(SQL["live"]).fetchall())
        return [LiveRuns(SagaKey(*row[:3]), *row[3:]) for row in rows]

    def due(self, now: int) -> int:
        ((count,),) = self._at_one_moment(lambda: self.connection.execute(SQL["due"], (now,)).fetchall())
        return int(count)

    def stuck(self) -> Sequence[StuckRuns]:
        rows = self._at_one_moment(lambda: self.connection.execute(SQL["stuck"]).fetchall())
        return [StuckRuns(saga, str(step), str(phase), str(reason), count) for saga, step, phase, reason, count in rows]

    def late(self, now: int) -> Mapping[str, int]:
        return dict(self._at_one_moment(lambda: self.connection.execute(SQL["late"], (now,)).fetchall()))

    def standing(self, runs: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        asked = (as_json(list(runs)),)
        rows = self._at_one_moment(lambda: self.connection.execute(SQL["standing"], asked).fetchall())
        return {run: (version, state) for run, version, state in rows}

    def workers(self) -> Sequence[WorkerRow]:
        rows = self._at_one_moment(lambda: self.connection.execute(SQL["workers"]).fetchall())
        here = socket.gethostname()
        return [
            WorkerRow(worker, WorkerState(state), here, pid_of(worker), None, None, None, (), owned)
            for worker, state, owned in rows
        ]

    def graph(self, saga: SagaKey) -> bytes | None:
        return self._at_one_moment(lambda: self.value(SQL["graph"], (saga.name, saga.version, saga.digest)))

    def nudged(self, worker: str, now: int) -> Sequence[tuple[str, int]]:
        return self._at_one_moment(lambda: self.connection.execute(SQL["nudged"], (worker, now)).fetchall())

    def next_due(self, known: Sequence[SagaKey] | None) -> int | None:
        sql, parameters = (SQL["next_due"], ()) if known is None else (SQL["next_due_of"], (keys_as_json(known),))

        def ask() -> int | None:
            row: tuple[int] | None = self.connection.execute(sql, parameters).fetchone()
            return None if row is None else row[0]

        return self._at_one_moment(ask)

    # -- inside a transaction

    def whole_run(self, run: str) -> StoredRun | None:
        """The row with its events."""
        return self.run(run, self.events(run, 0))

    def run(self, run: str, events: Sequence[StoredEvent]) -> StoredRun | None:
        """The row, with the events given."""
        row: Columns | None = self.connection.execute(SQL["row"], (run,)).fetchone()
        return None if row is None else stored(row, events)

    def events(self, run: str, after: int) -> Sequence[StoredEvent]:
        """The events from version `after + 1` on."""
        return tuple(StoredEvent(*row) for row in self.connection.execute(SQL["events"], (run, after)))

    def value(self, sql: str, parameters: tuple[str | int, ...]) -> bytes | None:
        """The one value of the one row that is found, if any."""
        row: tuple[bytes] | None = self.connection.execute(sql, parameters).fetchone()
        return None if row is None else row[0]

    def _at_one_moment(self, ask: Callable[[], R]) -> R:
        self._until = time.monotonic() + (self._seconds or 0.0)
        try:
            self.connection.execute("BEGIN")
            try:
                return ask()
            finally:
                self._until = math.inf  # to end it takes no time, and must not be given up
                self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._seconds is not None and kind_of(error) == sqlite3.SQLITE_INTERRUPT:
                raise LogTooSlow(f"{self.path}: a list was given up after {self._seconds:g} s.") from error
            raise LogUnavailable(f"{self.path} can't be read: {error}.") from error


def pid_of(worker: str) -> int:
    """The process that a worker's id names; 0 where it names none."""
    pid = worker.partition("-")[0]
    return int(pid) if pid.isascii() and pid.isdecimal() else 0


def kind_of(error: sqlite3.Error) -> int:
    """SQLite's primary result code; `SQLITE_ERROR` where Python itself complains, which gives none."""
    return code_of(error) & 0xFF


def code_of(error: sqlite3.Error) -> int:
    """SQLite's extended result code, which tells apart the kinds of `SQLITE_IOERR`."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code


def keys_as_json(sagas: Sequence[SagaKey]) -> str:
    """Sagas as a parameter."""
    return as_json([(saga.name, saga.version, saga.digest) for saga in sagas])


def as_json(value: object) -> str:
    """Compact, with all letters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def stored(row: Columns, events: Sequence[StoredEvent]) -> StoredRun:
    """A row of `runs` as the port has it."""
    tags = tags_of(row[16])
    return StoredRun(
        run=row[0],
        saga=row[1],
        saga_version=row[2],
        digest=row[3],
        state=row[4],
        by_hand=bool(row[5]),
        version=row[6],
        owner=row[7],
        epoch=row[8],
        due_at=row[9],
        claims=row[10],
        start_print=row[11],
        current=row[12],
        steps=row[13],
        stuck=row[14],
        deadline=row[15],
        tags={} if tags is None else tags,
        created_at=row[17],
        updated_at=row[18],
        ended_at=row[19],
        events=events,
        unreadable=("tags",) if tags is None else (),
    )


def find_statement(question: Find) -> tuple[str, list[str | int]]:
    """The statement that answers a question: with no condition that wasn't asked for, so that an index can serve it."""
    conditions = ["TRUE"]
    parameters: list[str | int] = []

    def only(condition: str, *values: str | int) -> None:
        conditions.append(SQL[condition])
        parameters.extend(values)

    match question.states:
        case ():
            pass
        case (state,):
            only("find_in_state", state)
        case states:
            only("find_in_states", as_json(list(states)))
    kinds = frozenset(question.states)
    if kinds and kinds <= LIVE:
        only("find_live")
    elif kinds and kinds <= OTHER_ENDS:
        only("find_other_ends")
    if question.saga is not None:
        only("find_of_saga", question.saga)
    if question.saga_version is not None:
        only("find_of_version", question.saga_version)
    for name, value in question.tags.items():
        only("find_tagged", name, value)
    if question.step is not None:
        if not kinds or not kinds <= LIVE:
            only("find_begun")
        only("find_at_step", question.step, question.step)
    if question.late_by is not None:
        only("find_late", question.late_by)
    if question.after is not None:
        only("find_after", *question.after)
    return SQL["find"].replace("/* conditions */", " AND ".join(conditions)), [*parameters, question.limit]
