"""The log fails for a while, for good, or for one run; a decision fails; and what was promised still holds."""

# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from typing_extensions import override

from amends.core.run import decide as decider
from amends.core.run.answers import Came
from amends.core.run.definition import Definition
from amends.core.run.record import RunRecord
from amends.core.saga.operation import Route
from amends.core.saga.outcomes import Completed, Stuck
from amends.core.words.errors import AmendsError, LogBroken, LogDamaged, LogInUse, LogUnavailable
from amends.engine import active_run as driven
from amends.engine import worker
from amends.engine.engine import Engine
from amends.logs.memory import MemoryStore
from amends.orchestrator import Orchestrator
from amends.ports.log import Append, SagaKey, Start, StoredEvent, StoredRun, Written
from amends.ports.transport import Outgoing
from tests.fast.engine.support import (
    LOST,
    Pretend,
    Script,
    Shop,
    SlowLog,
    assert_empty,
    busy,
    opened,
    order_saga,
    seconds,
    until,
    virtually,
    yes,
)


class Ailing(SlowLog):
    """Refuses to write while it is `ill`; `broken` for good. `lies`: what it refused is there all the same."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        super().__init__(store)
        self.ill = self.broken = self.lies = False
        self.refused = 0

    @override
    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        if self.lies:
            await super().append(batch)
        self._check()
        return await super().append(batch)

    @override
    async def release(self, run: str, epoch: int, version: int, due_at: int | None) -> bool:
        self._check()
        return await super().release(run, epoch, version, due_at)

    @override
    async def claim(
        self, known: Sequence[SagaKey], now: int, limit: int, *, suspects: int | None = None
    ) -> Sequence[StoredRun]:
        self._check()
        return await super().claim(known, now, limit, suspects=suspects)

    def _check(self) -> None:
        if self.broken:
            self.refused += 1
            raise LogBroken("the disk is gone")
        if self.ill:
            self.refused += 1
            raise LogUnavailable("no room on the disk")


def test_appends_wait_for_the_log_and_starts_are_given_back() -> None:
    order, log, shop = order_saga(), Ailing(), Pretend()

    async def slowly(call: Outgoing) -> Came:
        await asyncio.sleep(0.5)
        return yes()

    async def test() -> None:
        shop.does = slowly
        async with opened([order], log, shop=shop) as runs:
            started = [await runs.start(order, "x", id=f"o{i}") for i in range(20)]
            log.ill = True
            with pytest.raises(LogUnavailable, match="no room"):
                await runs.start(order, "x", id="later")
            sent = len(shop.sent)
            await asyncio.sleep(60)
            assert len(shop.sent) == sent == 20, "nothing leaves that isn't durable"
            log.ill = False
            outcomes = [await run.outcome() for run in started]
            assert all(isinstance(each, Completed) for each in outcomes)
            assert isinstance(await (await runs.start(order, "x", id="later")).outcome(), Completed)
            assert_empty(runs)

    virtually(test)
    assert log.refused > 5
    assert set(shop.counts().values()) == {1}
    assert len({entry.append_id for batch in log.batches for entry in batch}) == 84


def test_a_commit_whose_answer_was_lost_is_settled_by_the_same_append_again() -> None:
    order, log, shop = order_saga(), Ailing(), Pretend()

    async def slowly(call: Outgoing) -> Came:
        await asyncio.sleep(0.5)
        return yes()

    async def test() -> None:
        shop.does = slowly
        async with opened([order], log, shop=shop) as runs:
            run = await runs.start(order, "x", id="o")
            log.ill = log.lies = True
            await asyncio.sleep(5)
            log.ill = log.lies = False
            assert isinstance(await run.outcome(), Completed)

    virtually(test)
    assert log.refused
    assert set(shop.counts().values()) == {1}
    assert log.kinds("o").count("ActionSucceeded") == 3


def test_a_start_whose_commit_was_not_answered_is_driven_once_it_is_asked_for_again() -> None:
    order, log, shop = order_saga(), Ailing(), Pretend()

    async def test() -> None:
        async with opened([order], log, shop=shop) as runs:
            log.ill = log.lies = True
            with pytest.raises(LogUnavailable):
                await runs.start(order, "x", id="o")
            log.ill = log.lies = False
            assert log.store.runs["o"].row.owner, "the log has it, as ours, and we don't know"
            assert not shop.sent
            again = await runs.start(order, "x", id="o")
            assert not again.is_new
            assert isinstance(await again.outcome(), Completed)
            await until(lambda: not runs.engine.worker.runs)
            assert_empty(runs)

    virtually(test)
    assert log.refused
    assert set(shop.counts().values()) == {1}


def test_a_run_that_waits_is_woken_though_it_could_not_be_let_go() -> None:
    order, log, shop = order_saga(), Ailing(), Pretend(Script(reserve=[LOST, busy("600"), yes()]))

    async def test() -> None:
        async with opened([order], log, shop=shop) as runs:
            run = await runs.start(order, "x", id="o")
            await until(lambda: len(shop.sent) == 2)
            await until(lambda: not runs.engine.worker.runs)
            # It is woken, and goes back to wait with nothing to append: that is a release of its own.
            row = log.store.runs["o"]
            row.row = _due_now(row.row)
            log.ill = False
            runs.engine._claims.look()
            await until(lambda: "o" in runs.engine.worker.runs)
            log.ill = True
            await asyncio.sleep(20)
            assert log.refused
            assert "o" in runs.engine.worker.runs, "it stays: nobody else would wake it"
            await asyncio.sleep(60)
            log.ill = False
            assert isinstance(await run.outcome(), Completed)
            await until(lambda: not runs.engine.worker.runs)
            assert_empty(runs)

    virtually(test)


def _due_now(row: StoredRun) -> StoredRun:
    return replace(row, due_at=0)


def test_closing_does_not_wait_for_a_log_that_is_away() -> None:
    order, log, shop = order_saga(), Ailing(), Pretend()

    async def slowly(call: Outgoing) -> Came:
        await asyncio.sleep(0.5)
        return yes()

    async def test() -> None:
        shop.does = slowly
        async with opened([order], log, shop=shop) as runs:
            await runs.start(order, "x", id="o")
            log.ill = True
            await asyncio.sleep(60)
            began = seconds()
        assert seconds() - began < 1
        log.ill = False
        async with opened([order], log, shop=shop) as runs:
            assert isinstance(await runs.get("o").outcome(), Completed)

    virtually(test)
    assert shop.counts()["o:reserve:action"] == 2


def test_a_log_that_breaks_stops_everything_and_says_so() -> None:
    order, log, shop = order_saga(), Ailing(), Pretend()

    async def slowly(call: Outgoing) -> Came:
        await asyncio.sleep(0.5)
        return yes()

    async def test() -> None:
        shop.does = slowly
        async with opened([order], log, shop=shop, at_once=3) as runs:
            started = [await runs.start(order, "x", id=f"o{i}") for i in range(50)]
            waiting = [asyncio.create_task(run.outcome()) for run in started]
            log.broken = True
            for each in waiting:
                with pytest.raises(LogBroken):
                    await each
            assert runs.engine.broken.is_set()
            sent = len(shop.sent)
            with pytest.raises(LogBroken):
                await runs.start(order, "x", id="more")
            async with asyncio.timeout(5):
                with pytest.raises(LogUnavailable):
                    await runs.cancel("o49", reason="is anybody there?")
            await asyncio.sleep(60)
            assert len(shop.sent) == sent
        log.broken = False
        async with opened([order], log, shop=shop) as runs:
            outcomes = [await runs.get(f"o{i}").outcome() for i in range(50)]
            assert all(isinstance(each, Completed) for each in outcomes)

    virtually(test)


def test_an_orchestrator_that_is_closed_answers_nobody_for_ever() -> None:
    order = order_saga()

    async def test() -> None:
        async with opened([order], shop=Pretend()) as runs:
            engine = runs.engine
            definition = next(iter(engine.definitions.values()))
        async with asyncio.timeout(5):
            with pytest.raises(LogUnavailable):
                await engine.start(definition, b'"x"')
            with pytest.raises(LogUnavailable):
                await runs_of(engine, "o")

    async def runs_of(engine: Engine, run: str) -> None:
        await engine.settled(run, None)

    virtually(test)


@pytest.mark.parametrize("where", ["decide", "owed"])
def test_a_bug_while_deciding_costs_one_run(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    order = order_saga()
    real, real_decide = getattr(worker, where), decider.decide
    failed: list[str] = []

    def failing(definition: Definition, record: RunRecord, *rest: object) -> object:
        if record.run == "bad" and record.length > 2 and len(failed) < 100:
            failed.append(record.run)
            raise ZeroDivisionError(where)
        if where == "decide" and record.run == "bad":
            failed.append(record.run)
            raise ZeroDivisionError(where)
        return real(definition, record, *rest)

    async def test() -> None:
        async with opened([order], SlowLog(), shop=Pretend()) as runs:
            monkeypatch.setattr(worker, where, failing)
            monkeypatch.setattr(driven, "decide", failing if where == "decide" else real_decide)
            bad = await runs.start(order, "x", id="bad")
            others = [await runs.start(order, "x") for _ in range(20)]
            outcomes = [await run.outcome() for run in others]
            assert all(isinstance(each, Completed) for each in outcomes)
            assert not isinstance(await bad.outcome(wait=timedelta(seconds=60)), (Completed, Stuck))
            with pytest.raises(AmendsError, match="deciding failed"):
                await runs.cancel("bad", reason="try")
            monkeypatch.undo()

    virtually(test)
    assert failed


def test_a_history_that_cannot_be_read_costs_one_run() -> None:
    order, log = order_saga(), SlowLog()

    async def test() -> None:
        async with opened([order], log, shop=Pretend(Script(reserve=LOST))) as runs:
            for i in range(5):
                await runs.start(order, "x", id=f"o{i}")
            await asyncio.sleep(0.1)
        kept = log.store.runs["o2"]
        kept.events[-1] = _spoiled(kept.events[-1])
        async with opened([order], log, shop=Pretend()) as runs:
            for i in (0, 1, 3, 4):
                assert isinstance(await runs.get(f"o{i}").outcome(), Completed)
            with pytest.raises(LogDamaged, match="o2"):
                await runs.get("o2").outcome()
            assert "o2" in runs.engine._claims.unreadable

    virtually(test)


def _spoiled(event: StoredEvent) -> StoredEvent:
    return replace(event, body=b"{")


async def test_a_log_in_use_and_a_file_that_is_none_are_told_at_the_door(tmp_path: Path) -> None:
    order = order_saga()
    routes = [_nowhere()]
    async with Orchestrator([order], log=f"sqlite:///{tmp_path}/a.db", routes=routes):
        with pytest.raises(LogInUse):
            async with Orchestrator([order], log=f"sqlite:///{tmp_path}/a.db", routes=routes):
                pass
    (tmp_path / "b.db").write_bytes(b"this is no database, is it? " * 100)
    with pytest.raises(LogDamaged):
        async with Orchestrator([order], log=f"sqlite:///{tmp_path}/b.db", routes=routes):
            pass
    with pytest.raises(AmendsError, match="no log is known"):
        async with Orchestrator([order], log="oracle://x", routes=routes):
            pass
    async with Orchestrator([order], log=f"sqlite:///{tmp_path}/a.db", routes=routes):
        pass  # nothing of the failures holds it


def _nowhere() -> Route:
    return Shop.at("http://127.0.0.1:9/")
