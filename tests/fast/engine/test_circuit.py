"""A participant that is down: nothing is sent to it but trials, nobody is turned back, and all goes on by itself."""

# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import pytest

from amends.core.run.answers import CallResponse, Came, Cause, Halt, Lost, NotSent, SaidNo, Succeeded, Unknown
from amends.core.run.commands import RetryStep as RetryVerb
from amends.core.run.events import RetryAsked, Who
from amends.core.saga.operation import Call, CircuitLimits, Participant, operation
from amends.core.saga.outcomes import Compensated, Completed, Unfinished
from amends.core.saga.saga import Saga
from amends.core.words.errors import Changed, Refused
from amends.core.words.keys import Phase
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import MICROSECONDS, Policy, Retry
from amends.engine.circuit import Circuit, is_outage
from amends.engine.worker import EVICT_AFTER_CROWDED
from amends.orchestrator import Orchestrator
from amends.ports.runs import Run
from amends.ports.transport import Outgoing
from tests.fast.engine.support import (
    LOST,
    UNREACHED,
    Ask,
    Pretend,
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
    yes,
)

LIMITS: Final = CircuitLimits()
OUTAGE_SECONDS: Final = 1_800


def circuit() -> Circuit:
    return Circuit(LIMITS)


def test_it_opens_after_twenty_failures_in_a_row_within_ten_seconds() -> None:
    quick, slow, interrupted = circuit(), circuit(), circuit()
    for number in range(19):
        assert not quick.failed(number * 500_000, "no")
        assert not slow.failed(number * MICROSECONDS, "no")
    assert quick.failed(9_900_000, "503 from x")
    assert (quick.since, quick.detail) == (0, "503 from x")
    assert not slow.failed(19 * MICROSECONDS, "no")
    for number in range(60):
        assert not interrupted.failed(number, "no")
        if number % 19 == 18:
            assert not interrupted.answered()


def test_an_answer_closes_it_and_the_count_begins_anew() -> None:
    one = circuit()
    opened_by = [one.failed(number, "no") for number in range(20)]
    assert opened_by == [False] * 19 + [True]
    assert not one.failed(21, "still")  # open already
    assert one.answered()
    assert not one.is_open
    assert not any(one.failed(100 + number, "no") for number in range(19))


@pytest.mark.parametrize(
    ("cause", "outage"),
    [
        (Cause.NOT_SENT, True),
        (Cause.LOST, True),
        (Cause.TIMED_OUT, True),
        (Cause.SERVER_ERROR, True),
        (Cause.BUSY, False),
        (Cause.IN_PROGRESS, False),
        (Cause.MISROUTED, False),
        (Cause.UNREADABLE, False),
        (Cause.RAISED, False),
    ],
)
def test_only_nobody_there_counts_as_a_failure(cause: Cause, outage: bool) -> None:
    assert is_outage(Unknown(cause, "x")) is outage
    for answer in (Succeeded(b"1"), SaidNo(None, "no"), Halt(StuckReason.PROTOCOL, "x")):
        assert not is_outage(answer)


def test_limits_without_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="CircuitLimits"):
        CircuitLimits(failures=0)
    with pytest.raises(ValueError, match="CircuitLimits"):
        CircuitLimits(within=timedelta())
    with pytest.raises(ValueError, match="CircuitLimits"):
        CircuitLimits(probe_every=timedelta(seconds=-1))


class Well(Participant):
    act = operation(Ask, str, compensation="undo")


class Down:
    """Down until told otherwise; what arrives meanwhile is counted."""

    def __init__(self, came: Came = UNREACHED, *, seconds_long: float = OUTAGE_SECONDS) -> None:
        self.came = came
        self.until = seconds_long
        self.turned_away: list[tuple[str, float]] = []

    def __call__(self, call: Outgoing) -> Came:
        if seconds() >= self.until:
            return yes()
        self.turned_away.append((call.key, seconds()))
        return self.came


@pytest.mark.parametrize("came", [UNREACHED, LOST, busy()])
def test_an_outage_before_the_pivot_turns_nobody_back(came: Came) -> None:
    order, down = order_saga(), Down(came)
    log, shop = SlowLog(append_seconds=0), Pretend(down)

    async def test() -> None:
        async with opened([order], log, shop=shop) as runs:
            started = [await runs.start(order, "x", id=f"o{number}") for number in range(30)]
            await asyncio.sleep(60)
            (standing,) = runs.engine.participants()
            assert standing.down_since is not None
            assert standing.waiting + len([each for each in runs.engine.worker.runs.values() if not each.calls]) >= 29
            assert [await each.outcome(wait=timedelta(0)) for each in started] == [
                Unfinished(each.id, "running", ("reserve",)) for each in started
            ]
            assert {type(await each.outcome()) for each in started} == {Completed}
            assert seconds() < OUTAGE_SECONDS + 6, "those between two attempts are called early too"
            assert runs.engine.participants()[0].down_since is None
            assert_empty(runs)
            assert not runs.engine.worker.calls.outages.trials

    virtually(test)
    late = [at for _, at in down.turned_away if at > 60]
    assert 300 < len(late) <= (OUTAGE_SECONDS - 60) / 5 + 1, "one trial every five seconds, and nothing else"


def test_a_held_call_uses_up_no_attempt_and_a_trial_neither() -> None:
    order, down = order_saga(policy=Policy(retry=Retry(attempts_max=5))), Down()
    log, shop = SlowLog(append_seconds=0), Pretend(down)

    async def test() -> None:
        async with opened([order], log, shop=shop) as runs:
            started = [await runs.start(order, "x", id=f"o{number}") for number in range(20)]
            assert {type(await each.outcome()) for each in started} == {Completed}

    virtually(test)
    tried = {key: len([each for each, _ in down.turned_away if each == key]) for key, _ in down.turned_away}
    assert max(tried.values()) > 5, "more trials than the budget has attempts"


def test_few_failures_are_the_policys_business_alone() -> None:
    order, shop = order_saga(), Pretend(Down())

    async def test() -> None:
        async with opened([order], shop=shop) as runs:
            assert isinstance(await (await runs.start(order, "x")).outcome(), Compensated)
            assert runs.engine.participants()[0].down_since is None

    virtually(test)


def test_compensations_are_tried_before_new_actions() -> None:
    order = order_saga()
    falls_at, back_at = 1.0, 100.0
    refused: list[tuple[float, Phase]] = []

    async def does(call: Outgoing) -> Came:
        if call.step == "pay":
            await asyncio.sleep(2)
            return no()
        if falls_at <= seconds() < back_at:
            refused.append((seconds(), call.phase))
            return UNREACHED
        return yes()

    async def test() -> None:
        async with opened([order], shop=Pretend(does)) as runs:
            early = [await runs.start(order, "x") for _ in range(30)]
            await asyncio.sleep(1.5)
            late = [await runs.start(order, "x") for _ in range(30)]
            await until(lambda: runs.engine.participants()[0].down_since is not None)
            assert {type(await each.outcome()) for each in [*early, *late]} == {Compensated}

    virtually(test)
    trials = [phase for at, phase in refused if at > 30]
    assert trials[:10] == [Phase.COMPENSATION] * 10
    assert Phase.ACTION in {phase for _, phase in refused}, "actions waited too"


def test_an_outage_keeps_no_other_run_from_memory() -> None:
    """More runs wait for who is down than memory has places, and others run all the same."""
    waiting = order_saga("waiting")
    fell: list[str] = []

    def does(call: Outgoing) -> Came:
        if call.run.startswith("w") and seconds() < OUTAGE_SECONDS:
            fell.append(call.key)
            return UNREACHED
        return yes()

    fine = Saga("fine", str)

    @fine.compensable()
    def first(what: str) -> Call[str]:
        return Well.act(what)

    async def test() -> None:
        async with opened([waiting, fine], shop=Pretend(does), well=Pretend(), runs_max=20) as runs:
            held = [await runs.start(waiting, "x", id=f"w{number}") for number in range(60)]
            await until(lambda: runs.engine.participants()[0].down_since is not None)
            await asyncio.sleep(30)
            began = seconds()
            for number in range(50):
                run = await runs.start(fine, "x", id=f"f{number}")
                assert isinstance(await run.outcome(wait=timedelta(minutes=2)), Completed)
            assert seconds() - began < 50 * 2 * EVICT_AFTER_CROWDED / MICROSECONDS
            outcomes = [await each.outcome() for each in held]
            assert all(isinstance(each, Completed) for each in outcomes)
            assert_empty(runs)

    virtually(test)
    assert len(fell) >= 20


def test_cancel_withdraws_a_held_call() -> None:
    order, down = order_saga(), Down()
    shop = Pretend(down)

    async def test() -> None:
        async with opened([order], shop=shop) as runs:
            for number in range(25):
                await runs.start(order, "x", id=f"o{number}")
            await until(lambda: runs.engine.participants()[0].down_since is not None)
            run = await runs.start(order, "x", id="late")
            await runs.cancel("late", reason="changed my mind")
            assert isinstance(await run.outcome(wait=timedelta(seconds=1)), Compensated)
            assert not [key for key in shop.keys if key.startswith("late:")]

    virtually(test)


def test_closing_ends_the_trials() -> None:
    order = order_saga()

    async def test() -> None:
        async with opened([order], shop=Pretend(Down())) as runs:
            for number in range(25):
                await runs.start(order, "x", id=f"o{number}")
            await until(lambda: runs.engine.participants()[0].down_since is not None)
            engine = runs.engine
        assert all(timer.cancelled() for timer in engine.worker.calls.outages.trials.values())  # type: ignore[attr-defined]  # the loop's

    virtually(test)


def test_what_the_answers_were_is_told() -> None:
    order = order_saga()
    shop = Pretend(lambda _: CallResponse(503, {}, b"", "http://inventory:8001/saga/reserve"))

    async def test() -> None:
        async with opened([order], shop=shop) as runs:
            for number in range(25):
                await runs.start(order, "x", id=f"o{number}")
            await until(lambda: runs.engine.participants()[0].down_since is not None)
            assert runs.engine.participants()[0].detail == "503 from http://inventory:8001/saga/reserve"

    virtually(test)
    assert isinstance(UNREACHED, NotSent)
    assert isinstance(LOST, Lost)


def loose_saga() -> Saga[str]:
    """`reserve`, whose reply nobody reads, then `pay`."""
    saga = Saga("loose", str)

    @saga.compensable(policy=Policy(retry=Retry(attempts_max=1)))
    def reserve(what: str) -> Call[str]:
        return Shop.act(what)

    @saga.pivot(after=[reserve])
    def pay(what: str) -> Call[str]:
        return Shop.act(what)

    return saga


HELD: Final = "late:reserve:action"


async def hold_a_call(runs: Orchestrator, saga: Saga[str]) -> Run:
    """Start runs until their participant is taken for down, and one more, whose call is held."""
    for number in range(25):
        await runs.start(saga, "x", id=f"o{number}")
    await until(lambda: runs.engine.participants()[0].down_since is not None)
    late = await runs.start(saga, "x", id="late")
    await until(lambda: bool(runs.engine.worker.runs["late"].held))
    return late


def test_retry_sends_a_held_call_now_as_a_trial_that_uses_up_nothing() -> None:
    saga, down = loose_saga(), Down()
    shop = Pretend(down)

    def made(number: int) -> Callable[[], bool]:
        return lambda: len(shop.times(HELD)) == number

    async def test() -> None:
        async with opened([saga], shop=shop) as runs:
            late = await hold_a_call(runs, saga)
            assert not shop.times(HELD)
            for number in (1, 2, 3):
                asked_at = seconds()
                await runs.retry("late", step=saga.steps[0], reason="I think it is back")
                await until(made(number))
                assert seconds() - asked_at < 0.1
                await asyncio.sleep(0.1)
            _, _, record = await runs.engine.read("late")
            item = record.item("reserve", "")
            assert item is not None
            assert item.action is not None
            assert (item.action.sends, item.action.attempts) == (3, 0), "not even the one attempt it has is used"
            assert runs.engine.participants()[0].down_since is not None
            down.until = 0
            await runs.retry("late", step=saga.steps[0], reason="now it is")
            await asyncio.sleep(0.1)
            assert runs.engine.participants()[0].down_since is None, "the person's call closed the circuit"
            assert isinstance(await late.outcome(), Completed)

    virtually(test)


def test_retry_of_a_held_call_holds_for_a_version_and_is_shown_beforehand() -> None:
    saga, shop = loose_saga(), Pretend(Down())

    def ask(at: int, epoch: int) -> RetryVerb:
        return RetryVerb(at, epoch, Who("op", "I think it is back"), "reserve")

    async def test() -> None:
        async with opened([saga], shop=shop) as runs:
            await hold_a_call(runs, saga)
            preview = await runs.engine.preview("late", ask)
            assert [type(each) for each in preview.events] == [RetryAsked]
            with pytest.raises(Changed):
                await runs.engine.steer("late", ask, expected=preview.version + 1)
            assert not shop.times(HELD)
            await runs.engine.steer("late", ask, expected=preview.version)
            await until(lambda: len(shop.times(HELD)) == 1)
            with pytest.raises(Changed):
                await runs.engine.steer("late", ask, expected=preview.version)

    virtually(test)


def test_retry_of_a_call_that_has_left_is_refused_all_the_same() -> None:
    saga = loose_saga()

    async def slow(_: Outgoing) -> Came:
        await asyncio.sleep(4)
        return yes()

    async def test() -> None:
        async with opened([saga], shop=Pretend(slow)) as runs:
            await runs.start(saga, "x", id="late")
            with pytest.raises(Refused, match="in flight"):
                await runs.retry("late", step=saga.steps[0], reason="hurry up")

    virtually(test)


@pytest.mark.parametrize("verb", ["resolve", "skip"])
def test_a_held_call_that_a_person_settles_does_not_leave_while_that_is_written(verb: str) -> None:
    saga, down = loose_saga(), Down()
    log, shop = SlowLog(append_seconds=0), Pretend(down)

    async def test() -> None:
        async with opened([saga], log, shop=shop) as runs:
            late = await hold_a_call(runs, saga)
            log.append_seconds, down.until = 7, 0  # the next trial finds it back while the verb is being written
            if verb == "resolve":
                await runs.resolve("late", saga.steps[0], "succeeded", reply="seen", reason="I looked")
            else:
                await runs.skip("late", saga.steps[0], reason="never mind")
            assert runs.engine.participants()[0].down_since is None, "the others were let through meanwhile"
            assert isinstance(await late.outcome(), Completed)

    virtually(test)
    assert "late:pay:action" in shop.keys
    assert HELD not in shop.keys


def test_retry_reaches_who_is_down_also_from_a_run_that_made_room() -> None:
    """It waits in the log, where an attempt of it is open that never left; whoever claims it sends it at once."""
    saga, shop = order_saga(), Pretend(Down())

    async def released(runs: Orchestrator, run: str) -> bool:
        row, _, record = await runs.engine.read(run)
        item = record.item("reserve", "")
        assert item is not None
        assert item.action is not None
        return row.owner is None and item.action.is_open

    async def test() -> None:
        async with opened([saga], shop=shop, runs_max=20) as runs:
            for number in range(60):
                await runs.start(saga, "x", id=f"o{number}")
            await until(lambda: runs.engine.participants()[0].down_since is not None)
            await asyncio.sleep(300)
            waiting = [run for number in range(60) if await released(runs, run := f"o{number}")]
            key = f"{waiting[0]}:reserve:action"
            before, asked_at = shop.times(key), seconds()
            await runs.retry(waiting[0], step=saga.steps[0], reason="I think it is back")
            await until(lambda: shop.times(key) != before)
            assert seconds() - asked_at < 2.0
            assert runs.engine.participants()[0].down_since is not None

    virtually(test)


def test_what_people_ask_for_waits_for_a_slot_like_all_others() -> None:
    saga = loose_saga()

    async def slow(_: Outgoing) -> Came:
        await asyncio.sleep(4)
        return UNREACHED

    shop = Pretend(slow)

    async def test() -> None:
        async with opened([saga], shop=shop, at_once=3) as runs:
            for number in range(25):
                await runs.start(saga, "x", id=f"o{number}")
            for number in range(24, 14, -1):
                await runs.retry(f"o{number}", step=saga.steps[0], reason="this one first")
            await until(lambda: len(shop.sent) >= 6)

    virtually(test)
    assert shop.most == 3
    assert {each.key for each in shop.sent[3:6]} == {f"o{number}:reserve:action" for number in (24, 23, 22)}


def test_the_call_that_closes_a_circuit_is_sent_once() -> None:
    """Its run's record still owes it while the runs that wait are looked at."""
    order, down = order_saga(), Down(seconds_long=100)
    shop = Pretend(down)

    async def test() -> None:
        async with opened([order], SlowLog(append_seconds=0.5), shop=shop, at_once=30) as runs:
            started = [await runs.start(order, "x", id=f"o{number}") for number in range(25)]
            assert {type(await each.outcome()) for each in started} == {Completed}

    virtually(test)
    assert down.turned_away, "there was an outage"
    answered = [each.key for each in shop.sent if each.at >= down.until]
    assert sorted(answered) == sorted(set(answered))


def test_a_wait_that_the_participant_asked_for_outlasts_the_outage() -> None:
    """The circuit closes after 20 s. Calls whose answer named no time leave then, those told `Retry-After` don't."""
    order = order_saga()
    told_to_wait = {f"o{number}:reserve:action" for number in range(12)}

    def does(call: Outgoing) -> Came:
        if seconds() < 20:
            return busy("50") if call.key in told_to_wait else UNREACHED
        return yes()

    shop = Pretend(does)

    async def test() -> None:
        async with opened([order], SlowLog(append_seconds=0), shop=shop) as runs:
            started = [await runs.start(order, "x", id=f"o{number}") for number in range(24)]
            await until(lambda: runs.engine.participants()[0].down_since is not None)
            assert {type(await each.outcome()) for each in started} == {Completed}

    virtually(test)
    for number in range(24):
        key = f"o{number}:reserve:action"
        times = shop.times(key)
        assert (times[-1] - times[0] >= 50) if key in told_to_wait else times[-1] < 30
