"""What every append needs, whoever makes it: an id of its own, and facts as the log keeps them."""

import secrets
from collections.abc import Callable, Iterable
from itertools import count

from amends.core.events import Event
from amends.ports.events import EventCodec
from amends.ports.log import StoredEvent


def append_ids() -> Callable[[], bytes]:
    """Ids that no other process gives its appends: a random start, then counted."""
    prefix, numbers = secrets.token_bytes(8), count()
    return lambda: prefix + next(numbers).to_bytes(6, "big")


def stored(codec: EventCodec, events: Iterable[Event]) -> list[StoredEvent]:
    """Facts as the log keeps them."""
    encode, kept = codec.encode, list[StoredEvent]()
    for event in events:
        kind, body = encode(event)
        kept.append(StoredEvent(kind, body, event.epoch, event.at))
    return kept
