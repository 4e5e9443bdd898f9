"""A run that its owners may die of, or whose history can't be read, is left to a person: as a fact in its log."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from typing_extensions import override

from amends.core.saga.outcomes import Completed, Stuck
from amends.engine.quarantine import CLAIMS_MAX
from amends.logs.memory import MemoryLog, MemoryStore
from amends.ports.log import Append, RunRow, Start, StoredEvent, StoredRun, Written
from amends.ports.rows import facts_of
from tests.fast.engine.support import Pretend, Script, busy, opened, order_saga, until, virtually

RUN = "run-1"


async def left(*, claims: int, ends: bool = False, broken: bool = False) -> MemoryStore:
    """A store with one run, whose owner is gone, as were those before. `broken`: its history can't be read."""
    store = MemoryStore()
    saga = order_saga()
    shop = Pretend() if ends else Pretend(Script(reserve=busy()))
    async with opened([saga], MemoryLog(store), shop=shop) as runs:
        run = await runs.start(saga, "thing", id=RUN)
        if ends:
            assert isinstance(await run.outcome(), Completed)
        else:
            await until(lambda: len(shop.sent) > 0)
    kept = store.runs[RUN]
    kept.row = replace(kept.row, owner="somebody who is gone", claims=claims, due_at=0)
    if broken:
        kept.events[0] = replace(kept.events[0], body=b"{")
    return store


def row_of(store: MemoryStore) -> StoredRun | RunRow:
    return store.runs[RUN].row


def kinds(store: MemoryStore) -> Sequence[str]:
    return [event.kind for event in store.runs[RUN].events]


def test_a_run_that_too_many_owners_left_is_driven_by_nobody_until_a_person_asks() -> None:
    async def test() -> None:
        store = await left(claims=CLAIMS_MAX - 1)
        saga, shop = order_saga(), Pretend()
        async with opened([saga], MemoryLog(store), shop=shop) as runs:
            await until(lambda: kinds(store)[-1] == "Quarantined")
            row = store.runs[RUN].row
            assert (row.state, row.owner, row.due_at) == ("stuck", None, None)
            assert [mark["reason"] for mark in json.loads(row.stuck)] == ["crash-loop"]
            assert store.runs[RUN].events[-1].epoch == row.epoch
            assert not shop.sent
            await runs.retry(RUN, reason="the machine was too small")
            assert isinstance(await runs.get(RUN).outcome(), Completed)

    virtually(test)


def test_whoever_waits_for_a_run_or_for_what_is_stuck_hears_that_it_was_put_aside() -> None:
    async def test() -> None:
        store = await left(claims=CLAIMS_MAX - 1)
        saga, seen = order_saga(), list[str | None]()
        async with opened([saga], MemoryLog(store), shop=Pretend()) as runs:
            runs.engine.audience.observe(lambda _, record: seen.append(record.quarantined))
            outcome = await runs.get(RUN).outcome(wait=timedelta(minutes=1))
            assert isinstance(outcome, Stuck)
            assert seen == ["crash-loop"]

    virtually(test)


def test_a_run_that_fewer_owners_left_is_driven_as_any_other() -> None:
    async def test() -> None:
        store = await left(claims=CLAIMS_MAX - 2)
        shop = Pretend()
        async with opened([order_saga()], MemoryLog(store), shop=shop) as runs:
            assert isinstance(await runs.get(RUN).outcome(), Completed)
        assert "Quarantined" not in kinds(store)

    virtually(test)


def test_a_history_that_cannot_be_read_is_left_as_it_is_and_its_row_says_so() -> None:
    async def test() -> None:
        store = await left(claims=0, broken=True)
        before = store.runs[RUN].row
        shop = Pretend()
        async with opened([order_saga()], MemoryLog(store), shop=shop):
            await until(lambda: kinds(store)[-1] == "Quarantined")
        row = store.runs[RUN].row
        assert (row.state, row.owner, row.due_at, row.ended_at) == ("stuck", None, None, None)
        assert (row.steps, row.current, row.by_hand) == (before.steps, before.current, before.by_hand)
        (mark,) = json.loads(row.stuck)
        assert mark == {"step": "", "phase": "run", "reason": "unreadable", "attempts": 1, "since": mark["since"]}
        assert mark["since"] == row.updated_at
        assert store.runs[RUN].events[0].body == b"{"
        assert not shop.sent

    virtually(test)


def test_what_has_ended_stays_as_it_ended_though_nobody_can_read_how() -> None:
    async def test() -> None:
        store = await left(claims=0, ends=True, broken=True)
        before = store.runs[RUN].row
        async with opened([order_saga()], MemoryLog(store), shop=Pretend()):
            await until(lambda: kinds(store)[-1] == "Quarantined")
        row = store.runs[RUN].row
        assert (row.state, row.stuck, row.ended_at) == ("completed", before.stuck, before.ended_at)
        assert (row.owner, row.due_at) == (None, None)

    virtually(test)


def without_first(events: list[StoredEvent]) -> None:
    del events[0]


def without_second(events: list[StoredEvent]) -> None:
    del events[1]


def of_the_future(events: list[StoredEvent]) -> None:
    """It ended in a way that this version doesn't know."""
    assert events[-1].kind == "RunEnded"
    events[-1] = replace(events[-1], body=events[-1].body.replace(b"completed", b"paused"))
    assert b"paused" in events[-1].body


def out_of_nothing(events: list[StoredEvent]) -> None:
    """A notice was delivered that nobody asked for."""
    events.append(StoredEvent("NoticeDelivered", b"{}", 1, events[-1].at))


@pytest.mark.parametrize(
    ("damage", "ends"),
    [
        (without_first, False),
        (without_second, False),
        (without_second, True),
        (of_the_future, True),
        (out_of_nothing, True),
    ],
    ids=range(5),
)
def test_a_history_that_does_not_fit_together_costs_one_run(
    damage: Callable[[list[StoredEvent]], None], *, ends: bool
) -> None:
    """Its events can be decoded, and don't fit together: whoever claims it beside others drives the others."""

    async def test() -> None:
        store = await left(claims=0, ends=ends)
        shop = Pretend()
        saga = order_saga()
        async with opened([saga], MemoryLog(store), shop=Pretend(Script(reserve=busy()))) as runs:
            await runs.start(saga, "thing", id="other")
        damage(store.runs[RUN].events)
        for kept in store.runs.values():
            kept.row = replace(kept.row, owner=None, due_at=0)
        async with opened([order_saga()], MemoryLog(store), shop=shop) as runs:
            assert isinstance(await runs.get("other").outcome(), Completed)
            await until(lambda: kinds(store)[-1] == "Quarantined")

    virtually(test)


def test_a_row_that_cannot_be_read_is_mended_when_its_run_is_set_aside() -> None:
    async def test() -> None:
        store = await left(claims=0, broken=True)
        store.runs[RUN].row = replace(store.runs[RUN].row, current=b"\xff", steps=b"{", stuck=b"7")
        async with opened([order_saga()], MemoryLog(store), shop=Pretend()):
            await until(lambda: kinds(store)[-1] == "Quarantined")
        facts = facts_of(store.runs[RUN].row)
        assert (facts.unreadable, [mark.reason for mark in facts.marks]) == ((), ["unreadable"])

    virtually(test)


def test_it_is_told_that_a_run_was_set_aside_whose_history_nobody_can_read() -> None:
    async def test() -> None:
        store, seen = await left(claims=0, broken=True), list[tuple[str, str | None]]()
        async with opened([order_saga()], MemoryLog(store), shop=Pretend()) as runs:
            runs.engine.audience.observe(lambda _, record: seen.append((record.run, record.quarantined)))
            await until(lambda: bool(seen))
        assert seen == [(RUN, "unreadable")]

    virtually(test)


class Refusing(MemoryLog):
    """Takes no append, as if somebody else had the run by then."""

    @override
    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        return [Written.NOT_YOURS for _ in batch]


def test_a_run_that_cannot_be_put_aside_now_is_told_and_left_to_whoever_has_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        store = await left(claims=CLAIMS_MAX - 1)
        before = kinds(store)
        with caplog.at_level(logging.WARNING, "amends.engine"):
            async with opened([order_saga()], Refusing(store), shop=Pretend()):
                await until(lambda: any("can't be put aside now" in each for each in caplog.messages))
        assert kinds(store) == before

    virtually(test)
