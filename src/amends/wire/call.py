"""A call as it is written on the wire: one function for every transport, so that all participants see the same.

Names are lower-case, as HTTP/2 writes them; HTTP/1.1 doesn't care. What comes from the run (key, step) is made of safe
characters only, so nothing here needs escaping.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from amends.core.words.keys import unit_name
from amends.core.words.retry import MICROSECONDS
from amends.ports.transport import Outgoing

CONTENT_TYPE: Final = "application/json"

CALL_HEADERS: Final = frozenset(
    {
        "idempotency-key",
        "saga-id",
        "saga-step",
        "saga-phase",
        "saga-kind",
        "saga-attempt",
        "saga-epoch",
        "saga-since",
        "saga-deadline",
        "saga-callback",
        "saga-seal",
        "content-type",
    }
)
"""Every name that `call_headers` may give: no route says these."""

_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def call_headers(call: Outgoing) -> dict[str, str]:
    """The headers of one attempt. Key and `saga-since` are the same in every attempt."""
    headers = {
        "idempotency-key": f'"{call.key}"',
        "saga-id": call.run,
        "saga-step": unit_name(call.step, call.item),
        "saga-phase": call.phase.value,
        "saga-kind": call.kind.value,
        "saga-attempt": str(call.attempt),
        "saga-epoch": str(call.epoch),
        "saga-since": wire_time(call.since),
        "content-type": CONTENT_TYPE,
    }
    if call.deadline is not None:
        headers["saga-deadline"] = wire_moment(call.deadline)
    if call.callback is not None:
        headers["saga-callback"] = call.callback
    if call.seal is not None:
        headers["saga-seal"] = call.seal
    return headers


def call_head(call: Outgoing) -> str:
    """The same headers as HTTP/1.1 writes them, a line each."""
    step = f"{call.step}/{call.item}" if call.item else call.step
    head = (
        f'idempotency-key: "{call.key}"\r\nsaga-id: {call.run}\r\nsaga-step: {step}\r\nsaga-phase: {call.phase}\r\n'
        f"saga-kind: {call.kind}\r\nsaga-attempt: {call.attempt}\r\nsaga-epoch: {call.epoch}\r\n"
        f"saga-since: {wire_time(call.since)}\r\ncontent-type: {CONTENT_TYPE}\r\n"
    )
    if call.deadline is not None:
        head += f"saga-deadline: {wire_moment(call.deadline)}\r\n"
    if call.callback is not None:
        head += f"saga-callback: {call.callback}\r\n"
    if call.seal is not None:
        head += f"saga-seal: {call.seal}\r\n"
    return head


def wire_time(micros: int) -> str:
    """Microseconds since 1970 as RFC 3339 in UTC: `2026-03-02T03:00:00.000250Z`."""
    seconds, rest = divmod(micros, MICROSECONDS)
    return f"{_whole_seconds(seconds)}.{rest:06d}Z"


@lru_cache(maxsize=256)  # what is being sent began in the same few seconds
def _whole_seconds(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def wire_moment(moment: datetime) -> str:
    """The same of a moment that carries its time zone."""
    return wire_time((moment - _EPOCH) // timedelta(microseconds=1))
