"""Runs as the log keeps them, made records again."""

from collections.abc import Iterable
from typing import Final

from amends.core.run.events import Event, RetryAsked
from amends.core.run.evolve import fold
from amends.core.run.record import RunRecord, RunState
from amends.core.words.codec import Undecodable
from amends.core.words.errors import LogDamaged
from amends.core.words.keys import CallKey
from amends.ports.events import EventCodec
from amends.ports.log import StoredEvent, StoredRun

_DAMAGE: Final = (Undecodable, TypeError, StopIteration, ValueError, AssertionError)
"""What decoding and folding raise over events that are damaged, missing, out of order or of a newer version."""


def decoded(codec: EventCodec, run: str, after: int, events: Iterable[StoredEvent]) -> list[Event]:
    """Facts as they were decided; the first is number `after + 1`. `Undecodable` if one can't be read."""
    decode = codec.decode
    return [decode(each.kind, each.body, each.at, each.epoch, run, n) for n, each in enumerate(events, after + 1)]


def is_purged(run: StoredRun) -> bool:
    """Whether a run, read as a whole, has ended and its events were purged."""
    return not run.events and run.ended_at is not None


def record_of(run: StoredRun, codec: EventCodec) -> RunRecord:
    """The record of a stored run; `LogDamaged` if its history can't be read.

    A purged run has a record, too: it has ended, and owes nothing; nothing else is known of it.
    """
    if is_purged(run):
        return _purged(run)
    try:
        record = fold(decoded(codec, run.run, 0, run.events))
    except _DAMAGE as error:
        why = (
            str(error) if isinstance(error, Undecodable) else f"its events don't fit together ({type(error).__name__})"
        )
        msg = f"{run.run}: its history can't be read: {why}"
        raise LogDamaged(msg) from error
    if record.length != run.version:
        msg = f"{run.run}: its row says version {run.version}, its history has {record.length} events"
        raise LogDamaged(msg)
    return record


def _purged(run: StoredRun) -> RunRecord:
    try:
        ended = RunState(run.state)
    except ValueError as error:
        msg = f"{run.run}: its history was purged, and its row says that it ended in {run.state!r}"
        raise LogDamaged(msg) from error
    record = bare_record(run)
    record.ended, record.ended_at, record.purged = ended, run.ended_at, True
    return record


def bare_record(run: StoredRun) -> RunRecord:
    """What the row alone says of a run: nothing of its steps."""
    return RunRecord(
        run=run.run,
        saga=run.saga,
        version=run.saga_version,
        digest=run.digest,
        input=b"null",
        deadline=run.deadline,
        by="",
        created_at=run.created_at,
        at=run.updated_at,
        steps={},
        marks={},
        length=run.version,
        by_hand=run.by_hand,
    )


def asked_for(run: StoredRun, codec: EventCodec) -> list[CallKey]:
    """Calls that people asked for since an owner last wrote: the next worker that drives the run makes them at once."""
    asked: list[CallKey] = []
    for version in range(len(run.events), 0, -1):
        each = run.events[version - 1]
        if each.epoch:
            break
        event = codec.decode(each.kind, each.body, each.at, each.epoch, run.run, version)
        if isinstance(event, RetryAsked):
            asked.append((event.step, event.item, event.phase))
    return asked
