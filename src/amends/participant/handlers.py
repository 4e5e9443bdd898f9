"""A service's handlers as the barrier's work: decode, call, encode, and sort out how it ended.

Requests are decoded only when business code is really about to run. A repeat is answered from its row though the
types have changed since, and an undo of nothing needs no understanding of what it would undo.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Token
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, cast

import msgspec

from amends.core.saga.operation import Operation, Undo
from amends.core.words.codec import Codec, Undecodable
from amends.core.words.error_texts import text_of
from amends.core.words.errors import CannotCompensate, Later, Rejected
from amends.core.words.limits import REPLY_BYTES_MAX
from amends.participant.driver import Unfit, UnfitReply
from amends.participant.effects import Done, Ended, HandlerRefused, Postponed, TooMuch
from amends.participant.request import Incoming
from amends.participant.response import NULL
from amends.ports.inbox import Row
from amends.system.interrupts import contained_work
from amends.wire.this_call import CURRENT_CALL, Answering, CallInfo

_ENVELOPE: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAW_NULL: Final = msgspec.Raw(NULL)


def is_async(handler: Callable[..., Any]) -> bool:
    """Whether calling it gives something to await, functions in disguise included."""
    call = getattr(handler, "__call__", None)  # noqa: B004 - not whether it can be called, but what kind its method is
    return inspect.iscoroutinefunction(inspect.unwrap(handler)) or inspect.iscoroutinefunction(call)


def name_of_handler(handler: Callable[..., Any]) -> str:
    """How it is called in messages."""
    return str(getattr(handler, "__name__", type(handler).__name__))


@dataclass(frozen=True, slots=True)
class Handler:
    """Business code of one phase of one operation. `replies` reads the replies of all the participant's operations."""

    operation: Operation[..., Any, Any]
    code: Callable[..., Any]
    asynchronous: bool
    codec: Codec
    request: Callable[[bytes], Any]
    reply: Callable[[bytes], Any]
    replies: Mapping[str, Callable[[bytes], Any]]
    undoes: bool

    def work(self, incoming: Incoming, body: bytes) -> Callable[[Any, Row | None], Ended]:
        """The work of one call, blocking."""

        def doing(handle: object, row: Row | None) -> Ended:
            argument = self._argument(body, row)
            with _Calling(incoming.info()):
                try:
                    with contained_work():
                        returned = self.code(argument, handle)
                except (Rejected, CannotCompensate, Later) as said:
                    return self._said(said)
            return self._returned(returned)

        return doing

    def work_async(self, incoming: Incoming, body: bytes) -> Callable[[Any, Row | None], Awaitable[Ended]]:
        """The work of one call, awaited."""

        async def doing(handle: object, row: Row | None) -> Ended:
            argument = self._argument(body, row)
            with _Calling(incoming.info()):
                try:
                    with contained_work():
                        returned = await self.code(argument, handle)
                except (Rejected, CannotCompensate, Later) as said:
                    return self._said(said)
            return self._returned(returned)

        return doing

    def _argument(self, body: bytes, row: Row | None) -> object:
        try:
            return self._undo(body, row) if self.undoes else self.request(body)
        except Undecodable as error:
            raise Unfit(f"{error.detail} - at {error.path}") from error

    def _undo(self, body: bytes, row: Row | None) -> Undo[Any, Any]:
        try:
            parts = _ENVELOPE.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Undecodable(str(error)) from error
        if "request" not in parts:
            msg = 'expected {"request": ..., "reply": ..., "reply_known": ..., "reason": ...}'
            raise Undecodable(msg)
        assert row is not None
        # What this service stored is the truth; the body's reply may have been lost, or never have been.
        stored = row.reply is not None
        reply = bytes(parts.get("reply", _RAW_NULL)) if row.reply is None else row.reply
        read_reply = self.replies.get(row.operation or "", self.reply)
        known = stored or parts.get("reply_known") == msgspec.Raw(b"true")
        return Undo(
            request=self.request(bytes(parts["request"])),
            reply=None if reply == NULL else read_reply(reply),
            reply_known=known,
            reason=_text(parts.get("reason")),
        )

    def _said(self, said: Rejected | CannotCompensate | Later) -> Ended:
        if isinstance(said, Later):
            return Postponed()
        if isinstance(said, CannotCompensate) and not self.undoes:
            raise said  # no answer of an action: an error like any other
        return HandlerRefused(said)

    def _returned(self, returned: object) -> Ended:
        if inspect.isawaitable(returned):
            if inspect.iscoroutine(returned):
                returned.close()
            msg = f"{name_of_handler(self.code)} returned something to await; write async def, so that it is seen"
            raise TypeError(msg)
        if self.undoes:
            return Done(NULL)
        try:
            encoded = self.codec.encode(returned)
        except Exception as error:
            msg = f"its reply, a {type(returned).__name__}, can't be written as JSON: {text_of(error)}"
            raise UnfitReply(msg) from error
        if len(encoded) > REPLY_BYTES_MAX:
            return TooMuch(len(encoded))
        # A reply of another shape would be committed and replayed for ever, and never be read.
        try:
            self.reply(encoded)
        except Undecodable as error:
            msg = f"its reply isn't a {_name_of_type(self.operation.reply_type)}: {error.detail} - at {error.path}"
            raise UnfitReply(msg) from error
        return Done(encoded)


def _name_of_type(of: object) -> str:
    return str(getattr(of, "__name__", of))


def _text(raw: msgspec.Raw | None) -> str:
    if raw is None:
        return ""
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError:
        return ""


class _Calling:
    """`this_call()` knows the call while this is open."""

    __slots__ = ("_info", "_token")

    def __init__(self, info: CallInfo) -> None:
        self._info = info
        self._token: Token[CallInfo | Answering] | None = None

    def __enter__(self) -> None:
        self._token = CURRENT_CALL.set(self._info)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        CURRENT_CALL.reset(cast("Token[CallInfo | Answering]", self._token))
