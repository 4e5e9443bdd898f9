"""Whatever code of an author raises, or does to the task that runs it: its run goes on, and its slot comes back.

`SystemExit`, `KeyboardInterrupt`, `GeneratorExit` and `CancelledError` aren't `Exception`. A step that raises one
failed as with any other exception: what became of it isn't known, and it is tried again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from typing_extensions import override

from amends.core.run.answers import Came
from amends.core.saga.operation import Call, Route, blocking
from amends.core.saga.outcomes import Compensated, Completed, Stuck
from amends.core.saga.saga import Saga
from amends.core.words.errors import Rejected
from amends.core.words.retry import Policy, Retry
from amends.engine.active_run import Ready
from amends.logs.memory import MemoryLog
from amends.orchestrator import Orchestrator
from amends.ports.log import Append, Start, Written
from amends.ports.transport import Outgoing
from tests.fast.engine.support import (
    Clock,
    Pretend,
    Script,
    Shop,
    assert_empty,
    busy,
    opened,
    order_saga,
    until,
    virtually,
    yes,
)

ODD: list[BaseException] = [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError("of its own")]
EACH = pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
LONG = timedelta(minutes=2)
INSTANT = timedelta(milliseconds=1)


def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


def local(*saga: Saga[Any], routes: tuple[Route, ...] = ()) -> Orchestrator:
    return Orchestrator(list(saga), routes=routes, clock=Clock())


class Failing:
    """Raises at the first attempts; then all is well."""

    def __init__(self, error: BaseException, *, times: int = 1) -> None:
        self.error = error
        self.times = times
        self.tried = 0

    def __call__(self) -> None:
        self.tried += 1
        if self.tried <= self.times:
            raise self.error


@EACH
@pytest.mark.parametrize("waits", [False, True])
def test_a_step_is_tried_again_whatever_it_raises(error: BaseException, *, waits: bool) -> None:
    async def test() -> None:
        saga, fail = Saga("trip", str), Failing(error)

        @saga.retriable()
        async def book(what: str) -> str:
            if waits:
                await asyncio.sleep(0.001)
            fail()
            return what

        async with local(saga) as runs:
            assert isinstance(await (await runs.start(saga, "a")).outcome(), Completed)
            assert fail.tried == 2
            assert_empty(runs)

    virtually(test)


@EACH
async def test_blocking_work_is_tried_again_whatever_it_raises(error: BaseException) -> None:
    saga, fail = Saga("trip", str), Failing(error)

    @saga.retriable(policy=Policy(retry=Retry(first=INSTANT, cap=INSTANT)))
    @blocking
    def book(what: str) -> str:
        fail()
        return what

    async with Orchestrator([saga]) as runs:
        assert isinstance(await (await runs.start(saga, "a")).outcome(), Completed)
        assert fail.tried == 2
        assert_empty(runs)


@EACH
def test_undoing_is_tried_again_whatever_it_raises(error: BaseException) -> None:
    async def test() -> None:
        saga, fail = Saga("trip", str), Failing(error)

        @saga.compensable()
        async def book(what: str) -> str:
            return what

        @book.compensation
        async def unbook(_what: str, _booked: str | None) -> None:
            fail()

        @saga.pivot(after=[book])
        async def pay(_what: str) -> None:
            raise Rejected("no money")

        async with local(saga) as runs:
            assert isinstance(await (await runs.start(saga, "a")).outcome(), Compensated)
            assert fail.tried == 2
            assert_empty(runs)

    virtually(test)


@pytest.mark.parametrize("in_undo", [False, True])
def test_a_step_that_asks_again_for_the_end_of_the_process_is_its_authors_error(*, in_undo: bool) -> None:
    """The process stays, and a person hears of it: uncontained, it would have been a crash loop."""

    async def test() -> None:
        saga = Saga("trip", str)
        fail = Failing(SystemExit(3), times=2)

        @saga.compensable()
        async def book(what: str) -> str:
            if not in_undo:
                fail()
            return what

        @book.compensation
        async def unbook(_what: str, _booked: str | None) -> None:
            fail()

        @saga.pivot(after=[book])
        async def pay(_what: str) -> None:
            if in_undo:
                raise Rejected("no money")

        async with local(saga) as runs:
            run = await runs.start(saga, "a")
            stuck = await run.outcome()
            assert isinstance(stuck, Stuck)
            assert (stuck.step, stuck.phase) == ("book", "compensation" if in_undo else "action")
            assert stuck.reason.startswith("author-error: SystemExit: 3 (test_interrupts.py:")
            assert fail.tried == 2
            await runs.retry(run.id, reason="mended")
            assert isinstance(await run.outcome(), Compensated if in_undo else Completed)
            assert_empty(runs)

    virtually(test)


@EACH
def test_a_builder_that_raises_anything_marks_its_step(error: BaseException) -> None:
    async def test() -> None:
        saga, fail = Saga("trip", str), Failing(error)

        @saga.neutral()
        async def book(what: str) -> str:
            return what

        @saga.pivot(after=[book])
        def pay(what: str) -> Call[str]:
            fail()
            return Shop.act(what)

        async with opened([saga], shop=Pretend()) as runs:
            run = await runs.start(saga, "a")
            stuck = await run.outcome()
            assert isinstance(stuck, Stuck)
            assert (stuck.step, stuck.reason.partition(":")[0]) == ("pay", "author-error")
            await runs.retry(run.id, reason="mended")
            assert isinstance(await run.outcome(), Completed)
            assert_empty(runs)

    virtually(test)


@EACH
def test_a_notice_that_raises_anything_leaves_the_end_as_it_is(error: BaseException) -> None:
    async def test() -> None:
        saga, fail = Saga("trip", str), Failing(error)

        @saga.retriable()
        async def book(what: str) -> str:
            return what

        @saga.notice
        def note(_what: str, _outcome: object) -> Call[None]:
            fail()
            return Shop.tell("never")

        async with opened([saga], shop=Pretend()) as runs:
            run = await runs.start(saga, "a")
            assert isinstance(await run.outcome(), Completed)
            assert fail.tried == 1
            assert_empty(runs)

    virtually(test)


async def raises(error: BaseException) -> None:
    raise error


async def gives_itself_up(_error: BaseException) -> None:
    cancels_itself()
    await asyncio.sleep(1)


@EACH
@pytest.mark.parametrize("how", [raises, gives_itself_up])
def test_a_transport_that_raises_anything_or_is_cancelled_loses_no_call(
    error: BaseException, how: Callable[[BaseException], Awaitable[None]]
) -> None:
    async def test() -> None:
        failed: list[str] = []

        async def does(call: Outgoing) -> Came:
            if not failed:
                failed.append(call.key)
                await how(error)
            return yes()

        shop = Pretend(does)
        async with opened([saga := order_saga()], shop=shop) as runs:
            run = await runs.start(saga, "a")
            assert isinstance(await run.outcome(), Completed)
            assert shop.keys[:2] == [failed[0]] * 2, "the same call again"
            assert_empty(runs)

    virtually(test)


@pytest.mark.parametrize("before_it_began", [False, True])
def test_a_call_whose_task_is_cancelled_by_others_is_made_again(*, before_it_began: bool) -> None:
    async def test() -> None:
        ended: list[asyncio.Task[None] | None] = []

        def end(ready: Ready) -> None:
            assert ready.begun is not before_it_began
            ended.append(ready.task)
            assert ready.task is not None
            ready.task.cancel()

        async def hangs(_: Outgoing) -> Came:
            if ended:
                return yes()
            ((ready,),) = [each.calls.values() for each in runs.engine.worker.runs.values()]
            end(ready)
            await asyncio.Event().wait()
            raise AssertionError

        shop = Pretend(hangs)
        async with opened([saga := order_saga()], shop=shop) as runs:
            calls = runs.engine.worker.calls
            dispatch = calls._dispatch  # pyright: ignore[reportPrivateUsage] - the moment before a task begins

            def dispatched(ready: Ready) -> None:
                dispatch(ready)
                if before_it_began and not ended:
                    end(ready)

            with mock.patch.object(calls, "_dispatch", dispatched):
                run = await runs.start(saga, "a")
                assert isinstance(await run.outcome(), Completed)
            assert len(ended) == 1
            assert len(shop.sent) == (3 if before_it_began else 4)
            assert_empty(runs)

    virtually(test)


class CancelledWithin(MemoryLog):
    """A log whose driver was cancelled, after it had written."""

    cancelled = 0

    @override
    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        verdicts = await super().append(batch)
        if not self.cancelled:
            self.cancelled += 1
            raise asyncio.CancelledError
        return verdicts


class Miscounting(MemoryLog):
    """A log that gives too few verdicts for two entries."""

    @override
    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        return (await super().append(batch))[:1]


class NeverReleasing(MemoryLog):
    """A log that has a bug."""

    tried = 0

    @override
    async def release(self, run: str, epoch: int, version: int, due_at: int | None) -> bool:
        self.tried += 1
        if self.tried == 1:
            raise KeyError(run)
        return await super().release(run, epoch, version, due_at)


def test_an_append_that_is_cancelled_within_the_log_is_sent_again() -> None:
    async def test() -> None:
        log = CancelledWithin()
        async with opened([saga := order_saga()], log, shop=Pretend()) as runs:
            assert isinstance(await (await runs.start(saga, "a")).outcome(), Completed)
            assert log.cancelled == 1

    virtually(test)


def test_a_log_that_miscounts_is_asked_for_each_entry_alone() -> None:
    async def test() -> None:
        async with opened([saga := order_saga()], Miscounting(), shop=Pretend()) as runs:
            started = await asyncio.gather(*(runs.start(saga, "a", id=f"r{n}") for n in range(3)))
            assert all([isinstance(await run.outcome(), Completed) for run in started])

    virtually(test)


def test_a_run_that_cannot_be_released_goes_on_all_the_same() -> None:
    async def test() -> None:
        log, saga = NeverReleasing(), Saga("later", str)
        patient = Policy(retry=Retry(first=3 * LONG, cap=3 * LONG))

        @saga.retriable(policy=patient)
        def go(what: str) -> Call[str]:
            return Shop.act(what)

        async with opened([saga], MemoryLog(log.store), shop=Pretend(Script(go=[busy()]))) as runs:
            run = await runs.start(saga, "a", id="a")
            await until(lambda: not runs.engine.worker.runs)
        log.store.runs["a"].row = replace(log.store.runs["a"].row, owner="somebody who is gone")
        async with opened([saga], log, shop=Pretend()) as runs:
            await until(lambda: log.tried > 1)
            assert log.store.runs["a"].row.owner is None
            assert isinstance(await runs.get(run.id).outcome(), Completed)
            assert_empty(runs)

    virtually(test)
