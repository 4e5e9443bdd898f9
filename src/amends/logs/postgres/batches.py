"""A batch of entries as the arrays that the one writing statement takes.

The driver looks twice at each element of a list before it encodes it, which costs more than to write the list down:
so numbers and truth values are the text of an array, and texts in which no control character can be (names, ids, JSON)
are one text with a separator between them. What may hold any character is left to the driver.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from amends.logs.postgres.rows import tags_as_json
from amends.ports.log import Append, Start

ESCAPED_NUL: Final = b"\\u0000"
SEPARATOR: Final = "\x1f"
"""ASCII's own "unit separator"; the statement takes the texts apart at it."""

_NO_APPENDS: Final = (None,) * 13
_NO_STARTS: Final = (None,) * 17
_NO_TAGS: Final = (None,) * 5


def arrays(batch: Sequence[Start | Append]) -> list[Sequence[object] | None]:
    """The parameters of `write` after the worker: appends, starts, tags and events, one array per column; none where
    there is nothing of a kind.

    In the order of the runs' ids: two processes that write the same rows take their locks in the same order.
    """
    ordered = sorted(batch, key=_run)
    appends = [each for each in ordered if isinstance(each, Append)]
    starts = [each for each in ordered if isinstance(each, Start)]
    return [
        *(_appends(appends) if appends else _NO_APPENDS),
        *(_starts(starts) if starts else _NO_STARTS),
        *(_tags(starts) if any(each.tags for each in starts) else _NO_TAGS),
        *_events(ordered),
        _flags([each.progress for each in appends]) if appends else None,
    ]


def first_version(entry: Start | Append) -> int:
    """The version that the first event of an entry makes."""
    return 1 if isinstance(entry, Start) else entry.expected + 1


def _run(entry: Start | Append) -> str:
    return entry.run


def _appends(entries: Sequence[Append]) -> tuple[Sequence[object], ...]:
    rows = [each.row for each in entries]
    return (
        _texts([each.run for each in entries]),
        _numbers([each.expected for each in entries]),
        _numbers([each.epoch for each in entries]),
        _numbers([each.expected + len(each.events) for each in entries]),
        _texts([row.state for row in rows]),
        _flags([row.by_hand for row in rows]),
        _flags([each.release and each.epoch is not None for each in entries]),
        _numbers([row.due_at for row in rows]),
        _jsons([row.current for row in rows]),
        _jsons([row.steps for row in rows]),
        _jsons([row.stuck for row in rows]),
        _numbers([each.at for each in entries]),
        _numbers([row.ended_at for row in rows]),
    )


def _starts(entries: Sequence[Start]) -> tuple[Sequence[object], ...]:
    rows = [each.row for each in entries]
    return (
        _texts([each.run for each in entries]),
        _texts([each.saga for each in entries]),
        _numbers([each.saga_version for each in entries]),
        _texts([each.digest for each in entries]),
        _texts([row.state for row in rows]),
        _flags([row.by_hand for row in rows]),
        _numbers([len(each.events) for each in entries]),
        _flags([each.owned for each in entries]),
        _numbers([row.due_at for row in rows]),
        [each.start_print for each in entries],
        _jsons([row.current for row in rows]),
        _jsons([row.steps for row in rows]),
        _jsons([row.stuck for row in rows]),
        _numbers([each.deadline for each in entries]),
        _jsons([tags_as_json(each.tags) for each in entries]),
        _numbers([each.at for each in entries]),
        _numbers([row.ended_at for row in rows]),
    )


def _tags(entries: Sequence[Start]) -> tuple[Sequence[object], ...]:
    tags = [(each, name, value) for each in entries if each.tags for name, value in each.tags.items()]
    return (
        [each.run for each, _, _ in tags],
        [name for _, name, _ in tags],
        [value for _, _, value in tags],
        [each.saga for each, _, _ in tags],
        _numbers([each.at for each, _, _ in tags]),
    )


def _events(entries: Sequence[Start | Append]) -> tuple[Sequence[object], ...]:
    events = [
        (each, version, event) for each in entries for version, event in enumerate(each.events, first_version(each))
    ]
    return (
        _texts([each.run for each, _, _ in events]),
        _numbers([version for _, version, _ in events]),
        _texts([event.kind for _, _, event in events]),
        [event.body for _, _, event in events],
        _numbers([event.epoch for _, _, event in events]),
        [each.append_id for each, _, _ in events],
        _numbers([event.at for _, _, event in events]),
    )


def _numbers(values: Iterable[int | None]) -> str:
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def _flags(values: Iterable[bool]) -> str:
    return "{" + ",".join(["t" if value else "f" for value in values]) + "}"


def _texts(values: Sequence[str]) -> str:
    joined = SEPARATOR.join(values)
    if joined.count(SEPARATOR) != len(values) - 1 or not joined:
        raise ValueError(f"none of these may be empty or hold a control character: {values}")
    return joined


def _jsons(values: Sequence[bytes]) -> str:
    """The database keeps JSON with an escaped NUL, but can't take it apart any more: a sign that it was there stays."""
    joined = b"\x1f".join(values)
    text = (joined.replace(ESCAPED_NUL, b"\\ufffd") if ESCAPED_NUL in joined else joined).decode()
    assert text.count(SEPARATOR) == len(values) - 1, "JSON escapes control characters"
    return text
