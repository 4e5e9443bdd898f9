"""A start is durable or it is an error, and an error leaves no run behind."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest

from amends.core.run.answers import Came
from amends.core.saga.operation import Call, ask, sleep
from amends.core.saga.outcomes import Compensated, Completed, Ended, Stuck
from amends.core.saga.saga import Saga
from amends.core.words.errors import (
    AmendsError,
    DefinitionInvalid,
    InputInvalid,
    NoRoute,
    NoSuchSaga,
    Rejected,
    RunExists,
    TooLarge,
)
from amends.logs.memory import MemoryLog, MemoryStore
from amends.orchestrator import Orchestrator, load_definitions
from tests.fast.engine.support import (
    EPOCH,
    LOST,
    Clock,
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


@dataclass(frozen=True, slots=True)
class Line:
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Basket:
    lines: list[Line]


def basket_saga() -> Saga[Basket]:
    saga = Saga("basket", Basket)

    @saga.pivot()
    def pay(basket: Basket) -> Call[str]:
        return Shop.act(basket.lines[0].sku)

    return saga


def test_an_input_of_another_type_is_refused_with_its_path() -> None:
    saga, log = basket_saga(), SlowLog()

    async def test() -> None:
        async with opened([saga], log, shop=Pretend()) as runs:
            with pytest.raises(InputInvalid) as invalid:
                await runs.start(saga, Basket([Line("a", 1), Line("b", cast("int", "two"))]))
            assert invalid.value.path == "$.lines[1].quantity"
            with pytest.raises(InputInvalid):
                await runs.start(saga, cast("Basket", object()))
            assert not log.store.runs

    virtually(test)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"id": "a b"}, "id"),
        ({"id": ""}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"tags": {f"t{i}": "x" for i in range(17)}}, "tags"),
        ({"tags": {"t": ""}}, "tags.t"),
        ({"tags": {"t": "x" * 129}}, "tags.t"),
        ({"tags": {"t": "x\0"}}, "tags"),
        ({"tags": {"t": "x\udcff"}}, "tags"),
        ({"tags": {"t": 1}}, "tags.t"),
        ({"deadline": timedelta(seconds=-1)}, "deadline"),
        ({"deadline": datetime.fromtimestamp(EPOCH - 1, tz=UTC)}, "deadline"),
    ],
    ids=str,
)
def test_what_a_start_is_given_is_checked(given: Mapping[str, Any], path: str) -> None:
    order, log = order_saga(), SlowLog()

    async def test() -> None:
        async with opened([order], log, shop=Pretend()) as runs:
            with pytest.raises(InputInvalid) as invalid:
                await runs.start(order, "x", **given)
            assert invalid.value.path == path
            assert not log.store.runs
            assert_empty(runs)

    virtually(test)


def test_an_input_that_is_too_large_is_refused() -> None:
    order, log = order_saga(), SlowLog()

    async def test() -> None:
        async with opened([order], log, shop=Pretend()) as runs:
            with pytest.raises(TooLarge, match="the limit is 1048576"):
                await runs.start(order, "x" * (1 << 20))
            assert not log.store.runs

    virtually(test)


def test_a_deadline_without_a_time_zone_is_refused_and_one_with_any_is_a_moment() -> None:
    order, log = order_saga(), SlowLog()

    async def test() -> None:
        async with opened([order], log, shop=Pretend()) as runs:
            with pytest.raises(ValueError, match="time zone"):
                await runs.start(order, "x", deadline=datetime(2100, 1, 1))  # noqa: DTZ001 - it is what is refused
            east = timezone(timedelta(hours=9))
            await runs.start(order, "x", id="o", deadline=datetime(2100, 1, 1, 9, tzinfo=east))
            assert log.store.runs["o"].row.deadline == 4_102_444_800_000_000

    virtually(test)


def test_tags_are_kept() -> None:
    order, log = order_saga(), SlowLog()

    async def test() -> None:
        async with opened([order], log, shop=Pretend()) as runs:
            await runs.start(order, "x", id="o", tags={"customer": "ann"})
            assert log.store.runs["o"].row.tags == {"customer": "ann"}

    virtually(test)


def test_the_same_id_again_is_the_same_run_or_an_error() -> None:
    order, other, log = order_saga(), order_saga("other"), SlowLog()

    async def test() -> None:
        async with opened([order, other], log, shop=Pretend()) as runs:
            await (await runs.start(order, "x", id="o")).outcome()
            again = await runs.start(order, "x", id="o", tags={"try": "2"}, deadline=timedelta(hours=1))
            assert not again.is_new
            assert again.version == 1
            assert isinstance(await again.outcome(), Completed)
            with pytest.raises(RunExists, match=r"another input at \d\d:\d\d:\d\d \(differs at \$: .x., .y.\)"):
                await runs.start(order, "y", id="o")
            with pytest.raises(RunExists, match="as a run of order at "):
                await runs.start(other, "x", id="o")
            assert_empty(runs)

    virtually(test)


def test_a_run_that_ends_with_its_start_is_over_at_once() -> None:
    saga, shop = Saga("no", str), Pretend()

    @saga.compensable()
    def never(what: str) -> Call[str]:
        raise Rejected("not today", code="closed")

    async def test() -> None:
        async with opened([saga], SlowLog(), shop=shop) as runs:
            run = await runs.start(saga, "x")
            assert str(await run.outcome()) == "compensated  never said no: closed"
            assert_empty(runs)

    virtually(test)
    assert not shop.sent


class Bug(Exception):
    pass


def buggy_saga(*, fixed: bool) -> Saga[str]:
    saga = Saga("buggy", str)

    @saga.compensable()
    def reserve(what: str) -> Call[str]:
        if what == "early":
            raise Bug(what)
        return Shop.act(what)

    @saga.pivot(after=[reserve])
    def pay(what: str) -> Call[str]:
        if not fixed:
            raise Bug(what)
        return Shop.act(what)

    return saga


def test_a_bug_in_the_first_builder_is_the_callers_and_leaves_no_run() -> None:
    saga, log = buggy_saga(fixed=True), SlowLog()

    async def test() -> None:
        async with opened([saga], log, shop=Pretend()) as runs:
            with pytest.raises(Bug) as raised:
                await runs.start(saga, "early", id="b")
            assert any("reserve" in note for note in raised.value.__notes__)
            assert not log.store.runs
            assert (await runs.start(saga, "fine", id="b")).is_new

    virtually(test)


def test_a_bug_in_a_later_builder_waits_for_its_fix_and_goes_on() -> None:
    store, shop = MemoryStore(), Pretend()

    async def test() -> None:
        saga = buggy_saga(fixed=False)
        async with opened([saga], MemoryLog(store), shop=shop) as runs:
            outcome = await (await runs.start(saga, "x", id="b")).outcome()
            assert isinstance(outcome, Stuck)
            assert (outcome.step, outcome.reason.split(":")[0]) == ("pay", "author-error")
        saga = buggy_saga(fixed=True)
        async with opened([saga], MemoryLog(store), shop=shop) as runs:
            run = runs.get("b")
            assert isinstance(await run.outcome(), Stuck)
            await runs.retry("b", reason="deployed a fix")
            assert isinstance(await run.outcome(wait=timedelta(seconds=5)), Completed)

    virtually(test)
    assert shop.keys == ["b:reserve:action", "b:pay:action"]


# -- the notice of a run's end


def noticed_saga() -> Saga[str]:
    saga = Saga("noticed", str)

    @saga.pivot()
    def pay(what: str) -> Call[str]:
        return Shop.act(what)

    @saga.notice
    def tell(what: str, ended: Ended) -> Call[None]:
        return Shop.tell(f"{what}: {type(ended).__name__}")

    return saga


@pytest.mark.parametrize("said", [yes(), no()], ids=["completed", "compensated"])
def test_a_notice_is_sent_again_until_it_is_taken_and_never_changes_the_end(said: Came) -> None:
    saga, log = noticed_saga(), SlowLog()
    shop = Pretend(Script(pay=said, notice=[LOST, busy("30"), no(), yes()]))

    async def test() -> None:
        async with opened([saga], log, shop=shop) as runs:
            run = await runs.start(saga, "x", id="n")
            first = await run.outcome()
            assert isinstance(first, (Completed, Compensated))
            await until(lambda: log.kinds("n")[-1] == "NoticeDelivered")
            await until(lambda: not runs.engine.worker.runs, within=5)
            assert await run.outcome() == first
            assert log.store.runs["n"].row.due_at is None
            assert_empty(runs)

    virtually(test)
    told = [sent for sent in shop.sent if sent.key == "n:notice:action"]
    assert [sent.attempt for sent in told] == [1, 2, 3, 4]
    assert len({sent.body for sent in told}) == 1
    assert told[2].at - told[1].at >= 29


def test_a_notice_goes_out_after_the_process_died_before_it_could() -> None:
    saga, store, shop = noticed_saga(), MemoryStore(), Pretend(Script(notice=LOST))

    async def test() -> None:
        async with opened([saga], MemoryLog(store), shop=shop) as runs:
            await (await runs.start(saga, "x", id="n")).outcome()
        shop.does = None
        async with opened([saga], MemoryLog(store), shop=shop) as runs:
            await until(lambda: store.runs["n"].events[-1].kind == "NoticeDelivered", within=120)
            assert isinstance(await runs.get("n").outcome(), Completed)

    virtually(test)


# -- opening


def test_an_orchestrator_can_be_entered_again_but_not_twice_at_once() -> None:
    order, store = order_saga(), MemoryStore()
    orchestrator = Orchestrator([order], log=MemoryLog(store), routes=[Shop.at("http://127.0.0.1:9/")])

    async def test() -> None:
        async with orchestrator as runs:
            with pytest.raises(AmendsError, match="open already"):
                await orchestrator.__aenter__()
            await runs.start(order, "x", id="o")
        with pytest.raises(AmendsError, match="isn't open"):
            await orchestrator.start(order, "x", id="p")
        async with orchestrator as runs:
            assert not (await runs.start(order, "x", id="o")).is_new

    asyncio.run(test())
    assert store.openings == 2


def test_what_is_missing_is_said_at_the_door() -> None:
    order = order_saga()

    async def test() -> None:
        with pytest.raises(NoRoute, match="no route for Shop"):
            async with opened([order]):
                pass
        async with opened([order], shop=Pretend()) as runs:
            with pytest.raises(NoSuchSaga, match="other v1 isn't loaded here"):
                await runs.start(order_saga("other"), "x")

    virtually(test)


def test_the_same_version_with_another_graph_is_refused() -> None:
    store = MemoryStore()

    async def test() -> None:
        async with opened([order_saga("changing")], MemoryLog(store), shop=Pretend()):
            pass
        changed = Saga("changing", str)

        @changed.pivot()
        def pay(what: str) -> Call[str]:
            return Shop.act(what)

        with pytest.raises(DefinitionInvalid, match="Set version=2"):
            async with opened([changed], MemoryLog(store), shop=Pretend()):
                pass
        assert store.live is None, "the log was closed again"

    virtually(test)
    assert load_definitions([order_saga()])


def waiting_saga(reply: Any, name: str = "waiting") -> Saga[str]:  # noqa: ANN401 - a type that changes
    """Its run waits for an answer when its first step is done."""
    saga = Saga(name, str)

    async def look(_: str) -> Any:  # noqa: ANN401 - as above
        return reply(7)

    look.__annotations__["return"] = reply

    @saga.neutral(after=[saga.neutral()(look)])
    def go(_: str) -> Call[str]:
        return ask(str, "go?", within=timedelta(days=1))

    return saga


def test_types_that_cannot_read_what_live_runs_have_are_refused_under_the_same_version() -> None:
    store = MemoryStore()

    async def test() -> None:
        async with opened([waiting_saga(int)], MemoryLog(store)) as runs:
            pass
        async with opened([waiting_saga(str)], MemoryLog(store)):
            pass  # no run needs the other type
        async with opened([waiting := waiting_saga(int)], MemoryLog(store)) as runs:
            await (await runs.start(waiting, "x", id="w")).outcome(wait=timedelta(seconds=1))
        told = r"waiting v1 has other types .* 1 live run began with(.|\n)*~ reply  look ~ has another type"
        with pytest.raises(DefinitionInvalid, match=told):
            async with opened([waiting_saga(str)], MemoryLog(store)):
                pass
        assert store.live is None, "the log was closed again"
        async with opened([waiting_saga(float)], MemoryLog(store)):
            pass  # which reads any int

    virtually(test)


def test_live_runs_of_a_saga_that_is_not_loaded_are_no_surprise(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()

    async def test() -> None:
        async with opened([waiting := waiting_saga(int)], MemoryLog(store)) as runs:
            await (await runs.start(waiting, "x", id="w")).outcome(wait=timedelta(seconds=1))
        other = waiting_saga(int, "other")
        with pytest.raises(DefinitionInvalid, match=r"waiting v1 isn't loaded, and 1 live run needs it(.|\n)*--leave"):
            async with opened([other], MemoryLog(store)):
                pass
        assert store.live is None, "the log was closed again"
        async with Orchestrator([other], log=MemoryLog(store), leave=["waiting"], clock=Clock()):
            pass
        assert "1 live run needs waiting v1, which neither this process" in caplog.text
        async with opened([other, waiting], MemoryLog(store)) as runs:
            await runs.cancel("w", reason="no longer needed")
        async with opened([other], MemoryLog(store)):
            pass  # nothing live needs it any more

    virtually(test)


def test_a_run_that_only_waits_is_never_held_and_goes_on_when_its_time_comes() -> None:
    """Begun without an owner: letting go of it would be a commit of its own for each such start."""
    waits, log = Saga("waits", str), MemoryLog()

    @waits.neutral()
    def cool_off(_: str) -> Call[None]:
        return sleep(timedelta(hours=1))

    assert cool_off.name == "cool_off"

    async def test() -> None:
        async with opened([waits], log) as runs:
            started = await runs.start(waits, "x", id="w")
            row = await log.read_row("w")
            assert row is not None
            assert (row.owner, row.state, started.is_new) == (None, "running", True)
            assert row.due_at is not None
            assert "w" not in runs.engine.worker.runs
            assert isinstance(await started.outcome(), Completed)
            row = await log.read_row("w")
            assert row is not None
            assert row.epoch == 2, "it was claimed once, when it was due"

    virtually(test)
