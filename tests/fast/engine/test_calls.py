"""Calls: tried again as the policy says, so many at a time, taken back while they can be."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pytest

from amends.core.run.answers import Came
from amends.core.saga.operation import Call
from amends.core.saga.outcomes import Compensated, Completed, Stuck
from amends.core.saga.saga import Saga
from amends.core.words.keys import Phase, make_key
from amends.core.words.retry import MICROSECONDS, Patience, Policy, Retry, delay
from amends.logs.memory import MemoryStore
from amends.ports.transport import Outgoing
from tests.fast.engine.support import (
    LOST,
    UNREACHED,
    Once,
    Plain,
    Pretend,
    Script,
    Shop,
    SlowLog,
    assert_empty,
    busy,
    no,
    opened,
    order_saga,
    seconds,
    until,
    virtually,
    wide_saga,
    yes,
)

SHOP, PLAIN, ONCE = Shop.act, Plain.act, Once.act


def test_the_waits_between_attempts_are_those_of_the_policy_and_the_key() -> None:
    policy = Policy(retry=Retry(attempts_max=5, first=timedelta(seconds=2), cap=timedelta(seconds=10)))
    order, shop = order_saga(policy=policy), Pretend(Script(reserve=[LOST, busy(), LOST, LOST, yes()]))

    async def test() -> None:
        async with opened([order], SlowLog(append_seconds=0), shop=shop) as runs:
            assert isinstance(await (await runs.start(order, "x", id="o")).outcome(), Completed)

    virtually(test)
    key = make_key("o", "reserve", "", Phase.ACTION)
    patience = Patience(5, 10**12, 2 * MICROSECONDS, 10 * MICROSECONDS)
    at = shop.times(key)
    waits = [later - earlier for earlier, later in pairwise(at)]
    assert waits == pytest.approx([delay(patience, key, n) / MICROSECONDS for n in range(1, 5)], abs=0.05)
    assert [sent.attempt for sent in shop.sent if sent.key == key] == [1, 2, 3, 4, 5]
    assert len({sent.body for sent in shop.sent if sent.key == key}) == 1


def test_a_participant_that_asks_for_patience_gets_it() -> None:
    order, shop = order_saga(), Pretend(Script(reserve=[busy("120"), yes()]))

    async def test() -> None:
        async with opened([order], shop=shop) as runs:
            assert isinstance(await (await runs.start(order, "x", id="o")).outcome(), Completed)

    virtually(test)
    first, second = shop.times("o:reserve:action")
    assert second - first == pytest.approx(120, abs=2)


def test_attempts_are_bounded_and_then_the_run_turns_back() -> None:
    policy = Policy(retry=Retry(attempts_max=3))
    order, shop = order_saga(policy=policy), Pretend(Script(reserve=LOST))

    async def test() -> None:
        async with opened([order], shop=shop) as runs:
            assert isinstance(await (await runs.start(order, "x", id="o")).outcome(), Compensated)
            assert_empty(runs)

    virtually(test)
    assert shop.counts() == {"o:reserve:action": 3, "o:reserve:compensation": 1}


def test_trying_ends_when_its_time_is_over() -> None:
    policy = Policy(retry=Retry(attempts_max=None, give_up_after=timedelta(minutes=5), cap=timedelta(seconds=20)))
    order, shop = order_saga(policy=policy), Pretend(Script(reserve=LOST))

    async def test() -> None:
        async with opened([order], shop=shop) as runs:
            assert isinstance(await (await runs.start(order, "x", id="o")).outcome(), Compensated)
            assert 250 < seconds() < 301

    virtually(test)
    assert shop.counts()["o:reserve:action"] > 10


def test_a_call_is_given_its_time_out() -> None:
    order = order_saga(policy=Policy(timeout=timedelta(seconds=7)))
    given: list[float] = []

    def does(call: Outgoing) -> Came:
        given.append(call.timeout_seconds)
        return yes()

    async def test() -> None:
        async with opened([order], shop=Pretend(does)) as runs:
            await (await runs.start(order, "x")).outcome()

    virtually(test)
    assert given == [7.0, 7.0, 7.0]


def test_no_more_calls_are_in_flight_than_the_participant_allows() -> None:
    order = order_saga()

    async def slowly(call: Outgoing) -> Came:
        await asyncio.sleep(0.5)
        return yes()

    shop = Pretend(slowly)

    async def test() -> None:
        async with opened([order], shop=shop, at_once=3) as runs:
            started = await asyncio.gather(*(runs.start(order, "x", id=f"o{i}") for i in range(20)))
            outcomes = [await run.outcome() for run in started]
            assert all(isinstance(each, Completed) for each in outcomes)
            assert_empty(runs)

    virtually(test)
    assert shop.most == 3


def test_compensations_go_before_actions_in_the_queue() -> None:
    """One call at a time: while it is out, one run is turned back and others begin; the undo leaves first."""
    order = order_saga()
    gate: dict[str, asyncio.Event] = {}

    async def gated(call: Outgoing) -> Came:
        if call.key == "first:pay:action":
            await gate["pay"].wait()
            return no()
        await asyncio.sleep(0.1)
        return yes()

    shop = Pretend(gated)

    async def test() -> None:
        gate["pay"] = asyncio.Event()
        async with opened([order], shop=shop, at_once=1) as runs:
            first = await runs.start(order, "x", id="first")
            await until(lambda: "first:pay:action" in shop.keys)
            others = [await runs.start(order, "x", id=f"other{i}") for i in range(5)]
            gate["pay"].set()
            assert isinstance(await first.outcome(), Compensated)
            for run in others:
                await run.outcome()

    virtually(test)
    at = shop.keys.index("first:pay:action")
    # The queue's head has taken the slot by the time the no is decided; everything else is overtaken.
    assert "first:reserve:compensation" in shop.keys[at + 1 : at + 3]


@pytest.mark.parametrize("act", [SHOP, PLAIN, ONCE], ids=["barrier", "idempotent", "once"])
def test_calls_that_wait_in_the_queue_when_the_run_turns_back_are_never_sent(act: Callable[[str], Call[str]]) -> None:
    names = [f"s{i}" for i in range(8)]
    wide = wide_saga(act, names=names)
    gate: dict[str, asyncio.Event] = {}

    async def gated(call: Outgoing) -> Came:
        if call.phase is Phase.ACTION:
            await gate["go"].wait()
            return no()
        return yes()

    shop = Pretend(gated)

    async def test() -> None:
        gate["go"] = asyncio.Event()
        async with opened([wide], SlowLog(), shop=shop, plain=shop, once=shop, at_once=2) as runs:
            run = await runs.start(wide, "x", id="w")
            await until(lambda: len(shop.sent) == 2)
            await runs.cancel("w", reason="changed my mind")
            gate["go"].set()
            assert isinstance(await run.outcome(), Compensated)
            assert_empty(runs)

    virtually(test)
    assert [key for key in shop.keys if key.endswith(":action")] == ["w:s0:action", "w:s1:action"]


@pytest.mark.parametrize("meanwhile", [False, True], ids=["answered later", "answered while turning back"])
@pytest.mark.parametrize("act", [PLAIN, ONCE], ids=["idempotent", "once"])
def test_items_that_wait_in_the_queue_when_the_run_turns_back_are_never_sent(
    act: Callable[[str], Call[str]], *, meanwhile: bool
) -> None:
    """Each of them needs a fact of its own in the log before it leaves; a slot given back must not start the next."""
    saga = Saga("items", str)
    gate: dict[str, asyncio.Event] = {}

    @saga.compensable()
    def each(what: str) -> dict[str, Call[str]]:
        return {str(i): act(what) for i in range(6)}

    async def gated(call: Outgoing) -> Came:
        await gate["go"].wait()
        return yes()

    pretend = Pretend(gated)

    async def test() -> None:
        gate["go"] = asyncio.Event()
        async with opened([saga], SlowLog(), plain=pretend, once=pretend, at_once=1) as runs:
            run = await runs.start(saga, "x", id="i")
            await until(lambda: len(pretend.sent) == 1)
            cancelling = asyncio.create_task(runs.cancel("i", reason="no"))
            await asyncio.sleep(0.001 if meanwhile else 1)
            assert cancelling.done() is not meanwhile
            gate["go"].set()
            await cancelling
            assert isinstance(await run.outcome(), Compensated)
            assert_empty(runs)

    virtually(test)
    assert pretend.keys == ["i:each/0:action", "i:each/0:compensation"]


def test_an_action_that_was_requested_with_the_turn_back_itself_is_never_sent() -> None:
    """Two answers in one append: one frees a step, the other turns the run back."""
    saga = Saga("fork", str)
    gate: dict[str, asyncio.Event] = {}

    @saga.compensable()
    def left(what: str) -> Call[str]:
        return Shop.act(what)

    @saga.compensable()
    def right(what: str) -> Call[str]:
        return Shop.act(what)

    @saga.compensable()
    def early(what: str) -> Call[str]:
        return Shop.act(what)

    @saga.compensable(left)
    def then(what: str, done: str) -> Call[str]:
        return Shop.act(what)

    async def gated(call: Outgoing) -> Came:
        if call.phase is Phase.COMPENSATION or call.step == "early":
            return yes()
        await gate["go"].wait()
        return no() if call.step == "right" else yes()

    shop, log = Pretend(gated), SlowLog()

    async def test() -> None:
        gate["go"] = asyncio.Event()
        async with opened([saga], log, shop=shop) as runs:
            run = await runs.start(saga, "x", id="f")
            await until(lambda: bool(log.appending) and len(shop.sent) == 3)  # `early` is being written
            gate["go"].set()
            assert isinstance(await run.outcome(), Compensated)
            assert_empty(runs)

    virtually(test)
    assert "f:then:action" not in shop.keys
    assert log.kinds("f").count("ActionRequested") == 4, "it was requested: or this tests nothing"


def test_a_queued_pivot_without_a_barrier_that_is_cancelled_is_never_sent() -> None:
    saga, other = Saga("s", str), order_saga()
    gate: dict[str, asyncio.Event] = {}

    @saga.pivot()
    def pay(what: str) -> Call[str]:
        return Plain.act(what)

    busy_one = Saga("busy", str)

    @busy_one.pivot()
    def hold(what: str) -> Call[str]:
        return Plain.act(what)

    async def gated(call: Outgoing) -> Came:
        await gate["go"].wait()
        return yes()

    plain = Pretend(gated)

    async def test() -> None:
        gate["go"] = asyncio.Event()
        async with opened([saga, busy_one, other], SlowLog(), plain=plain, shop=Pretend(), at_once=1) as runs:
            holder = await runs.start(busy_one, "x", id="h")
            await until(lambda: len(plain.sent) == 1)
            run = await runs.start(saga, "x", id="p")
            await runs.cancel("p", reason="no")
            assert isinstance(await run.outcome(), Compensated)
            gate["go"].set()
            assert isinstance(await holder.outcome(), Completed)
            assert_empty(runs)

    virtually(test)
    assert plain.keys == ["h:hold:action"]


class Bug(Exception):
    pass


@pytest.mark.parametrize("error", [Bug("oops"), asyncio.CancelledError()], ids=["exception", "cancelled"])
def test_a_transport_that_raises_what_it_must_not_loses_no_call(error: BaseException) -> None:
    raised: list[str] = []

    def does(call: Outgoing) -> Came:
        if call.step == "reserve" and not raised:
            raised.append(call.key)
            raise error
        return yes()

    order, shop = order_saga(), Pretend(does)

    async def test() -> None:
        async with opened([order], shop=shop) as runs:
            assert isinstance(await (await runs.start(order, "x", id="o")).outcome(), Completed)
            assert_empty(runs)

    virtually(test)
    assert raised
    assert shop.counts()["o:reserve:action"] == 2


def test_a_call_that_was_never_sent_in_all_its_attempts_compensates_nothing() -> None:
    order = order_saga(policy=Policy(retry=Retry(attempts_max=2)))
    shop = Pretend(Script(reserve=UNREACHED))

    async def test() -> None:
        async with opened([order], shop=shop) as runs:
            outcome = await (await runs.start(order, "x", id="o")).outcome()
            assert str(outcome) == "compensated  reserve could not be reached: nobody there"

    virtually(test)
    assert shop.counts() == {"o:reserve:action": 2}


def test_a_participant_without_a_route_that_turns_up_later_keeps_the_run_waiting() -> None:
    saga = Saga("s", str)

    @saga.retriable()
    def tell(what: str) -> Call[None]:
        return Shop.tell(what)

    async def test() -> None:
        async with opened([saga], plain=Pretend()) as runs:
            run = await runs.start(saga, "x", id="o")
            assert not isinstance(await run.outcome(wait=timedelta(seconds=30)), (Completed, Stuck))

    with pytest.raises(Exception, match="no route for Shop"):
        virtually(test)


def test_a_run_that_ends_while_a_question_of_it_still_queues_is_let_go_of() -> None:
    wide, store, shop = wide_saga(names=["a"]), MemoryStore(), Pretend()

    async def slowly(call: Outgoing) -> Came:
        await asyncio.sleep({"o:pay:action": 2, "p:pay:action": 3, "p:pay:seal": 4}.get(call.key, 0))
        return yes()

    async def test() -> None:
        shop.does = slowly
        async with opened([wide], SlowLog(store), shop=shop) as runs:
            for each in "op":
                await runs.start(wide, "x", id=each)
            await until(lambda: {"o:pay:action", "p:pay:action"} <= set(shop.keys))
            await runs.engine.close(grace_seconds=0)
        async with opened([wide], SlowLog(store), shop=shop, at_once=2) as runs:
            await until(lambda: shop.counts()["p:pay:action"] == 2)
            for each in "po":  # both pivots are to be sealed, and the place of the first call goes to the seal of `p`
                await runs.cancel(each, reason="enough")
            outcomes = [await runs.get(each).outcome() for each in "op"]
            assert all(isinstance(each, Completed) for each in outcomes)
            await asyncio.sleep(60)
            assert_empty(runs)

    virtually(test)
    assert "p:pay:seal" in shop.keys
    assert "o:pay:seal" not in shop.keys
    assert {kept.row.owner for kept in store.runs.values()} == {None}
