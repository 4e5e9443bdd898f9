"""Work of a step in this process, and services and applications that are called without a wire."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp import web

from amends.codecs.json import NESTING_MAX, JsonCodec
from amends.core.run.answers import (
    CallResponse,
    Came,
    Cause,
    CodeMismatch,
    Halt,
    Lost,
    NoRoom,
    NotSent,
    Pending,
    SaidNo,
    Succeeded,
    read_answer,
)
from amends.core.saga.operation import blocking
from amends.core.words.errors import CannotCompensate, Later, Rejected
from amends.core.words.keys import Phase
from amends.ports.transport import Transport
from amends.testing.contracts.transport import CALL, Handle, ScriptedResponse, TransportContract
from amends.transports.asgi import AsgiTransport, Receive, Send
from amends.transports.http import HttpTransport
from amends.transports.in_process import LocalTransport, LocalWork, ServiceTransport, local_action, local_compensation
from amends.wire.this_call import this_call

CODEC = JsonCodec()


@dataclass(frozen=True)
class Trip:
    city: str
    days: int = 1


ACT = replace(CALL, operation="book", step="book", key="r:book:action", run="r", body=b'[{"city":"Rome"},2]')
UNDO = replace(ACT, phase=Phase.COMPENSATION, key="r:book:compensation")

Work = Callable[..., Awaitable[Any]]


@contextlib.asynccontextmanager
async def local(
    function: Work, types: Sequence[Any] = (Trip, int), undo: Work | None = None, at_once: int = 4
) -> AsyncGenerator[LocalTransport]:
    works: dict[tuple[str, Phase], LocalWork] = {("book", Phase.ACTION): local_action(function, CODEC, types)}
    if undo is not None:
        works["book", Phase.COMPENSATION] = local_compensation(undo, CODEC, Trip, int | None)
    transport = LocalTransport(lambda operation, phase: works.get((operation, phase)), at_once=at_once)
    try:
        yield transport
    finally:
        await transport.close()


def meaning(came: Came, phase: Phase = Phase.ACTION) -> object:
    return read_answer(came, phase=phase, retriable=False, decode=CODEC.decoder(Any), now=0)


async def test_work_is_done_and_its_reply_is_json() -> None:
    async def book(trip: Trip, nights: int) -> dict[str, object]:
        call = this_call()
        return {"city": trip.city, "nights": nights, "key": call.key, "attempt": call.attempt}

    async with local(book) as transport:
        came = await transport.send(ACT)
    assert meaning(came) == Succeeded(b'{"city":"Rome","nights":2,"key":"r:book:action","attempt":1}')


async def test_blocking_work_is_done_on_a_thread_that_knows_the_call() -> None:
    def book() -> list[object]:
        return [this_call().key, threading.current_thread() is threading.main_thread()]

    async with local(blocking(book), ()) as transport:
        assert meaning(await transport.send(replace(ACT, body=b"[]"))) == Succeeded(b'["r:book:action",false]')


def refuse(*_: object) -> None:
    raise Rejected("no room", code="full")


async def refuse_async(*_: object) -> None:
    refuse()


@pytest.mark.parametrize("work", [refuse_async, blocking(refuse)])
async def test_a_no_is_a_no(work: Work) -> None:
    async with local(work) as transport:
        assert meaning(await transport.send(ACT)) == SaidNo("full", "no room")


async def test_later_is_pending() -> None:
    async def book(*_: object) -> None:
        raise Later

    async with local(book) as transport:
        assert meaning(await transport.send(ACT)) == Pending()


@pytest.mark.parametrize("on_a_thread", [False, True])
async def test_what_a_saga_hides_is_in_no_traceback(*, on_a_thread: bool, caplog: pytest.LogCaptureFixture) -> None:
    hidden = "47" + "11"  # lines of the code itself are in a traceback

    def fail() -> None:
        raise ValueError(hidden) from KeyError(hidden)

    async def fail_async(*_: object) -> None:
        fail()

    work = local_action(blocking(lambda *_: fail()) if on_a_thread else fail_async, JsonCodec(), [])
    transport = LocalTransport(lambda _operation, _phase: replace(work, hides=True))
    came = await transport.send(replace(ACT, body=b"[]"))
    await transport.close()
    assert isinstance(came, Lost)
    assert hidden in came.detail, "it is in the run's log, where views mask it"
    assert hidden not in caplog.text
    assert "ValueError" in caplog.text
    assert "test_in_process.py" in caplog.text


@pytest.mark.parametrize("error", [ValueError("bad date"), CannotCompensate("x"), StopIteration(), KeyError("k")])
@pytest.mark.parametrize("on_a_thread", [False, True])
async def test_any_other_exception_may_have_acted_and_says_where(
    error: Exception, on_a_thread: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error

    async def fail_async(*_: object) -> None:
        fail()

    async with local(blocking(lambda *_: fail()) if on_a_thread else fail_async) as transport:
        came = await transport.send(ACT)
    assert isinstance(came, Lost)
    assert came.cause is Cause.RAISED
    (logged,) = [each for each in caplog.records if each.name == "amends.steps"]
    assert logged.exc_info is not None
    assert logged.exc_info[2] is not None, "without the traceback"
    assert logged.getMessage().startswith("r: book, attempt 1: ")
    if on_a_thread or not isinstance(error, StopIteration):  # a coroutine may not raise it: Python hides where it was
        assert "(test_in_process.py:" in came.detail
    if str(error) == "bad date":
        assert came.detail.startswith("ValueError: bad date (")


@pytest.mark.parametrize("made", [object(), float("nan"), "\ud800", {1: {2: object()}}])
@pytest.mark.parametrize("on_a_thread", [False, True])
async def test_a_reply_that_cannot_be_written_is_the_authors_error_and_says_that_the_work_was_done(
    made: object, on_a_thread: bool
) -> None:
    async def book(*_: object) -> object:
        return made

    async with local(blocking(lambda *_: made) if on_a_thread else book) as transport:
        found = meaning(await transport.send(ACT))
    assert isinstance(found, Halt)
    assert found.reason == "author-error"
    assert "was done" in found.detail


async def test_a_reply_of_another_type_than_declared_is_the_authors_error() -> None:
    async def book(*_: object) -> int:
        return "three"  # type: ignore[return-value] # the mistake

    async with local(book) as transport:
        came = await transport.send(ACT)
    found = read_answer(came, phase=Phase.ACTION, retriable=True, decode=CODEC.decoder(int), now=0)
    assert isinstance(found, Halt)
    assert found.reason == "author-error"


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("error", [Unprintable(), SystemExit(3), GeneratorExit(), asyncio.CancelledError()])
@pytest.mark.parametrize("on_a_thread", [False, True])
async def test_an_exception_without_text_or_that_would_end_a_process_may_have_acted(
    error: BaseException, on_a_thread: bool
) -> None:
    def fail() -> None:
        raise error

    async def fail_async(*_: object) -> None:
        await asyncio.sleep(0)
        fail()

    async with local(blocking(lambda *_: fail()) if on_a_thread else fail_async) as transport:
        came = await transport.send(ACT)
    assert isinstance(came, Lost)
    assert came.cause is (Cause.EXITED if isinstance(error, SystemExit) else Cause.RAISED)


class Odd(Rejected):
    def __init__(self) -> None:  # the base's isn't called
        pass


@pytest.mark.parametrize(
    ("error", "code", "detail"),
    [
        (Odd(), None, "Odd"),
        (Rejected(Unprintable(), code=Unprintable()), "its text can't be read", "its text can't be read"),  # type: ignore[arg-type] # untyped callers
        (Rejected("\ud800full\x1b[2J", code=Phase.ACTION), "action", "full [2J"),
    ],
)
async def test_a_no_stays_a_no_whatever_its_author_put_into_it(error: Exception, code: str | None, detail: str) -> None:
    async def book(*_: object) -> None:
        raise error

    async with local(book) as transport:
        found = meaning(await transport.send(ACT))
    assert isinstance(found, SaidNo)
    assert (found.code, found.detail) == (code, detail)


@pytest.mark.parametrize("body", [b"[]", b"{}", b'[{"city":1},2]', b"nonsense"])
async def test_arguments_that_cannot_be_read_are_the_authors_error_and_no_work_begins(body: bytes) -> None:
    called = False

    async def book(*_: object) -> None:
        nonlocal called
        called = True

    async with local(book) as transport:
        assert isinstance(await transport.send(replace(ACT, body=body)), CodeMismatch)
        assert isinstance(await transport.send(replace(ACT, operation="other")), CodeMismatch)
        assert isinstance(await transport.send(UNDO), CodeMismatch)
    assert not called


async def test_arguments_may_be_as_deep_as_any_value() -> None:
    deepest = b"[" * NESTING_MAX + b"]" * NESTING_MAX

    async def book(one: object, _two: int) -> object:
        return one

    async with local(book, (Any, int)) as transport:
        assert meaning(await transport.send(replace(ACT, body=b"[" + deepest + b",2]"))) == Succeeded(deepest)
        said = await transport.send(replace(ACT, body=b"[" + deepest + b',"x"]'))
        assert said == CodeMismatch("what is logged for book can't be read: Expected `int`, got `str` at $[1]")
        assert isinstance(await transport.send(replace(ACT, body=b"[[" + deepest + b"],2]")), CodeMismatch)


def envelope(request: object, reply: object, *, known: bool) -> bytes:
    return json.dumps({"request": request, "reply": reply, "reply_known": known, "reason": "x"}).encode()


async def test_a_compensation_is_told_the_input_and_the_reply_if_it_is_known() -> None:
    told: list[object] = []

    async def undo(trip: Trip, reply: int | None) -> str:
        told.append((trip, reply))
        return "ignored"

    async with local(refuse_async, undo=undo) as transport:
        for reply, known in ((17, True), (None, False)):
            came = await transport.send(replace(UNDO, body=envelope([{"city": "Rome"}, 2], reply, known=known)))
            assert meaning(came, Phase.COMPENSATION) == Succeeded(b"null")
        for bad in (envelope([], None, known=False), envelope([{"city": "R"}], "x", known=True), b"[]", b"\xff"):
            assert isinstance(await transport.send(replace(UNDO, body=bad)), CodeMismatch)
    assert told == [(Trip("Rome"), 17), (Trip("Rome"), None)]


@pytest.mark.parametrize("error", [CannotCompensate("gone", code="left"), Rejected("gone", code="left")])
async def test_a_compensation_that_says_no_needs_a_person(error: Exception) -> None:
    async def undo(*_: object) -> None:
        raise error

    async with local(refuse_async, undo=undo) as transport:
        came = await transport.send(replace(UNDO, body=envelope([{"city": "Rome"}], None, known=False)))
    assert isinstance(came, CallResponse)
    assert came.headers["saga-outcome"] == "cannot-compensate"
    assert json.loads(came.body)["code"] == "left"


async def test_async_work_that_takes_too_long_is_stopped() -> None:
    stopped = asyncio.Event()

    async def book(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with local(book) as transport:
        came = await transport.send(replace(ACT, timeout_seconds=0.05))
        assert isinstance(came, Lost)
        assert came.cause is Cause.TIMED_OUT
        await stopped.wait()


async def test_a_repeat_joins_blocking_work_that_still_runs() -> None:
    go_on, begun = threading.Event(), 0

    def book(*_: object) -> int:
        nonlocal begun
        begun += 1
        assert go_on.wait(10)
        return begun

    async with local(blocking(book)) as transport:
        first = await transport.send(replace(ACT, timeout_seconds=0.05))
        assert isinstance(first, Lost)
        assert first.cause is Cause.TIMED_OUT
        repeat = asyncio.create_task(transport.send(ACT))
        await asyncio.sleep(0)
        go_on.set()
        assert meaning(await repeat) == Succeeded(b"1")
        assert begun == 1
        assert meaning(await transport.send(ACT)) == Succeeded(b"2"), "once it is over, a repeat runs anew"


async def test_blocking_work_that_never_got_a_thread_is_no_attempt() -> None:
    go_on, begun = threading.Event(), 0

    def book(*_: object) -> None:
        nonlocal begun
        begun += 1
        assert go_on.wait(10)

    async with local(blocking(book), at_once=1) as transport:
        holding = asyncio.create_task(transport.send(ACT))
        await asyncio.sleep(0)
        came = await transport.send(replace(ACT, key="r2:book:action", timeout_seconds=0.05))
        assert isinstance(came, NoRoom)
        go_on.set()
        await holding
    assert begun == 1


@pytest.mark.parametrize("busy", [False, True], ids=["no thread yet", "one thread at work"])
async def test_blocking_work_for_which_no_thread_can_be_started_is_not_done_behind_ones_back(
    monkeypatch: pytest.MonkeyPatch, *, busy: bool
) -> None:
    """The pool queues the work before it starts a thread for it, and another thread would take it from the queue."""
    go_on, begun = threading.Event(), list[str]()

    def book(*_: object) -> int:
        begun.append(this_call().key)
        assert go_on.wait(10)
        return len(begun)

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with local(blocking(book)) as transport:
        holding = asyncio.create_task(transport.send(replace(ACT, run="r0", key="r0:book:action"))) if busy else None
        await asyncio.sleep(0)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refused)
            came = await transport.send(ACT)
        assert isinstance(came, NoRoom)
        go_on.set()
        if holding is not None:
            await holding
        before = len(begun)
        assert isinstance(await transport.send(ACT), CallResponse)
    assert before == busy
    assert begun.count(ACT.key) == 1


async def test_a_cancelled_call_stops_async_work() -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def book(*_: object) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with local(book) as transport:
        task = asyncio.create_task(transport.send(ACT))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await stopped.wait()


async def test_closing_stops_what_can_be_stopped_and_waits_for_no_thread() -> None:
    go_on, begun = threading.Event(), threading.Event()

    def book(*_: object) -> None:
        begun.set()
        go_on.wait(10)

    async with local(blocking(book)) as transport:
        task = asyncio.create_task(transport.send(ACT))
        await asyncio.to_thread(begun.wait, 10)
    came = await task
    assert isinstance(came, Lost)
    go_on.set()


# -- the contract of all transports


class PlainService:
    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def handle(self, headers: Mapping[str, str], operation: str, body: bytes) -> ScriptedResponse:
        return await self._handle(headers, operation, body)


def application(handle: Handle) -> Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]:
    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        body = (await receive())["body"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        said = await handle(headers, scope["path"].rpartition("/")[2], body)
        pairs = [(name.encode(), value.encode()) for name, value in said.headers.items()]
        await send({"type": "http.response.start", "status": said.status, "headers": pairs})
        await send({"type": "http.response.body", "body": said.body[:5], "more_body": True})
        await send({"type": "http.response.body", "body": said.body[5:]})

    return app


class TestServiceTransport(TransportContract):
    @contextlib.asynccontextmanager
    async def serve(self, handle: Handle) -> AsyncGenerator[Transport]:
        yield ServiceTransport(PlainService(handle))


class TestAsgiTransport(TransportContract):
    @contextlib.asynccontextmanager
    async def serve(self, handle: Handle) -> AsyncGenerator[Transport]:
        transport = AsgiTransport(application(handle), "/saga/")
        yield transport
        await transport.close()


class TestHttpTransport(TransportContract):
    @contextlib.asynccontextmanager
    async def serve(self, handle: Handle) -> AsyncGenerator[Transport]:
        async def answer(request: web.Request) -> web.Response:
            headers = {name.lower(): value for name, value in request.headers.items()}
            said = await handle(headers, request.match_info["operation"], await request.read())
            return web.Response(status=said.status, headers=said.headers, body=said.body)

        app = web.Application()
        app.router.add_post("/saga/{operation}", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        (_, port), *_ = runner.addresses
        transport = HttpTransport(f"http://127.0.0.1:{port}/saga")
        try:
            yield transport
        finally:
            await transport.close()
            await runner.cleanup()


# -- what only an ASGI application has


async def test_an_application_is_started_before_its_first_call_and_shut_down_at_the_end() -> None:
    story: list[str] = []

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = (await receive())["type"]
                story.append(message)
                scope["state"]["pool"] = "open"
                await send({"type": f"{message}.complete"})
            return
        story.append(f"{scope['method']} {scope['path']} {scope['state']['pool']}")
        await send({"type": "http.response.start", "status": 204, "headers": [(b"Saga-Outcome", b"noop")] * 2})
        await send({"type": "http.response.body"})
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        story.append("gone")

    transport = AsgiTransport(app, "/saga")
    came = await transport.send(CALL)
    assert isinstance(came, CallResponse)
    assert came.repeated == {"saga-outcome"}
    await asyncio.sleep(0)
    await transport.close()
    assert story == ["lifespan.startup", "POST /saga/reserve open", "gone", "lifespan.shutdown"]


async def test_an_application_that_does_not_start_is_never_called() -> None:
    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    transport = AsgiTransport(app)
    came = await transport.send(CALL)
    assert isinstance(came, NotSent)
    assert "no database" in came.detail
    await transport.close()


async def test_a_service_is_shown_by_name() -> None:
    async def handle(*_: object) -> ScriptedResponse:
        return ScriptedResponse()

    came = await ServiceTransport(PlainService(handle)).send(CALL)
    assert isinstance(came, CallResponse)
    assert came.url == "python:inventory/reserve"
