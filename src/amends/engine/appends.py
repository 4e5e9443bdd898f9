"""Parts of every append: its id, its events as the log stores them, and whether they are progress of the run."""

import secrets
from collections.abc import Callable, Iterable
from itertools import count
from typing import Final

from amends.core.run.answers import Cause
from amends.core.run.events import ActionUnknown, AttemptFailed, AttemptStarted, Event, NoticeFailed
from amends.ports.events import EventCodec
from amends.ports.log import StoredEvent

UNANSWERED: Final = frozenset(
    {Cause.NOT_SENT, Cause.WITHDRAWN, Cause.LOST, Cause.TIMED_OUT, Cause.OWNER_LOST, Cause.NO_ANSWER, Cause.TURNED_BACK}
)
"""Ends of an attempt that the engine states by itself, without an answer of the participant or of the step's code."""


_NO_ANSWER: Final = (AttemptStarted, ActionUnknown)
_ENDED: Final = (AttemptFailed, NoticeFailed)


def is_progress(events: Iterable[Event]) -> bool:
    """Whether these events show that the run moved on, so that it isn't what its former owners died of.

    Answers, operators' commands and results of builders do. The beginning of an attempt doesn't, nor its end without an
    answer: a step that ends its process is tried by each owner.
    """
    for event in events:
        if isinstance(event, _NO_ANSWER):
            continue
        if isinstance(event, _ENDED) and event.cause in UNANSWERED:
            continue
        return True
    return False


def append_ids() -> Callable[[], bytes]:
    """Ids that no other process gives its appends: a random start, then counted."""
    prefix, numbers = secrets.token_bytes(8), count()
    return lambda: prefix + next(numbers).to_bytes(6, "big")


def stored(codec: EventCodec, run: str, after: int, events: Iterable[Event]) -> list[StoredEvent]:
    """Facts as the log keeps them; the first becomes the run's event number `after + 1`."""
    encode, kept = codec.encode, list[StoredEvent]()
    for event in events:
        after += 1
        kind, body = encode(event, run, after)
        kept.append(StoredEvent(kind, body, event.epoch, event.at))
    return kept
