"""Rows of the database made the port's values, and questions made statements."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

import asyncpg
import msgspec

from amends.core.words.limits import VERSION_MAX
from amends.logs.postgres.statements import SQL, numbered
from amends.ports.log import Find, SagaKey, StoredEvent, StoredRun
from amends.ports.rows import tags_of

LIVE: Final = frozenset({"running", "compensating", "stuck"})
OTHER_ENDS: Final = frozenset({"compensated", "abandoned"})
COLUMNS: Final = 20
"""Of a row of `runs`; an event's follow."""

_KEYS: Final = msgspec.json.Decoder(list[tuple[str, int, str]])

Parameter = str | int | list[str]


def stored(row: asyncpg.Record, events: Sequence[StoredEvent]) -> StoredRun:
    """A row of `runs` as the port has it."""
    tags = tags_of(row[16])
    return StoredRun(
        run=row[0],
        saga=row[1],
        saga_version=row[2],
        digest=row[3],
        state=row[4],
        by_hand=row[5],
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


def whole_run(rows: Sequence[asyncpg.Record]) -> StoredRun | None:
    """A run that came as a row per event, or as one without an event."""
    if not rows:
        return None
    events = tuple(StoredEvent(*row[COLUMNS:]) for row in rows if row[COLUMNS] is not None)
    return stored(rows[0], events)


def key_columns(sagas: Sequence[SagaKey]) -> tuple[list[str], list[int], list[str]]:
    """Sagas as three arrays."""
    return [each.name for each in sagas], [each.version for each in sagas], [each.digest for each in sagas]


def keys_as_json(sagas: Sequence[SagaKey]) -> bytes:
    """Sagas as one value."""
    return json.dumps([[each.name, each.version, each.digest] for each in sagas]).encode()


def keys_of_json(text: bytes) -> tuple[SagaKey, ...]:
    """The same, read again; none where it can't be: a worker is listed whatever its row says."""
    try:
        return tuple(SagaKey(*key) for key in _KEYS.decode(text))
    except msgspec.MsgspecError:
        return ()


def tags_as_json(tags: Mapping[str, str]) -> bytes:
    """Tags as one value."""
    return json.dumps(dict(tags), ensure_ascii=False, separators=(",", ":")).encode() if tags else b"{}"


def may_be_kept(question: Find) -> bool:
    """Whether a row could hold what is asked for: no column takes a NUL, or a number that is too large for it."""
    texts = (question.saga, question.step, *question.states, *question.tags, *question.tags.values())
    version = 0 if question.saga_version is None else question.saga_version
    return abs(version) <= VERSION_MAX and all(is_text(each) for each in texts if each is not None)


def is_text(text: str) -> bool:
    """Whether the database can hold it, and be asked for it."""
    return "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


def find_statement(question: Find) -> tuple[str, list[Parameter]]:
    """The statement that answers a question: with no condition that wasn't asked for, so that an index can serve it."""
    conditions: list[str] = []
    parameters: list[Parameter] = []

    def only(condition: str, *values: Parameter) -> None:
        conditions.append(SQL[condition])
        parameters.extend(values)

    statement = SQL["find"]
    tags = list(question.tags.items())
    if tags:
        statement = SQL["find_by_tag"].replace("/* saga */", "" if question.saga is None else "AND saga = ?")
        parameters.extend(tags[0])
        if question.saga is not None:
            parameters.append(question.saga)
    elif question.saga is not None:
        only("find_of_saga", question.saga)
    if question.states:
        only(_states_condition(frozenset(question.states)), list(question.states))
    if question.saga_version is not None:
        only("find_of_version", question.saga_version)
    for tag in tags[1:]:
        only("find_tagged", *tag)
    if question.step is not None:
        only("find_at_step", question.step, question.step)
    if question.late_by is not None:
        only("find_late", question.late_by)
    if question.after is not None:
        only("find_tagged_after" if tags else "find_after", *question.after)
    statement = statement.replace("/* conditions */", " AND ".join(conditions) or "TRUE")
    return numbered(statement), [*parameters, question.limit]


def _states_condition(states: frozenset[str]) -> str:
    """The condition that says of these states whether they are ends, where an index goes by that."""
    if states <= LIVE:
        return "find_in_live"
    return "find_in_other_ends" if states <= OTHER_ENDS else "find_in_states"
