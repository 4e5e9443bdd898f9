"""What a handler raises outside `Exception` is a failure like any other; what is meant for the caller passes."""

import asyncio
import json
import signal
from collections.abc import Callable

import pytest

from amends.inboxes.memory import MemoryData, MemoryInbox
from amends.participant.service import Service
from amends.system.interrupts import Interrupted, contained
from tests.fast.participant.payments import BODY, UNDO, Held, Hold, Payments, headers, word

RAISED = [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError("not the call's own")]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit


def serving(raises: Callable[[], BaseException | None], *, blocking: bool) -> Service[MemoryData]:
    service: Service[MemoryData] = Service(Payments, MemoryInbox())

    def act(tx: MemoryData) -> None:
        tx["written"] = 1
        error = raises()
        if error is not None:
            raise error

    if blocking:

        def hold(request: Hold, tx: MemoryData) -> Held:
            act(tx)
            return Held("1")

        def unhold(undo: object, tx: MemoryData) -> None:
            act(tx)

        service.action(Payments.hold)(hold)
        service.compensation(Payments.hold)(unhold)
    else:

        async def hold_async(request: Hold, tx: MemoryData) -> Held:
            act(tx)
            return Held("1")

        async def unhold_async(undo: object, tx: MemoryData) -> None:
            act(tx)

        service.action(Payments.hold)(hold_async)
        service.compensation(Payments.hold)(unhold_async)
    return service


def sigint_does(monkeypatch: pytest.MonkeyPatch, handler: object) -> None:
    def getsignal(_: int) -> object:
        return handler

    monkeypatch.setattr(signal, "getsignal", getsignal)


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("error", [*RAISED, Unspeakable()], ids=lambda each: type(each).__name__)
async def test_whatever_a_handler_raises_rolls_back_and_is_answered(
    error: BaseException, blocking: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sigint_does(monkeypatch, None)  # as under a web server, which takes SIGINT itself
    raised: list[BaseException | None] = [error]
    service = serving(lambda: raised[0], blocking=blocking)
    answer = await service.handle(headers(), "hold", BODY)
    assert (answer.status, word(answer), json.loads(answer.body)["type"]) == (503, None, "urn:amends:failed")
    # Neither row, lock nor effect is left: the same call acts, and its undo fails the same way and then works.
    raised[0] = None
    assert word(await service.handle(headers(), "hold", BODY)) == "succeeded"
    raised[0] = error
    assert (await service.handle(headers("compensation"), "unhold", UNDO)).status == 503
    raised[0] = None
    assert word(await service.handle(headers("compensation"), "unhold", UNDO)) == "succeeded"
    service.close()


async def test_the_cancellation_of_the_call_itself_passes_and_leaves_nothing() -> None:
    service: Service[MemoryData] = Service(Payments, MemoryInbox())
    begun, first = asyncio.Event(), True

    async def hold(request: Hold, tx: MemoryData) -> Held:
        nonlocal first
        if first:
            first = False
            begun.set()
            await asyncio.Event().wait()
        return Held("1")

    service.action(Payments.hold)(hold)
    call = asyncio.create_task(service.handle(headers(), "hold", BODY))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert word(await service.handle(headers(), "hold", BODY)) == "succeeded"


def test_a_real_interrupt_of_the_process_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    sigint_does(monkeypatch, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt), contained():
        raise KeyboardInterrupt
    sigint_does(monkeypatch, signal.SIG_IGN)
    with pytest.raises(Interrupted, match="KeyboardInterrupt"), contained():
        raise KeyboardInterrupt
    with pytest.raises(Interrupted, match="CancelledError: of a thread"), contained():
        raise asyncio.CancelledError("of a thread")


# -- replies that can't be written


@pytest.mark.parametrize("returned", [object(), Held("\udcff"), Hold(1), {"id": 1}, [[]], 1j])
async def test_a_reply_that_can_not_be_written_is_the_authors_error_and_keeps_nothing(returned: object) -> None:
    service: Service[MemoryData] = Service(Payments, MemoryInbox())
    replies = [returned, Held("1")]

    async def hold(request: Hold, tx: MemoryData) -> Held:
        reply: Held = replies.pop(0)  # type: ignore[assignment] # the author's error
        return reply

    service.action(Payments.hold)(hold)
    answer = await service.handle(headers(), "hold", BODY)
    # No server error, which is repeated until the run is compensated: an answer that ends with a person asked.
    assert (answer.status, word(answer), json.loads(answer.body)["code"]) == (422, None, "reply-invalid")
    assert "hold" in json.loads(answer.body)["detail"]
    assert word(await service.handle(headers(), "hold", BODY)) == "succeeded"


async def test_a_request_of_many_levels_is_refused_without_an_outcome() -> None:
    service = serving(lambda: None, blocking=False)
    deep = (b"[" * 100_000, b"[" * 128 + b"]" * 128, b'{"cents":' * 500 + b"1" + b"}" * 500)
    for number, body in enumerate(deep):
        answer = await service.handle(headers(), "hold", body)
        assert (answer.status, word(answer)) == (400, None)
        undo = b'{"request":' + body + b',"reply":null}'
        assert word(await service.handle(headers("compensation", run=f"order-{number}"), "unhold", undo)) == "noop"
