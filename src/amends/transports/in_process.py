"""Calls that stay in this process: work of a step itself, and services that are objects here.

Work is answered as a participant would answer, by `saga-outcome`, so that the core knows no difference. What sets it
apart: a thread can't be stopped. So a time-out ends only the waiting, and a repeat with the same key joins the attempt
that still runs instead of starting another beside it. After a crash it isn't known how far it had come: a repeat runs
anew.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import PurePath
from traceback import extract_tb, format_tb
from types import CoroutineType
from typing import Any, Final, Protocol, TypeAlias, cast

import msgspec

from amends.core.run.answers import NULL, OUTCOME_HEADER, CallResponse, Came, Cause, CodeMismatch, Lost, NoRoom
from amends.core.saga.operation import AT_ONCE_DEFAULT, Blocking
from amends.core.words.codec import Codec, Undecodable
from amends.core.words.error_texts import clean, no_of, told
from amends.core.words.errors import CannotCompensate, Later, Rejected
from amends.core.words.keys import COMPENSATION, Phase, unit_name
from amends.core.words.limits import REPLY_BYTES_MAX
from amends.ports.transport import Outgoing
from amends.system.interrupts import ends_the_caller
from amends.system.threads import Threads
from amends.transports.room import lacks_room, not_sent
from amends.wire.call import call_headers
from amends.wire.this_call import CURRENT_CALL, CallInfo, call_info

_LOGGER: Final = logging.getLogger("amends.steps")

Annotation: TypeAlias = Any
"""A type as annotations write it: a class, a generic alias, a union; Python has no type for these."""


# -- work of a step in this process


@dataclass(frozen=True, slots=True)
class LocalWork:
    """A function that does a step's work or undoes it, with how its body is read and its reply written.

    `arguments` raises `Undecodable`; so may `reply`. `hides`: its saga hides values, which the text of an exception may
    repeat; of such an exception only the type and the places go into the log of this process.
    """

    function: Callable[..., Awaitable[Any]]
    arguments: Callable[[bytes], Sequence[object]]
    reply: Callable[[object], bytes]
    hides: bool = False


def local_action(function: Callable[..., Awaitable[Any]], codec: Codec, arguments: Sequence[Annotation]) -> LocalWork:
    """Work whose body is the JSON array of its arguments."""
    types: Any = tuple
    at_once = codec.decoder(types[tuple(arguments)] if arguments else types[()])
    one_by_one = [codec.decoder(each) for each in arguments]

    def read(body: bytes) -> Sequence[object]:
        try:
            return cast("Sequence[object]", at_once(body))
        except Undecodable:
            # Each of them may be nested as deeply as any value; the array around them is ours and doesn't count.
            parts = _parts(body)
            if len(parts) != len(one_by_one):
                raise
        return [_argument(decode, part, n) for n, (decode, part) in enumerate(zip(one_by_one, parts, strict=True))]

    return LocalWork(function, read, codec.encode)


def _parts(body: bytes) -> Sequence[bytes]:
    try:
        return [bytes(each) for each in _ARRAY.decode(body)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(str(error)) from error


def _argument(decode: Callable[[bytes], object], part: bytes, number: int) -> object:
    try:
        return decode(part)
    except Undecodable as error:
        raise Undecodable(error.detail, path=f"$[{number}]{error.path[1:]}") from error


def local_compensation(
    function: Callable[..., Awaitable[Any]], codec: Codec, input_type: Annotation, reply_type: Annotation
) -> LocalWork:
    """What undoes local work: called with the run's input (the action's first argument) and the reply or `None`."""
    read_input, read_reply = codec.decoder(input_type), codec.decoder(reply_type)

    def arguments(body: bytes) -> Sequence[object]:
        try:
            envelope = _ENVELOPE.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Undecodable(str(error)) from error
        reply = read_reply(bytes(envelope.reply)) if envelope.reply_known else None
        return read_input(bytes(envelope.request[0])), reply

    return LocalWork(function, arguments, lambda _: NULL)


class _Envelope(msgspec.Struct):
    request: list[msgspec.Raw]
    reply: msgspec.Raw = msgspec.Raw(NULL)
    reply_known: bool = False

    def __post_init__(self) -> None:
        if not self.request:
            msg = "the request has no first argument"
            raise ValueError(msg)


_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)


class LocalTransport:
    """`ports.transport.Transport` for steps that do their work in this process.

    `find` gives the work for an operation's name in a phase (action or compensation), `None` if none is loaded here.
    Functions marked `blocking` run on threads, `at_once` of them.
    """

    def __init__(self, find: Callable[[str, Phase], LocalWork | None], *, at_once: int = AT_ONCE_DEFAULT) -> None:
        self._find = find
        self._at_once = at_once
        self._threads: Threads[Came] | None = None
        self._running: dict[str, _Attempt] = {}

    async def send(self, call: Outgoing) -> Came:
        attempt = self._running.get(call.key)
        if attempt is None:
            work = self._find(call.operation, call.phase)
            if work is None:
                return CodeMismatch(f"no work for {call.operation}, {call.phase.value}, is loaded in this process")
            try:
                arguments = work.arguments(call.body)
            except Undecodable as error:
                return CodeMismatch(f"what is logged for {_named(call)} can't be read: {error.detail} at {error.path}")
            if not _blocks(work.function):
                return await _do_here(call, work, arguments)
            started = self._start(call, work, arguments)
            if isinstance(started, NoRoom):
                return started
            attempt = started
        try:
            # Never cancels what it waits for: that is `stop`'s, where it can be done at all.
            await asyncio.wait([attempt.task], timeout=call.timeout_seconds)
        except asyncio.CancelledError:
            attempt.stop()
            raise
        if not attempt.task.done() and not attempt.stop():
            return Lost(Cause.TIMED_OUT, f"{call.operation} was not done within {call.timeout_seconds:g} s")
        return await _result(attempt.task, call)

    @property
    def at_work(self) -> Mapping[str, Future[Came]]:
        """Unfinished work on threads, by the key of its call; also where its answer is not waited for any more."""
        return {key: attempt.job for key, attempt in self._running.items() if attempt.job.running()}

    async def close(self) -> None:
        """Cancels what can be cancelled. A thread that still works is left to its end and not waited for."""
        attempts = list(self._running.values())
        for attempt in attempts:
            attempt.task.cancel()
        await asyncio.gather(*(attempt.task for attempt in attempts), return_exceptions=True)
        if self._threads is not None:
            self._threads.close()
            self._threads = None

    def _start(self, call: Outgoing, work: LocalWork, arguments: Sequence[object]) -> "_Attempt | NoRoom":
        if self._threads is None:
            self._threads = Threads(self._at_once, "amends-local")
        function = cast("Blocking[..., Any]", work.function).work
        context = copy_context()
        try:
            job = self._threads.submit(lambda: context.run(_do_blocking, call, work, function, arguments))
        except (RuntimeError, MemoryError) as error:
            if not lacks_room(error):
                raise
            return NoRoom(f"{call.operation} was not begun: {told(error)}")
        task = asyncio.create_task(_follow(job, call), name=call.key)
        attempt = self._running[call.key] = _Attempt(task, job)
        task.add_done_callback(lambda _: self._running.pop(call.key, None))
        return attempt


def _blocks(function: object) -> bool:
    return isinstance(function, Blocking)


@dataclass(slots=True)
class _Attempt:
    """Blocking work that was begun; `job` is its place on the threads."""

    task: asyncio.Task[Came]
    job: Future[Came]

    def stop(self) -> bool:
        """Stop it if that is possible; true if it provably never began (it had waited for a thread)."""
        return self.job.cancel()


async def _result(task: asyncio.Task[Came], call: Outgoing) -> Came:
    try:
        return await task
    except asyncio.CancelledError:
        if task.cancelled():  # the work was stopped by an earlier attempt's time-out, or gave itself up
            return Lost(Cause.TIMED_OUT, f"{call.operation} was stopped before it was done")
        raise


async def _follow(job: Future[Came], call: Outgoing) -> Came:
    try:
        return await asyncio.wrap_future(job)
    except asyncio.CancelledError:
        if job.cancelled():
            return NoRoom(f"no thread was free for {call.operation} within {call.timeout_seconds:g} s")
        raise


async def _do_here(call: Outgoing, work: LocalWork, arguments: Sequence[object]) -> Came:
    """Async work needs no task of its own: its time-out stops it, so no attempt outlives its call."""
    token = CURRENT_CALL.set(_Answering(call))
    limit: asyncio.Timeout | None = None
    try:
        begun = work.function(*arguments)
        if isinstance(begun, CoroutineType):
            # Work that never waits needs no timer either, which is the dearest part of calling it.
            work_begun = cast("Coroutine[object, object, object]", begun)
            try:
                waits_for = work_begun.send(None)
            except StopIteration as done:
                return _done(call, work, done.value)
            begun = _Rest(work_begun, waits_for)
        limit = asyncio.timeout(call.timeout_seconds)
        async with limit:
            return _done(call, work, await begun)
    except Exception as error:  # noqa: BLE001 - whatever the author's code raises is an answer
        if isinstance(error, TimeoutError) and limit is not None and limit.expired():
            return Lost(Cause.TIMED_OUT, f"{call.operation} was not done within {call.timeout_seconds:g} s")
        return _raised(call, work, work.function, error)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return Lost(Cause.RAISED, f"{call.operation} gave itself up before it was done")
    except BaseException as error:
        if ends_the_caller(error):
            raise
        return _raised(call, work, work.function, error)
    finally:
        CURRENT_CALL.reset(token)


class _Rest:
    """The rest of a coroutine that took its first step already, and waits for what that gave."""

    def __init__(self, work: Coroutine[object, object, object], waits_for: object) -> None:
        self._work = work
        self._waits_for = waits_for

    def __await__(self) -> Generator[object, object, object]:
        try:
            while True:
                try:
                    got = yield self._waits_for
                except BaseException as thrown:  # noqa: BLE001 - a cancellation or an error, meant for the work
                    self._waits_for = self._work.throw(thrown)
                else:
                    self._waits_for = self._work.send(got)
        except StopIteration as done:
            return done.value


def _do_blocking(call: Outgoing, work: LocalWork, function: Callable[..., Any], arguments: Sequence[object]) -> Came:
    CURRENT_CALL.set(_Answering(call))
    try:
        return _done(call, work, function(*arguments))
    except BaseException as error:  # on this thread nothing is for the caller
        if ends_the_caller(error):
            raise
        return _raised(call, work, function, error)


def _done(call: Outgoing, work: LocalWork, value: object) -> Came:
    if call.phase is COMPENSATION:
        return _answer(call, 200, _SUCCEEDED)
    try:
        return _answer(call, 200, _SUCCEEDED, work.reply(value))
    except Undecodable as error:
        return CodeMismatch(f"the work was done, but its reply can't be written: {error.detail} at {error.path}")


def _raised(call: Outgoing, work: LocalWork, function: object, error: BaseException) -> Came:
    match error, call.phase:
        case Rejected(), Phase.ACTION:
            return _answer(call, 409, {OUTCOME_HEADER: "rejected"}, _problem("rejected", error))
        case ((Rejected() | CannotCompensate()), Phase.COMPENSATION):
            said = {OUTCOME_HEADER: "cannot-compensate"}
            return _answer(call, 409, said, _problem("cannot-compensate", error))
        case Later(), _:
            return _answer(call, 202, {OUTCOME_HEADER: "pending"})
        case SystemExit(), _:  # its author meant this process, which isn't the step's to end
            return _failed(call, Cause.EXITED, function, error, hides=work.hides)
        case _:
            return _failed(call, Cause.RAISED, function, error, hides=work.hides)


def _failed(call: Outgoing, cause: Cause, function: object, error: BaseException, *, hides: bool = False) -> Lost:
    """An exception that is no answer: its traceback is written to the log of this process, once per attempt."""
    detail = _where(function, error)
    what = unit_name(call.step, call.item) + ("" if call.phase is Phase.ACTION else f", {call.phase.value}")
    if hides:
        places = "".join(format_tb(error.__traceback__))
        said = f"{type(error).__name__}; its text may repeat a value that this saga hides\n{places}"
        _LOGGER.warning("%s: %s, attempt %d: %s", call.run, what, call.attempt, said.rstrip())
    else:
        _LOGGER.warning("%s: %s, attempt %d: %s", call.run, what, call.attempt, clean(detail), exc_info=error)
    return Lost(cause, detail, type(error).__name__)


_SUCCEEDED: Final[Mapping[str, str]] = {OUTCOME_HEADER: "succeeded"}


def _answer(call: Outgoing, status: int, headers: Mapping[str, str], body: bytes = NULL) -> CallResponse:
    return CallResponse(status, headers, body, f"local:{call.step}", own=True)


def _named(call: Outgoing) -> str:
    return call.step if call.phase is not COMPENSATION else f"the compensation of {call.step}"


def _problem(name: str, error: Rejected | CannotCompensate) -> bytes:
    code, detail = no_of(error)
    return json.dumps({"type": f"urn:amends:{name}", "code": code, "detail": detail}).encode()


def _where(function: object, error: BaseException) -> str:
    """`ValueError: bad date (trip.py:12)`: the last line of the author's own file that was on its way to the error."""
    said = told(error)
    frames = extract_tb(error.__traceback__)
    code = getattr(function, "__code__", None)
    own = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
    last = (own or frames)[-1]
    return f"{said} ({PurePath(last.filename).name}:{last.lineno})"


class _Answering:
    """The call whose work is being done: it is put together for `this_call` only where that is asked."""

    __slots__ = ("_call",)

    def __init__(self, call: Outgoing) -> None:
        self._call = call

    def info(self) -> CallInfo:
        call = self._call
        return call_info(
            call.run,
            call.step,
            call.item,
            call.phase,
            attempt=call.attempt,
            epoch=call.epoch,
            deadline=call.deadline,
            callback=call.callback,
        )


# -- services that are objects of this process


class Replied(Protocol):
    """What a service answered; header names are lower-case."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case."""
        ...

    @property
    def body(self) -> bytes:
        """The reply, or the problem."""
        ...


class Handles(Protocol):
    """A service that can be called without a wire between."""

    async def handle(self, headers: Mapping[str, str], operation: str, body: bytes) -> Replied:
        """Answer one call."""
        ...


class ServiceTransport:
    """`ports.transport.Transport` for a service in this process: everything as over HTTP, but nothing gets lost."""

    def __init__(self, service: Handles, headers: Mapping[str, str] | None = None) -> None:
        self._service = service
        self._given: Mapping[str, str] = {} if headers is None else headers

    async def send(self, call: Outgoing) -> Came:
        shown = f"python:{call.participant}/{call.operation}"
        try:
            headers = {**{name.lower(): value for name, value in self._given.items()}, **call_headers(call)}
        except Exception as error:  # noqa: BLE001 - a mapping that fetches a token runs its author's code
            return not_sent(f"the headers of the route to {call.participant} can't be had: {told(error)}", error)
        try:
            async with asyncio.timeout(call.timeout_seconds):
                said = await self._service.handle(headers, call.operation, call.body)
        except TimeoutError:
            return Lost(Cause.TIMED_OUT, f"no answer from {shown} within {call.timeout_seconds:g} s")
        except Exception as error:  # noqa: BLE001 - over a wire its type would not be seen either
            failed = _failed(call, Cause.RAISED, None, error)
            return Lost(
                failed.cause, f"no answer from {shown}: {failed.detail}", f"no answer from {shown}: {failed.ours}"
            )
        return CallResponse(said.status, said.headers, said.body[: REPLY_BYTES_MAX + 1], shown, own=True)

    async def close(self) -> None:
        """The service belongs to its maker."""
