"""Runs as the log keeps them, made records again."""

from amends.core.codec import Undecodable
from amends.core.errors import LogDamaged
from amends.core.events import RetryAsked
from amends.core.evolve import fold
from amends.core.keys import CallKey
from amends.core.state import RunRecord
from amends.ports.events import EventCodec
from amends.ports.log import StoredRun


def record_of(run: StoredRun, codec: EventCodec) -> RunRecord:
    """The record of a stored run; `LogDamaged` if its history can't be read."""
    try:
        record = fold(codec.decode(each.kind, each.body, each.at, each.epoch) for each in run.events)
    except (Undecodable, TypeError, StopIteration) as error:
        msg = f"{run.run}: its history can't be read: {error}"
        raise LogDamaged(msg) from error
    if record.length != run.version:
        msg = f"{run.run}: its row says version {run.version}, its history has {record.length} events"
        raise LogDamaged(msg)
    return record


def asked_for(run: StoredRun, codec: EventCodec) -> list[CallKey]:
    """Calls that people asked for since an owner last wrote: whoever drives the run next makes them at once."""
    asked: list[CallKey] = []
    for each in reversed(run.events):
        if each.epoch:
            break
        event = codec.decode(each.kind, each.body, each.at, each.epoch)
        if isinstance(event, RetryAsked):
            asked.append((event.step, event.item, event.phase))
    return asked
