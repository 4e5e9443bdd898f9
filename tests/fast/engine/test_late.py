"""A process loses its runs while calls of them are on their way: what is answered then is offered to the log, and never
changes what isn't to be changed.

A second `MemoryLog` on the same store is the process that takes over.
"""

# pyright: reportPrivateUsage=false

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from amends.core.run.answers import CallResponse, Came, Cause, Halt, Outcome, Pending, SaidNo, Succeeded, Unknown
from amends.core.run.commands import Reply
from amends.core.saga.operation import Call
from amends.core.saga.outcomes import Completed, Stuck
from amends.core.saga.saga import Saga
from amends.core.words.errors import AmendsError, LogBroken, LogUnavailable, NoSuchRun, Overloaded
from amends.core.words.keys import Phase
from amends.core.words.reasons import StuckReason
from amends.engine.late import LateAnswers
from amends.logs.memory import MemoryLog, MemoryStore
from amends.orchestrator import Orchestrator
from amends.ports.clock import LOOP_TIMERS
from amends.ports.transport import Outgoing
from tests.fast.engine.support import (
    LOST,
    QUICK,
    Once,
    Plain,
    Pretend,
    Shop,
    no,
    opened,
    order_saga,
    seconds,
    until,
    virtually,
    wide_saga,
    yes,
)

STALE = CallResponse(412, {"content-type": "application/problem+json"}, b'{"type":"urn:amends:stale-epoch"}', "pretend")


class Two:
    """Participants that answer each of two owners when, and what, they are told to."""

    def __init__(self, **by_owner: Callable[[Outgoing], Came]) -> None:
        self.store = MemoryStore()
        self.says = by_owner
        self.takes: dict[str, float] = {}
        """Seconds until the first owner is answered, by step."""
        self.pretend = Pretend(self.answer)
        self.cancelled: list[str] = []

    async def answer(self, call: Outgoing) -> Came:
        owner = "first" if call.epoch == 1 else "second"
        if owner == "first":
            try:
                await asyncio.sleep(self.takes.get(call.step, 0))
            except asyncio.CancelledError:
                self.cancelled.append(call.step)
                raise
        says = self.says.get(owner)
        return yes() if says is None else says(call)

    def events(self, run: str = "o") -> list[str]:
        return [event.kind for event in self.store.runs[run].events]

    def visitors(self, run: str = "o") -> list[str]:
        """What wasn't written by an owner."""
        return [event.kind for event in self.store.runs[run].events if not event.epoch]


@asynccontextmanager
async def overtaken(two: Two, saga: Saga[str]) -> AsyncGenerator[tuple[Orchestrator, Orchestrator]]:
    """A run was started by one process, its first calls are on their way, and another has it now."""
    way = two.pretend
    async with opened([saga], MemoryLog(two.store), shop=way, plain=way, once=way) as first:
        await first.start(saga, "x", id="o")
        await until(lambda: bool(two.pretend.sent))
        async with opened([saga], MemoryLog(two.store), shop=way, plain=way, once=way) as second:
            await until(lambda: two.store.runs["o"].row.epoch == 2)
            yield first, second


def test_an_answer_that_only_the_former_owner_can_hear_settles_the_step() -> None:
    """A call that may be sent once isn't repeated by who takes over: it asks a person, until the answer is there."""
    saga, two = wide_saga(Once.act, names=["a", "b"]), Two()
    two.takes = {"a": 10, "b": 20}

    async def test() -> None:
        async with overtaken(two, saga) as (first, second):
            stuck = await second.get("o").outcome()
            assert isinstance(stuck, Stuck)
            assert stuck.reason.startswith("outcome-unknown")
            await until(lambda: "o" not in first.engine.worker.runs)
            assert 10 <= seconds() < 11, "it learned with the first answer that the run is another's"
            assert not two.cancelled, "the other one is let come back"
            await until(lambda: two.store.runs["o"].row.ended_at is not None)
            assert 20 <= seconds() < 25
            assert isinstance(await second.get("o").outcome(), Completed)

    virtually(test)
    assert two.pretend.counts()["o:a:action"] == two.pretend.counts()["o:b:action"] == 1
    assert [each for each in two.visitors() if each == "ActionSucceeded"] == ["ActionSucceeded"] * 2


@pytest.mark.parametrize("act", [Shop.act, Plain.act], ids=["barrier", "idempotent"])
def test_calls_that_the_new_owner_repeats_are_given_up(act: Callable[[str], Call[str]]) -> None:
    saga, two = wide_saga(act, names=["a", "b"]), Two()
    two.takes = {"a": 1, "b": 50}

    async def test() -> None:
        async with overtaken(two, saga) as (first, second):
            assert isinstance(await second.get("o").outcome(), Completed)
            await until(lambda: "o" not in first.engine.worker.runs)
            await until(lambda: two.cancelled == ["b"])
            assert seconds() < 5

    virtually(test)
    assert not two.visitors(), "what the owner knows already is not written again"


def test_a_no_of_the_former_owner_is_not_believed_where_a_yes_may_have_been_lost() -> None:
    saga = wide_saga(Once.act, names=["a"], policy=QUICK)
    two = Two(first=lambda call: no() if call.step == "a" else yes())
    two.takes = {"a": 10}

    async def test() -> None:
        async with overtaken(two, saga) as (_, second):
            assert isinstance(await second.get("o").outcome(), Stuck)
            await until(lambda: "LateReply" in two.events())
            await asyncio.sleep(60)
            assert isinstance(await second.get("o").outcome(), Stuck)

    virtually(test)
    assert two.visitors() == ["LateReply"]


@pytest.mark.parametrize("came", [LOST, STALE], ids=["time-out", "stale-epoch"])
def test_what_is_no_answer_is_not_offered(came: Came) -> None:
    saga, two = order_saga(), Two(first=lambda _: came)
    two.takes = {"reserve": 10}

    async def test() -> None:
        async with overtaken(two, saga) as (first, second):
            assert isinstance(await second.get("o").outcome(), Completed)
            await until(lambda: "o" not in first.engine.worker.runs)
            await asyncio.sleep(60)

    virtually(test)
    assert not two.visitors()
    assert "Marked" not in two.events()


def test_a_stale_epoch_drops_the_run_of_a_former_owner_and_leaves_no_mark() -> None:
    """Its own row tells it apart: the mark is an append like any other, and the log refuses it."""
    saga = order_saga()
    two = Two(first=lambda _: STALE, second=lambda _: yes())
    two.takes = {"reserve": 3}

    async def slowly(call: Outgoing) -> Came:
        if call.epoch == 2 and call.step == "pay":
            await asyncio.sleep(30)  # the run goes on while the former owner hears of the later one
        return await two.answer(call)

    async def test() -> None:
        two.pretend.does = slowly
        async with overtaken(two, saga) as (first, second):
            await until(lambda: "o" not in first.engine.worker.runs)
            assert two.store.runs["o"].row.ended_at is None, "the second one still drives it"
            assert isinstance(await second.get("o").outcome(), Completed)

    virtually(test)
    assert "Marked" not in two.events()


def test_a_stale_epoch_that_the_owner_itself_is_told_is_for_a_person() -> None:
    saga, shop = order_saga(), Pretend(lambda call: STALE if call.step == "pay" else yes())

    async def test() -> None:
        async with opened([saga], shop=shop) as runs:
            run = await runs.start(saga, "x", id="o")
            outcome = await run.outcome()
            assert isinstance(outcome, Stuck)
            assert outcome.step == "pay"
            assert outcome.reason.startswith("stale-epoch")

    virtually(test)
    assert shop.counts()["o:pay:action"] == 1, "nothing is gained by trying again"


def test_closing_does_not_wait_for_calls_of_lost_runs() -> None:
    saga, two = wide_saga(Once.act, names=["a", "b"]), Two()
    two.takes = {"a": 1, "b": 1_000}

    async def test() -> None:
        way = two.pretend
        async with opened([saga], MemoryLog(two.store), shop=way, once=way) as first:
            await first.start(saga, "x", id="o")
            await until(lambda: len(two.pretend.sent) == 2)
            async with opened([saga], MemoryLog(two.store), shop=way, once=way) as second:
                await until(lambda: two.store.runs["o"].row.epoch == 2)
                await until(lambda: "o" not in first.engine.worker.runs)
                assert len(first.engine.worker.calls.coming_back) == 1
                await first.close(grace_seconds=10)
                assert seconds() < 20
                assert isinstance(await second.get("o").outcome(wait=timedelta(0)), Stuck)
        assert two.cancelled == ["b"]

    virtually(test)


# -- offering


def reply(outcome: Outcome) -> Reply:
    return Reply(1, 1, "a", "", Phase.ACTION, 1, outcome)


YES = reply(Succeeded(b"1"))


class Offering:
    """Takes offers, after it failed as it was told to."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.tried = 0
        self.taken: list[str] = []

    async def __call__(self, run: str, _: Reply) -> None:
        self.tried += 1
        if self.errors:
            raise self.errors.pop(0)
        self.taken.append(run)


@pytest.mark.parametrize(
    "outcome",
    [Pending(), Unknown(Cause.TIMED_OUT, "?"), Halt(StuckReason.STALE_EPOCH, "?")],
    ids=["pending", "unknown", "halt"],
)
def test_only_a_yes_or_a_no_is_offered(outcome: Outcome) -> None:
    async def test() -> None:
        offering = Offering()
        late = LateAnswers(offering, LOOP_TIMERS)
        late.put("o", reply(outcome))
        late.put("p", reply(SaidNo(None, "no")))
        late.put("q", YES)
        await until(lambda: offering.taken == ["p", "q"])
        await late.close()

    virtually(test)


@pytest.mark.parametrize("error", [LogUnavailable("gone"), Overloaded("busy", retry_after=timedelta(seconds=1))])
def test_an_offer_is_made_again_until_the_log_takes_it(error: AmendsError) -> None:
    async def test() -> None:
        offering = Offering(error, error)
        late = LateAnswers(offering, LOOP_TIMERS)
        late.put("o", YES)
        await until(lambda: offering.taken == ["o"])
        assert (offering.tried, 2 <= seconds() < 3) == (3, True)
        await late.close()

    virtually(test)


@pytest.mark.parametrize("error", [NoSuchRun("purged"), ValueError("a bug")])
def test_an_offer_that_cant_be_made_costs_one_answer(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        offering = Offering(error)
        late = LateAnswers(offering, LOOP_TIMERS)
        late.put("o", YES)
        late.put("p", YES)
        await until(lambda: offering.taken == ["p"])
        await late.close()

    virtually(test)
    assert "o: a late answer can't be offered" in caplog.text


def test_nothing_is_offered_to_a_log_that_broke_or_was_closed() -> None:
    async def test() -> None:
        offering = Offering(LogBroken("sync failed"))
        late = LateAnswers(offering, LOOP_TIMERS)
        late.put("o", YES)
        await asyncio.sleep(60)
        assert (offering.tried, offering.taken) == (1, [])
        await late.close()
        late.put("p", YES)
        await asyncio.sleep(60)
        assert offering.tried == 1

    virtually(test)


def test_closing_gives_up_what_waits() -> None:
    async def test() -> None:
        offering = Offering(*[LogUnavailable("gone")] * 100)
        late = LateAnswers(offering, LOOP_TIMERS)
        late.put("o", YES)
        await until(lambda: offering.tried > 1)
        await late.close()
        tried = offering.tried
        with contextlib.suppress(TimeoutError):
            await until(lambda: offering.tried > tried, within=60)
        assert offering.tried == tried

    virtually(test)
