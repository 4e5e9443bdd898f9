"""Calls as they left the orchestrator, for tests to look at."""

from datetime import UTC, datetime, timedelta
from typing import Final

from amends.core.words.values import value
from amends.ports.transport import Outgoing
from amends.wire.this_call import CallInfo

_START: Final = datetime(1970, 1, 1, tzinfo=UTC)


@value
class Sent(CallInfo):
    """One call: what its participant may know of it, where it went, and when. `body` is the request, as JSON."""

    participant: str
    operation: str
    body: bytes
    at: datetime


def sent(call: Outgoing, now: int) -> Sent:
    """What is kept of a call that leaves `now` (microseconds UTC)."""
    action_key = call.key.rpartition(":")[0] + ":action"
    return Sent(
        key=call.key,
        action_key=action_key,
        run=call.run,
        step=call.step,
        item=call.item,
        phase=call.phase.value,
        attempt=call.attempt,
        epoch=call.epoch,
        deadline=call.deadline,
        callback=call.callback,
        participant=call.participant,
        operation=call.operation,
        body=call.body,
        at=_START + timedelta(microseconds=now),
    )
