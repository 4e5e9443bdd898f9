"""A request as the barrier reads it: five headers, the operation's name and a print of the body.

The key is the truth; what else a request says about itself must agree with it. Everything is refused before the
database is touched, and without an outcome: the sender hears that it was misrouted, not that anything failed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, Literal

from amends.core.words.errors import AmendsError
from amends.core.words.keys import BadKey, Key, Phase, parse_key
from amends.core.words.limits import REPLY_BYTES_MAX, REQUEST_BYTES_MAX
from amends.core.words.retry import Kind
from amends.wire.this_call import CallInfo, call_info

ENVELOPE_BYTES: Final = 4096
"""What a compensation's body may need beside the request and the reply: member names and the reason."""

EPOCH_MAX: Final = (1 << 63) - 1
DIGITS_MAX: Final = 19
EPOCH_START: Final = datetime(1970, 1, 1, tzinfo=UTC)


class BadHeaders(AmendsError):
    """The headers are not those of a call; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """One call. `since` is when the action was first logged, in microseconds UTC."""

    key: Key
    operation: str
    kind: Kind
    since: int
    epoch: int
    seal: Literal["undone", "rejected"] | None
    attempt: int
    deadline: datetime | None
    callback: str | None

    @property
    def body_bytes_max(self) -> int:
        """How large the body may be."""
        if self.key.phase is Phase.COMPENSATION:
            return REQUEST_BYTES_MAX + REPLY_BYTES_MAX + ENVELOPE_BYTES
        return REQUEST_BYTES_MAX

    def print_of(self, body: bytes) -> bytes:
        """What makes two requests the same."""
        return sha256(self.operation.encode() + b"\0" + body).digest()

    def info(self) -> CallInfo:
        """What the handler may know about the call."""
        return call_info(
            self.key.run,
            self.key.step,
            self.key.item,
            self.key.phase,
            attempt=self.attempt,
            epoch=self.epoch,
            deadline=self.deadline,
            callback=self.callback,
        )


def read_headers(headers: Mapping[str, str], operation: str) -> Incoming:
    """Read a call's headers (names in lower case); `BadHeaders` says what is wrong with them."""
    key = _key(headers)
    phase = headers.get("saga-phase", key.phase.value).strip()
    if phase != key.phase.value:
        msg = f"Saga-Phase is {phase[:40]!r}, but the key says {key.phase.value!r}."
        raise BadHeaders(msg)
    kind = _kind(headers)
    seal = headers.get("saga-seal")
    if seal is not None and (key.phase is not Phase.SEAL or seal not in {"undone", "rejected"}):
        msg = f"Saga-Seal is {seal[:40]!r}: expected undone or rejected, and the phase seal."
        raise BadHeaders(msg)
    if key.phase is Phase.SEAL and kind is Kind.RETRIABLE:
        msg = "a retriable step is never sealed: the tombstone would block it for good."
        raise BadHeaders(msg)
    return Incoming(
        key=key,
        operation=operation,
        kind=kind,
        since=_since(headers),
        epoch=_epoch(headers),
        seal="undone" if seal == "undone" else "rejected" if seal == "rejected" else None,
        attempt=_number(headers.get("saga-attempt", "")) or 1,
        deadline=_moment(headers.get("saga-deadline", "")),
        callback=headers.get("saga-callback"),
    )


def _key(headers: Mapping[str, str]) -> Key:
    text = headers.get("idempotency-key", "").strip()
    if not text:
        msg = "there is no Idempotency-Key: this is no call of a saga."
        raise BadHeaders(msg)
    # Quoted, as the expired IETF draft draft-ietf-httpapi-idempotency-key-header-07 has it, or bare as many send it.
    bare = text[1:-1] if text[0] == text[-1] == '"' else text
    try:
        return parse_key(bare)
    except BadKey as error:
        raise BadHeaders(str(error)) from None


def _kind(headers: Mapping[str, str]) -> Kind:
    text = headers.get("saga-kind", "").strip()
    if text not in {Kind.COMPENSABLE, Kind.PIVOT, Kind.RETRIABLE}:
        msg = f"Saga-Kind is {text[:40]!r}: expected compensable, pivot or retriable."
        raise BadHeaders(msg)
    return Kind(text)


def _since(headers: Mapping[str, str]) -> int:
    text = headers.get("saga-since", "").strip()
    moment = _moment(text)
    if moment is None:
        msg = f"Saga-Since is {text[:40]!r}: expected a time as in RFC 3339, with its zone."
        raise BadHeaders(msg)
    return (moment - EPOCH_START) // timedelta(microseconds=1)


def _epoch(headers: Mapping[str, str]) -> int:
    text = headers.get("saga-epoch", "0").strip()
    number = _number(text)
    if number is None or number > EPOCH_MAX:
        msg = f"Saga-Epoch is {text[:40]!r}: expected a whole number."
        raise BadHeaders(msg)
    return number


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX else None


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return None if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
