"""A participant's operations served: handlers, the barrier around them, and the doors to them.

A call goes through `admit` (headers, names, sizes: no database), then through the barrier in one transaction of the
inbox. `handle` is the door within a process; `asgi()` and `wsgi()` are the same behind a web server, and check tokens.
Handlers that block run on a few threads of the service's own, the whole transaction on one of them, so that an event
loop never waits for a database.
"""

import asyncio
import contextvars
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, Final, Generic, ParamSpec, TypeVar, overload

from amends.core.saga.operation import Operation, Participant, Undo, name_of, operations_of
from amends.core.words.codec import Codec
from amends.core.words.errors import DefinitionInvalid, Rejected, TooLarge
from amends.core.words.keys import BadKey, Key, Phase, parse_key
from amends.core.words.limits import REPLY_BYTES_MAX
from amends.core.words.retry import micros
from amends.participant import asgi as asgi_door
from amends.participant import wsgi as wsgi_door
from amends.participant.access import ServiceAccess, Tokens
from amends.participant.barrier import BarrierCall, answer_pending, program
from amends.participant.codec import default_codec
from amends.participant.driver import drive, drive_async, walk, walk_async
from amends.participant.effects import Ended
from amends.participant.handlers import Handler, is_async, name_of_handler
from amends.participant.request import BadHeaders, Incoming, read_headers
from amends.participant.response import Answer, problem
from amends.ports.inbox import AsyncInbox, Inbox, Row
from amends.wire.this_call import CallInfo

P = ParamSpec("P")
Q = TypeVar("Q")
R = TypeVar("R")
Tx = TypeVar("Tx")

THREADS_DEFAULT: Final = min(16, (os.cpu_count() or 1) + 4)
"""Handlers that block wait for their database most of the time; too many only wait for each other."""

WAITING_MAX: Final = 1_000
"""Calls that wait for a thread; beyond it the caller is told to come back rather than to time out in a queue."""

KEEP_DEFAULT: Final = timedelta(days=90)
"""Longer than any orchestrator repeats a call, a person's late `retry` included."""

PURGE_BATCH: Final = 5_000
"""Rows deleted in one transaction, so that calls don't wait long for a purge."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A call that may go to the barrier once its body is there."""

    incoming: Incoming
    handler: Handler


class Accepts(Generic[P, R]):
    """Takes a handler, plain or async, and gives it back as it is."""

    def __init__(self, add: Callable[[Callable[..., Any]], None]) -> None:
        self._add = add

    @overload
    def __call__(self, handler: Callable[P, Awaitable[R]], /) -> Callable[P, Awaitable[R]]: ...
    @overload
    def __call__(self, handler: Callable[P, R], /) -> Callable[P, R]: ...
    def __call__(self, handler: Callable[..., Any], /) -> Callable[..., Any]:
        """Serve the operation with this handler."""
        self._add(handler)
        return handler


class Service(Generic[Tx]):
    """A participant's operations served from this process, behind the barrier.

    Handlers are given the request, or the `Undo`, and the transaction that the barrier shares: they don't commit it.
    `codec` defaults to JSON; `threads` is how many handlers that block run at a time.

    `tokens` are the bearer tokens that a call from the network must carry: a list or set, or a function that gives one
    (`TokenFile`); read at each call, so that they can be changed while the service runs. `None`: every caller that
    reaches the service is served. `callback_origins` (`https://host:port`) are the orchestrators to which pending
    answers may be posted; a `Saga-Callback` to any other origin is dropped before a handler sees it. Both concern
    `asgi()` and `wsgi()`; calls within the process are trusted. `DefinitionInvalid` if one of them can't be right.
    """

    def __init__(
        self,
        participant: type[Participant],
        inbox: Inbox[Tx] | AsyncInbox[Tx],
        *,
        codec: Codec | None = None,
        threads: int = THREADS_DEFAULT,
        tokens: Tokens | None = None,
        callback_origins: Iterable[str] = (),
    ) -> None:
        self._participant = participant
        self.name = name_of(participant)
        self._access = ServiceAccess(f"Service({participant.__name__})", tokens, callback_origins)
        self._inbox = inbox if isinstance(inbox, Inbox) else None
        self._async_inbox = inbox if isinstance(inbox, AsyncInbox) else None
        self._inbox_name = type(inbox).__name__
        self._codec = default_codec() if codec is None else codec
        self._actions: dict[str, Handler] = {}
        self._compensations: dict[str, Handler] = {}
        self._replies = {
            name: self._codec.decoder(operation.reply_type) for name, operation in operations_of(participant).items()
        }
        self._threads_max = threads
        self._threads: ThreadPoolExecutor | None = None
        self._waiting = 0

    # -- handlers

    def action(self, operation: Operation[..., Q, R], /) -> Accepts[[Q, Tx], R]:
        """The handler of this operation: it is given the request and the transaction, and returns the reply."""
        return Accepts(partial(self._serve, operation, operation.name, self._actions, undoes=False))

    def compensation(self, operation: Operation[..., Q, R], /) -> Accepts[[Undo[Q, R], Tx], None]:
        """The handler that undoes this operation, or that this operation is where another step names it as its undo."""
        undo = operation.compensation
        if undo is not None and not isinstance(undo, str):
            msg = f"{operation!r}: its compensation is a Rest; that isn't served here."
            raise DefinitionInvalid([msg])
        return Accepts(partial(self._serve, operation, undo or operation.name, self._compensations, undoes=True))

    def _serve(
        self,
        operation: Operation[..., Any, Any],
        name: str,
        served: dict[str, Handler],
        code: Callable[..., Any],
        *,
        undoes: bool,
    ) -> None:
        where = f"Service({self._participant.__name__})"
        asynchronous = is_async(code)
        if operations_of(self._participant).get(operation.name) is not operation:
            msg = f"{where}: {operation!r} is not one of its operations."
            raise DefinitionInvalid([msg])
        if name in served:
            msg = f"{where}: {name} is already served by {name_of_handler(served[name].code)}."
            raise DefinitionInvalid([msg])
        if asynchronous and self._async_inbox is None:
            msg = (
                f"{where}: {name_of_handler(code)} is async, but {self._inbox_name} blocks. "
                f"Make it a plain def, or use an inbox that is awaited."
            )
            raise DefinitionInvalid([msg])
        if not asynchronous and self._inbox is None:
            msg = (
                f"{where}: {name_of_handler(code)} is a plain def, but {self._inbox_name} is awaited. "
                f"Make it async, or use an inbox that blocks."
            )
            raise DefinitionInvalid([msg])
        served[name] = Handler(
            operation=operation,
            code=code,
            asynchronous=asynchronous,
            codec=self._codec,
            request=self._codec.decoder(operation.request_type),
            reply=self._replies[operation.name],
            replies=self._replies,
            undoes=undoes,
        )

    # -- calls

    def admit(self, headers: Mapping[str, str], operation: str) -> Admitted | Answer:
        """Whether this call may go on to the barrier; no database is touched."""
        if operation not in self._actions and operation not in self._compensations:
            return problem(404, "unknown-operation", f"{self.name} serves no operation {operation[:100]!r}.")
        try:
            incoming = read_headers({name.lower(): value for name, value in headers.items()}, operation)
        except BadHeaders as error:
            return problem(400, "bad-call", str(error))
        phase = incoming.key.phase
        handler = (self._compensations if phase is Phase.COMPENSATION else self._actions).get(operation)
        if handler is None:
            detail = f"{operation} of {self.name} is not served for the phase {phase.value}."
            return problem(400, "bad-call", detail)
        return Admitted(incoming, handler)

    def admit_remote(self, headers: Mapping[str, str], operation: str) -> Admitted | Answer:
        """`admit` for a call from the network: its token is checked first, its callback must be of a known origin."""
        headers = {name.lower(): value for name, value in headers.items()}
        refused = self._access.refusal(headers)
        if refused is not None:
            return refused
        admitted = self.admit(headers, operation)
        if isinstance(admitted, Answer):
            return admitted
        callback = self._access.callback(admitted.incoming.callback)
        return replace(admitted, incoming=replace(admitted.incoming, callback=callback))

    async def handle(self, headers: Mapping[str, str], operation: str, body: bytes) -> Answer:
        """Answer one call from this process: neither token nor callback is checked.

        Never raises but for a cancellation, which leaves nothing behind.
        """
        admitted = self.admit(headers, operation)
        return admitted if isinstance(admitted, Answer) else await self.answer_call(admitted, body)

    def handle_blocking(self, headers: Mapping[str, str], operation: str, body: bytes) -> Answer:
        """`handle` on the calling thread, for handlers that block."""
        admitted = self.admit(headers, operation)
        return admitted if isinstance(admitted, Answer) else self.answer_blocking(admitted, body)

    async def answer_call(self, admitted: Admitted, body: bytes) -> Answer:
        """Take an admitted call through the barrier."""
        handler, incoming = admitted.handler, admitted.incoming
        if not handler.asynchronous:
            return await self._on_a_thread(admitted, body)
        assert self._async_inbox is not None
        if len(body) > incoming.body_bytes_max:
            return too_large(incoming.body_bytes_max)
        call = BarrierCall(incoming, incoming.print_of(body))
        return await drive_async(
            self._async_inbox, partial(program, call), handler.work_async(incoming, body), self._label(admitted)
        )

    def answer_blocking(self, admitted: Admitted, body: bytes) -> Answer:
        """Take an admitted call through the barrier, on this thread."""
        handler, incoming = admitted.handler, admitted.incoming
        if handler.asynchronous or self._inbox is None:
            msg = f"{name_of_handler(handler.code)} is async: serve {self.name} with asgi() or await handle()"
            raise TypeError(msg)
        if len(body) > incoming.body_bytes_max:
            return too_large(incoming.body_bytes_max)
        call = BarrierCall(incoming, incoming.print_of(body))
        return drive(self._inbox, partial(program, call), handler.work(incoming, body), self._label(admitted))

    async def _on_a_thread(self, admitted: Admitted, body: bytes) -> Answer:
        if self._waiting >= WAITING_MAX:
            return problem(503, "overloaded", f"{WAITING_MAX} calls wait for a thread.", retry_after_seconds=1)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._threads_max, thread_name_prefix=f"amends-{self.name}")
        context = contextvars.copy_context()
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: context.run(self.answer_blocking, admitted, body)
            )
        finally:
            self._waiting -= 1

    def _label(self, admitted: Admitted) -> str:
        return f"{self.name}, {name_of_handler(admitted.handler.code)}"

    # -- pending work

    def answer(self, tx: Tx, call: str | CallInfo, reply: object) -> Answer:
        """Answer a pending call (`raise Later`) in `tx`, the transaction of the business change; a `Rejected` is a no.

        `call` is the call's key as `this_call().key` had it, or the `CallInfo` itself. The key names the phase: the
        completion of an action can't settle its compensation. Raises `Blocked` if that call isn't pending (any more);
        the business change must not happen then, so let the exception leave the transaction. Raises `BadKey` for
        anything but the key of an action or a compensation, `Undecodable` for a reply of another type, `TooLarge` for
        one over the limit. Post what is returned, headers and body, to the call's callback once the transaction is
        committed, until the callback takes it (200, 409 or 410).
        """
        if self._inbox is None:
            msg = f"{self._inbox_name} is awaited: await answer_async() instead"
            raise TypeError(msg)
        return walk(self._inbox.join(tx), answer_pending(_pending_key(call), self._said(reply)), _no_work)

    async def answer_async(self, tx: Tx, call: str | CallInfo, reply: object) -> Answer:
        """`answer` for a transaction that is awaited."""
        if self._async_inbox is None:
            msg = f"{self._inbox_name} blocks: call answer() instead"
            raise TypeError(msg)
        pending = answer_pending(_pending_key(call), self._said(reply))
        return await walk_async(self._async_inbox.join_async(tx), pending, _no_work_async)

    def _said(self, reply: object) -> Callable[[Row], bytes] | Rejected:
        if isinstance(reply, Rejected):
            return reply

        def encoded(row: Row) -> bytes:
            body = self._codec.encode(reply)
            if len(body) > REPLY_BYTES_MAX:
                msg = f"the reply of {row.run}, {row.step} has {len(body)} bytes, {REPLY_BYTES_MAX} may be stored"
                raise TooLarge(msg)
            check = self._replies.get(row.operation or "")
            if check is not None:
                check(body)
            return body

        return encoded

    # -- upkeep

    def purge(self, older_than: timedelta = KEEP_DEFAULT) -> int:
        """Forget rows last touched longer ago than this; gives how many. Late calls get `barrier-expired`."""
        if self._inbox is None:
            msg = f"{self._inbox_name} is awaited: await purge_async() instead"
            raise TypeError(msg)
        age, total = _age(older_than), 0
        while True:
            with self._inbox.open() as tx:
                deleted = tx.purge(age, PURGE_BATCH)
                tx.commit()
            total += deleted
            if deleted < PURGE_BATCH:
                return total

    async def purge_async(self, older_than: timedelta = KEEP_DEFAULT) -> int:
        """`purge` for an inbox that is awaited."""
        if self._async_inbox is None:
            msg = f"{self._inbox_name} blocks: call purge() instead"
            raise TypeError(msg)
        age, total = _age(older_than), 0
        while True:
            async with self._async_inbox.open_async() as tx:
                deleted = await tx.purge(age, PURGE_BATCH)
                await tx.commit()
            total += deleted
            if deleted < PURGE_BATCH:
                return total

    def close(self) -> None:
        """Wait for handlers that run on threads, and let go of the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=True)
            self._threads = None

    # -- doors

    def asgi(self) -> asgi_door.AsgiApp:
        """An ASGI application, to be served or mounted under any prefix: `POST .../<operation>`."""
        return asgi_door.application(self)

    def wsgi(self) -> wsgi_door.WsgiApp:
        """A WSGI application, for handlers that block: `POST .../<operation>`."""
        if self._inbox is None:
            msg = f"Service({self._participant.__name__}): {self._inbox_name} is awaited; serve it with asgi()."
            raise DefinitionInvalid([msg])
        return wsgi_door.application(self)


def too_large(limit: int) -> Answer:
    """The body is larger than a call of this phase may be."""
    return problem(413, "too-large", f"the body may have {limit} bytes.")


def _pending_key(call: str | CallInfo) -> Key:
    """The key of the call that is answered; `BadKey` if it can't be one."""
    text = call.key if isinstance(call, CallInfo) else call
    advice = "Give answer() the key of the call that raised Later, as this_call().key had it there."
    try:
        key = parse_key(text)
    except BadKey as error:
        msg = f"{error} {advice}"
        raise BadKey(msg) from None
    if key.phase not in {Phase.ACTION, Phase.COMPENSATION}:
        msg = f"{text} is the key of a {key.phase}, which is never answered later. {advice}"
        raise BadKey(msg)
    return key


def _age(older_than: timedelta) -> int:
    if older_than < timedelta(0):
        msg = f"older_than is {older_than}: rows of the future can't be purged"
        raise ValueError(msg)
    return micros(older_than)


def _no_work(_handle: object, _row: Row | None) -> Ended:
    msg = "answering pending work runs no handler"
    raise AssertionError(msg)


async def _no_work_async(handle: object, row: Row | None) -> Ended:
    return _no_work(handle, row)
