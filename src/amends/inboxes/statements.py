"""The barrier's SQL, once per database, with named parameters as `sqlite3` and SQLAlchemy's `text` take them.

Times are microseconds UTC towards Python. PostgreSQL keeps them as `timestamptz`, SQLite as whole microseconds;
both are the database's own time, never this process's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from amends.core.words.retry import Kind
from amends.ports.inbox import BARRIER_TABLE, PURGED_TABLE, Row, RowState

# ruff: noqa: S608 - what is put in are the names of our tables and the words of a dialect, never a value

_KEY: Final = "where run = :run and step = :step"
_READ: Final = (
    "select run, step, state, kind, operation, request_print, reply_status, reply_type, reply, compensation_print, "
    f"compensation_reply, epoch, holder from {BARRIER_TABLE} {_KEY}"
)


@dataclass(frozen=True, slots=True)
class Statements:
    """What an inbox says to its database. `insert`, `move_mark`, `delete_older` are counted by what they change."""

    insert: str
    """First in every transaction: waits for an undecided twin, does nothing where a row is."""
    lock: str
    read: str
    update: str
    delete: str
    purged_through: str
    """A statement of its own: the insert may have waited for a purge, and must not judge by what it saw before."""
    ago: str
    """The moment `age` before now."""
    move_mark: str
    first_mark: str
    delete_older: str


def _statements(
    *, now: str, ago: str, moment: str, as_number: str, greatest: str, for_update: str, skip: str
) -> Statements:
    return Statements(
        insert=(
            f"insert into {BARRIER_TABLE} (run, step, state, kind, operation, request_print, compensation_print, "
            f"epoch, created_at, touched_at) values (:run, :step, :state, :kind, :operation, :request_print, "
            f":compensation_print, :epoch, {now}, {now}) on conflict (run, step) do nothing"
        ),
        lock=f"{_READ} {for_update}".strip(),
        read=_READ,
        update=(
            f"update {BARRIER_TABLE} set state = :state, reply_status = :reply_status, reply_type = :reply_type, "
            f"reply = :reply, compensation_print = :compensation_print, compensation_reply = :compensation_reply, "
            f"epoch = :epoch, touched_at = {now} {_KEY}"
        ),
        delete=f"delete from {BARRIER_TABLE} {_KEY}",
        purged_through=f"select coalesce({as_number}, 0) from {PURGED_TABLE}",
        ago=f"select {ago}",
        move_mark=f"update {PURGED_TABLE} set through = {greatest}(through, {moment})",
        first_mark=f"insert into {PURGED_TABLE} (through) values ({moment})",
        delete_older=(
            f"delete from {BARRIER_TABLE} where (run, step) in "
            f"(select run, step from {BARRIER_TABLE} where touched_at < {moment} limit :limit {skip})"
        ),
    )


SQLITE_NOW: Final = "cast((julianday('now') - 2440587.5) * 86400000000 as integer)"

SQLITE: Final = _statements(
    now=SQLITE_NOW,
    ago=f"{SQLITE_NOW} - :age",
    moment=":through",
    as_number="max(through)",
    greatest="max",
    for_update="",
    skip="",
)

POSTGRES: Final = _statements(
    now="now()",
    ago="cast(extract(epoch from now()) * 1000000 as bigint) - cast(:age as bigint)",
    moment="to_timestamp(cast(:through as bigint) / 1000000.0)",
    as_number="cast(extract(epoch from max(through)) * 1000000 as bigint)",
    greatest="greatest",
    for_update="for update",
    skip="for update skip locked",  # a row in use is about to be young again
)

SQLITE_SCHEMA: Final = (
    f"""create table if not exists {BARRIER_TABLE} (
    run text not null,
    step text not null,
    state text not null,
    kind text,
    operation text,
    request_print blob,
    reply_status integer,
    reply_type text,
    reply blob,
    compensation_print blob,
    compensation_reply blob,
    epoch integer not null default 0,
    holder text,
    lease_until integer,
    created_at integer not null,
    touched_at integer not null,
    primary key (run, step)
)""",
    f"create table if not exists {PURGED_TABLE} (through integer not null)",
)


def values_of(row: Row) -> dict[str, object]:
    """A row as parameters."""
    return {
        "run": row.run,
        "step": row.step,
        "state": row.state.value,
        "kind": None if row.kind is None else row.kind.value,
        "operation": row.operation,
        "request_print": row.request_print,
        "reply_status": row.reply_status,
        "reply_type": row.reply_type,
        "reply": row.reply,
        "compensation_print": row.compensation_print,
        "compensation_reply": row.compensation_reply,
        "epoch": row.epoch,
    }


def row_of(found: Sequence[Any]) -> Row:
    """A row as `read` and `lock` give it."""
    return Row(
        run=found[0],
        step=found[1],
        state=RowState(found[2]),
        kind=None if found[3] is None else Kind(found[3]),
        operation=found[4],
        request_print=_bytes(found[5]),
        reply_status=found[6],
        reply_type=found[7],
        reply=_bytes(found[8]),
        compensation_print=_bytes(found[9]),
        compensation_reply=_bytes(found[10]),
        epoch=found[11],
        holder=found[12],
    )


def _bytes(value: bytes | memoryview | None) -> bytes | None:
    return None if value is None else bytes(value)
