"""A batch of entries as the arrays that the one writing statement takes."""

from collections.abc import Sequence
from typing import Final, TypeAlias

from amends.logs.postgres.rows import tags_as_json
from amends.ports.log import Append, Start

Columns: TypeAlias = Sequence[Sequence[object]]

APPEND_COLUMNS: Final = 13
START_COLUMNS: Final = 17
TAG_COLUMNS: Final = 3
EVENT_COLUMNS: Final = 7

ESCAPED_NUL: Final = b"\\u0000"


def arrays(batch: Sequence[Start | Append]) -> list[Sequence[object]]:
    """The parameters of `write` after the worker: appends, starts, tags and events, one array per column.

    In the order of the runs' ids: two processes that write the same rows take their locks in the same order.
    """
    ordered = sorted(batch, key=_run)
    appends = [_append(each) for each in ordered if isinstance(each, Append)]
    starts = [_start(each) for each in ordered if isinstance(each, Start)]
    tags = [
        (each.run, name, value)
        for each in ordered
        if isinstance(each, Start) and each.tags
        for name, value in each.tags.items()
    ]
    events = [
        (each.run, version, event.kind, event.body, event.epoch, each.append_id, event.at)
        for each in ordered
        for version, event in enumerate(each.events, first_version(each))
    ]
    return [
        *_columns(appends, APPEND_COLUMNS),
        *_columns(starts, START_COLUMNS),
        *_columns(tags, TAG_COLUMNS),
        *_columns(events, EVENT_COLUMNS),
    ]


def first_version(entry: Start | Append) -> int:
    """The version that the first event of an entry makes."""
    return 1 if isinstance(entry, Start) else entry.expected + 1


def _run(entry: Start | Append) -> str:
    return entry.run


def _columns(rows: Sequence[tuple[object, ...]], count: int) -> Columns:
    return list(zip(*rows, strict=True)) if rows else [()] * count


def _append(entry: Append) -> tuple[object, ...]:
    row = entry.row
    return (
        *(entry.run, entry.expected, entry.epoch, entry.expected + len(entry.events), row.state, row.by_hand),
        *(entry.release and entry.epoch is not None, row.due_at),
        *(_json(row.current), _json(row.steps), _json(row.stuck), entry.at, row.ended_at),
    )


def _start(entry: Start) -> tuple[object, ...]:
    row = entry.row
    return (
        *(entry.run, entry.saga, entry.saga_version, entry.digest, row.state, row.by_hand, len(entry.events)),
        *(entry.owned, row.due_at, entry.start_print, _json(row.current), _json(row.steps), _json(row.stuck)),
        *(entry.deadline, tags_as_json(entry.tags), entry.at, row.ended_at),
    )


def _json(text: bytes) -> bytes:
    """The database keeps JSON with an escaped NUL, but can't take it apart any more: a sign that it was there stays."""
    return text.replace(ESCAPED_NUL, b"\\ufffd") if ESCAPED_NUL in text else text
