"""An owner that dies on either side of an append, and who is first where two decide: the rows of the table of
interleavings that need an engine and a participant, on a real server.
"""

# pyright: reportPrivateUsage=false

import asyncio

import pytest

from amends.core.saga.outcomes import Compensated, Completed
from amends.core.words.keys import Phase
from tests.real.postgres.shop import Shop, order
from tests.real.postgres.support import connected, is_waiting, until, vanish
from tests.real.postgres.test_workers import SOON, fine
from tests.real.postgres.ways import Way, worker
from tests.support.postgres import Sql

GONE = "UPDATE amends.workers SET state = 'dead'"
LOCK = "SELECT FROM amends.runs WHERE id = 'o-1' FOR UPDATE"
KILL_WHO_WAITS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


async def test_after_a_crash_before_an_append_the_call_is_repeated_with_the_same_key(log_url: str, sql: Sql) -> None:
    """It was answered, and the answer isn't in the log: the next owner asks again, and is told the same."""
    shop, old, new = Shop(), Way(), Way()
    reserve = "o-1:reserve:action"
    held = old.answered[reserve] = asyncio.Event()
    async with worker(shop, log_url, old) as mortal, connected(log_url) as locking, connected(log_url) as watcher:
        await mortal.start(order, "o-1", id="o-1")
        await until(lambda: "o-1 reserve" in shop.asked, "it is asked for")
        async with locking.transaction():
            await locking.execute(LOCK)
            held.set()
            await until(lambda: is_waiting(watcher), "its append waits")
            await watcher.execute(KILL_WHO_WAITS)  # the database never gets to it
            await vanish(mortal)
        assert sql("SELECT version FROM amends.runs WHERE id = 'o-1'") == "2"
        sql(GONE)
        async with worker(shop, log_url, new) as adopter:
            assert isinstance(await adopter.get("o-1").outcome(wait=SOON), Completed)
    (first,) = [call for call in old.sent if call.key == reserve]
    (again,) = [call for call in new.sent if call.key == reserve]
    assert (again.body, again.since, again.attempt) == (first.body, first.since, first.attempt)
    assert new.heard_of(reserve) == old.heard_of(reserve), "the stored answer, byte for byte"
    assert shop.effects == fine("o-1")


async def test_after_a_crash_between_an_append_and_its_send_the_next_owner_sends_it(log_url: str, sql: Sql) -> None:
    shop, old, new = Shop(), Way(), Way()
    pay = "o-1:pay:action"
    held = old.answered["o-1:reserve:action"] = asyncio.Event()
    async with worker(shop, log_url, old) as mortal:
        await mortal.start(order, "o-1", id="o-1")
        await until(lambda: "o-1 reserve" in shop.asked, "it is asked for")
        mortal.engine.worker.calls._may_send = lambda: False  # from here on it dies before anything leaves
        held.set()
        await until(lambda: bool(mortal.engine.worker.calls.held), "the next call is durable, and hasn't left")
        await vanish(mortal)
        assert (
            sql("SELECT kind FROM amends.events WHERE run = 'o-1' ORDER BY version DESC LIMIT 1") == "ActionRequested"
        )
        sql(GONE)
        async with worker(shop, log_url, new) as adopter:
            assert isinstance(await adopter.get("o-1").outcome(wait=SOON), Completed)
    assert not [call for call in old.sent if call.key == pay]
    (sent,) = [call for call in new.sent if call.key == pay]
    assert (sent.attempt, sent.epoch) == (1, 2)
    assert shop.effects == fine("o-1")


@pytest.mark.parametrize("first", ["the pivot", "the cancel"])
async def test_a_cancel_and_the_pivots_success_are_decided_by_who_is_first(log_url: str, first: str) -> None:
    """The owner hears of the pivot's success while another process takes in a cancel: whoever gets the row comes first,
    and the other decides again on what is then true. Either way the pivot happened, so there is no way back.
    """
    shop, way = Shop(), Way()
    pay = "o-1:pay:action"
    held = way.answered[pay] = asyncio.Event()
    async with (
        worker(shop, log_url, way) as owner,
        worker(shop, log_url, Way()) as asked,
        connected(log_url) as locking,
        connected(log_url) as watcher,
    ):
        await owner.start(order, "o-1", id="o-1")
        await until(lambda: "o-1 pay" in shop.asked, "the pivot is asked for")
        async with locking.transaction():
            await locking.execute(LOCK)
            if first == "the pivot":
                held.set()
                await until(lambda: is_waiting(watcher), "the owner's append waits")
            cancelling = asyncio.create_task(asked.cancel("o-1", reason="changed my mind"))
            if first == "the cancel":
                await until(lambda: is_waiting(watcher), "the cancel waits")
                held.set()
            await until(lambda: is_waiting(watcher, 2), "both wait, in this order")
        cancelled = (await asyncio.gather(cancelling, return_exceptions=True))[0]
        outcome = await owner.get("o-1").outcome(wait=SOON)
        kinds = [event.kind for event in await owner.engine.log.read_events("o-1", 0)]
    assert isinstance(outcome, Completed)
    assert shop.effects == fine("o-1")
    if first == "the pivot":
        assert type(cancelled).__name__ == "PastPivot"
        assert "AbortRequested" not in kinds
    else:
        assert cancelled is None
        assert kinds.index("AbortRequested") < kinds.index("ActionSucceeded", kinds.index("AbortRequested"))
        assert "AbortVoid" in kinds


async def test_a_cancel_before_the_pivot_is_asked_for_turns_the_run_back(log_url: str) -> None:
    """The same race one step earlier: first the cancel, and the answer that would have asked for the pivot undoes."""
    shop, way = Shop(), Way()
    held = way.answered["o-1:reserve:action"] = asyncio.Event()
    async with (
        worker(shop, log_url, way) as owner,
        worker(shop, log_url, Way()) as asked,
        connected(log_url) as locking,
        connected(log_url) as watcher,
    ):
        await owner.start(order, "o-1", id="o-1")
        await until(lambda: "o-1 reserve" in shop.asked, "it is asked for")
        async with locking.transaction():
            await locking.execute(LOCK)
            cancelling = asyncio.create_task(asked.cancel("o-1", reason="changed my mind"))
            await until(lambda: is_waiting(watcher), "the cancel waits")
            held.set()
            await until(lambda: is_waiting(watcher, 2), "both wait, in this order")
        await cancelling
        assert isinstance(await owner.get("o-1").outcome(wait=SOON), Compensated)
    assert shop.effects == {"o-1 reserve": 0}
    assert [call.phase for call in way.sent] == [Phase.ACTION, Phase.COMPENSATION]
