"""What people may do to a run, whether it is in memory or waits in the log; and what they hear of it."""

# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TypeAlias

import pytest
from typing_extensions import override

from amends.core.run.answers import Came
from amends.core.saga.operation import Call
from amends.core.saga.outcomes import Abandoned, Compensated, Completed, Stuck, Unfinished
from amends.core.saga.saga import Saga
from amends.core.words.errors import AmendsError, InputInvalid, NoSuchRun, PastPivot, Refused
from amends.core.words.retry import Policy, Retry
from amends.logs.memory import MemoryLog
from amends.orchestrator import Orchestrator
from amends.ports.log import SagaKey, StoredRun
from amends.ports.transport import Outgoing
from tests.fast.engine.support import (
    LOST,
    Pretend,
    Script,
    Shop,
    SlowLog,
    assert_empty,
    busy,
    no,
    opened,
    order_saga,
    until,
    virtually,
    yes,
)

ONE_TRY = Policy(retry=Retry(attempts_max=1), on_unknown="stuck")

Verb: TypeAlias = Callable[[Orchestrator, Saga[str]], Awaitable[None]]


def stuck_saga() -> Saga[str]:
    """Stuck at `reserve` when its answer is lost."""
    saga = Saga("fragile", str)

    @saga.compensable(policy=ONE_TRY)
    def reserve(what: str) -> Call[str]:
        return Shop.act(what)

    @saga.pivot(after=[reserve])
    def pay(what: str) -> Call[str]:
        return Shop.act(what)

    return saga


async def retry(runs: Orchestrator, saga: Saga[str]) -> None:
    await runs.retry("f", reason="it is back")


async def resolve(runs: Orchestrator, saga: Saga[str]) -> None:
    await runs.resolve("f", saga.steps[0], "succeeded", reply="seen", reason="I looked")


async def skip(runs: Orchestrator, saga: Saga[str]) -> None:
    await runs.skip("f", saga.steps[0], reason="never mind")


async def abandon(runs: Orchestrator, saga: Saga[str]) -> None:
    await runs.abandon("f", reason="enough")


async def compensate(runs: Orchestrator, saga: Saga[str]) -> None:
    await runs.compensate("f", reason="undo it")


@pytest.mark.parametrize(
    ("verb", "ends"),
    [
        (retry, "completed    reserve, pay"),
        (resolve, "completed    reserve, pay, by hand"),
        (skip, "completed    pay, by hand"),
        (abandon, "abandoned    by embedded: enough"),
        (compensate, "compensated  cancelled: undo it; undone: reserve"),
    ],
    ids=["retry", "resolve", "skip", "abandon", "compensate"],
)
@pytest.mark.parametrize("where", ["in the log", "reopened", "in memory"])
def test_a_stuck_run_is_moved_by_a_person(verb: Verb, ends: str, where: str) -> None:
    saga, log = stuck_saga(), SlowLog()

    async def test() -> None:
        shop = Pretend(Script(reserve=[LOST, yes()]))
        async with opened([saga], log, shop=shop) as runs:
            run = await runs.start(saga, "x", id="f")
            outcome = await run.outcome()
            assert str(outcome) == "stuck        reserve, action: outcome-unknown: no answer"
            if where == "in memory":
                definition = next(iter(runs.engine.definitions))
                (claimed,) = await _claim_by_hand(runs, log, definition)
                assert claimed in runs.engine.worker.runs
            elif where == "in the log":
                await until(lambda: not runs.engine.worker.runs, within=2)
                assert log.store.runs["f"].row.due_at is None
            else:
                shop = Pretend()
            if where != "reopened":
                await verb(runs, saga)
                assert str(await run.outcome(wait=timedelta(seconds=5))) == ends
                await until(lambda: not runs.engine.worker.runs, within=5)
                assert_empty(runs)
                return
        async with opened([saga], log, shop=shop) as runs:
            await verb(runs, saga)
            assert str(await runs.get("f").outcome(wait=timedelta(seconds=5))) == ends
            await until(lambda: not runs.engine.worker.runs, within=5)
            assert_empty(runs)

    async def _claim_by_hand(runs: Orchestrator, log: SlowLog, key: SagaKey) -> list[str]:
        """Put it in memory, and keep it there for as long as its release takes."""
        await until(lambda: not runs.engine.worker.runs, within=2)
        row = log.store.runs["f"]
        row.row = _owned_by_nobody_alive(row.row)
        runs.engine._claims.look()
        log.release_seconds = 1.0
        await until(lambda: "f" in runs.engine.worker.runs, within=2)
        return list(runs.engine.worker.runs)

    virtually(test)


def _owned_by_nobody_alive(row: StoredRun) -> StoredRun:
    return replace(row, owner="somebody who is gone")


def test_cancel_before_the_pivot_turns_the_run_back() -> None:
    order = order_saga()
    gate: dict[str, asyncio.Event] = {}

    async def gated(call: Outgoing) -> Came:
        if call.key == "o:reserve:action":
            await gate["go"].wait()
        return yes()

    shop = Pretend(gated)

    async def test() -> None:
        gate["go"] = asyncio.Event()
        async with opened([order], SlowLog(), shop=shop) as runs:
            run = await runs.start(order, "x", id="o")
            await until(lambda: bool(shop.sent))
            await runs.cancel("o", reason="changed my mind")
            gate["go"].set()
            assert str(await run.outcome()) == "compensated  cancelled: changed my mind; undone: reserve"
            await runs.cancel("o", reason="again")  # it is turned back: nothing to refuse
            assert_empty(runs)

    virtually(test)
    assert shop.keys == ["o:reserve:action", "o:reserve:compensation"]


def test_cancel_past_the_pivot_is_refused() -> None:
    order = order_saga()

    async def test() -> None:
        async with opened([order], SlowLog(), shop=Pretend(Script(ship=[LOST, yes()]))) as runs:
            run = await runs.start(order, "x", id="o")
            await asyncio.sleep(0.2)
            with pytest.raises(PastPivot):
                await runs.cancel("o", reason="too late")
            assert isinstance(await run.outcome(), Completed)
            with pytest.raises(PastPivot):
                await runs.cancel("o", reason="much too late")

    virtually(test)


def test_a_refusal_says_why_and_changes_nothing() -> None:
    order, log = order_saga(), SlowLog()

    async def test() -> None:
        async with opened([order], log, shop=Pretend()) as runs:
            await (await runs.start(order, "x", id="o")).outcome()
            before = log.kinds("o")
            with pytest.raises(Refused) as refused:
                await runs.abandon("o", reason="why not")
            assert refused.value.problem == "ended"
            with pytest.raises(Refused):
                await runs.retry("o", reason="why not")
            assert log.kinds("o") == before

    virtually(test)


@pytest.mark.parametrize("reason", ["", "x" * 1_001], ids=["none", "too long"])
def test_a_verb_needs_a_reason_that_can_be_shown(reason: str) -> None:
    saga = stuck_saga()

    async def test() -> None:
        async with opened([saga], shop=Pretend(Script(reserve=LOST))) as runs:
            await (await runs.start(saga, "x", id="f")).outcome()
            with pytest.raises(InputInvalid) as invalid:
                await runs.abandon("f", reason=reason)
            assert invalid.value.path == "reason"
            await runs.abandon("f", reason="x" * 1_000)
            assert isinstance(await runs.get("f").outcome(), Abandoned)

    virtually(test)


def test_nobody_hears_of_a_run_that_is_not_there() -> None:
    order = order_saga()

    async def test() -> None:
        async with opened([order], shop=Pretend()) as runs:
            with pytest.raises(NoSuchRun, match="o-404"):
                await runs.get("o-404").outcome()
            with pytest.raises(NoSuchRun):
                await runs.cancel("o-404", reason="gone")
            assert_empty(runs)

    virtually(test)


def test_waiting_for_an_outcome_ends_when_it_is_over() -> None:
    order = order_saga()

    async def slowly(call: Outgoing) -> Came:
        await asyncio.sleep(4)
        return yes()

    async def test() -> None:
        async with opened([order], shop=Pretend(slowly)) as runs:
            run = await runs.start(order, "x", id="o")
            assert await run.outcome(wait=timedelta(0)) == Unfinished("o", "running", ("reserve",))
            assert await run.outcome(wait=timedelta(seconds=5)) == Unfinished("o", "running", ("pay",))
            assert isinstance(await run.outcome(), Completed)
            assert_empty(runs)

    virtually(test)


def test_who_waits_for_a_run_when_the_orchestrator_closes_is_told() -> None:
    order = order_saga()

    async def test() -> None:
        async with opened([order], shop=Pretend(Script(reserve=LOST))) as runs:
            run = await runs.start(order, "x", id="o")
            waiting = asyncio.create_task(run.outcome())
            await asyncio.sleep(1)
        with pytest.raises(AmendsError, match="closed"):
            await waiting

    virtually(test)


def test_two_people_at_once_are_both_heard() -> None:
    saga, log = stuck_saga(), SlowLog()

    async def test() -> None:
        async with opened([saga], log, shop=Pretend(Script(reserve=[LOST, yes()]))) as runs:
            run = await runs.start(saga, "x", id="f")
            await run.outcome()
            await asyncio.sleep(1)
            first, second = await asyncio.gather(
                runs.abandon("f", reason="one"), runs.retry("f", reason="two"), return_exceptions=True
            )
            assert first is None
            assert isinstance(second, Refused)
            assert isinstance(await run.outcome(), Abandoned)

    virtually(test)


class Claimed(MemoryLog):
    """Somebody always claims in between a visitor's reading and writing."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    @override
    async def read(self, run: str) -> StoredRun | None:
        row = await super().read(run)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return row


def test_a_visit_that_a_claim_overtook_is_not_slept_through() -> None:
    """The run is claimed while a person decides on it; its owner waits for an answer that takes for ever."""
    order, log = order_saga(), Claimed()

    async def slowly(call: Outgoing) -> Came:
        if call.key != "o:reserve:action":
            return yes()
        if call.attempt == 2:
            await asyncio.sleep(1_000)
        return busy("600")

    shop = Pretend(slowly)

    async def test() -> None:
        async with opened([order], log, shop=shop) as runs:
            run = await runs.start(order, "x", id="o")
            await until(lambda: bool(shop.sent) and not runs.engine.worker.runs)

            async def claim() -> None:
                await until(lambda: len(shop.sent) == 2)

            log.meanwhile = claim
            await runs.cancel("o", reason="now")
            assert "o" in runs.engine.worker.runs
            await asyncio.sleep(3)
            assert runs.engine.worker.runs["o"].record.backward, "the owner heard of it"
            assert isinstance(await run.outcome(), Compensated)

    virtually(test)


def test_a_refusal_stays_true_when_a_visitor_was_quicker() -> None:
    """What was refused is not done after all because its append had to be decided anew."""
    order, log = order_saga(), SlowLog()

    async def test() -> None:
        async with opened([order], log, shop=Pretend(Script(ship=[LOST, LOST, yes()]))) as runs:
            run = await runs.start(order, "x", id="o")
            results: Sequence[BaseException | None] = await asyncio.gather(
                *(runs.cancel("o", reason=f"{i}") for i in range(5)), return_exceptions=True
            )
            outcome = await run.outcome()
            assert all(each is None or isinstance(each, PastPivot) for each in results)
            if any(results):
                assert isinstance(outcome, Completed)

    virtually(test)


def test_a_no_to_the_compensation_is_for_a_person() -> None:
    order = order_saga()
    shop = Pretend(Script(pay=no(), reserve_compensation=[no("shipped"), yes()]))

    async def test() -> None:
        async with opened([order], shop=shop) as runs:
            run = await runs.start(order, "x", id="o")
            outcome = await run.outcome()
            assert isinstance(outcome, Stuck)
            assert (outcome.step, outcome.phase) == ("reserve", "compensation")
            await runs.retry("o", reason="they mended it", step=order.steps[0])
            assert isinstance(await run.outcome(), Compensated)
            assert_empty(runs)

    virtually(test)
