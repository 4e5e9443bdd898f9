"""A former owner that doesn't know it yet, or that hears an answer too late: what it sends is told apart by its epoch,
what it heard is offered as a visitor's, on a real server.
"""

# pyright: reportPrivateUsage=false

import asyncio
from datetime import timedelta

from amends.core.run.answers import CallResponse, Lost
from amends.core.saga.outcomes import Completed
from amends.core.words.keys import Phase
from tests.real.postgres.shop import Shop, order
from tests.real.postgres.support import until
from tests.real.postgres.test_workers import SOON, fine
from tests.real.postgres.ways import Way, worker
from tests.support.postgres import Sql

GONE = "UPDATE amends.workers SET state = 'dead'"
BACK_IN_TIME = """
DELETE FROM amends.events WHERE run = 'o-1' AND version > 2;
UPDATE amends.runs SET version = 2, state = 'running', owner = NULL, due_at = 1;
"""
"""As after a fail-over to a replica that missed what was committed since the start."""

OFFERED = "ActionSucceeded\nActionRequested"
"""The answer, and what follows from it, in one append that no owner made."""


async def test_the_undo_of_a_former_owner_is_refused_after_a_fail_over_took_the_run_back_in_time(
    log_url: str, sql: Sql
) -> None:
    """The one had decided to undo; that is forgotten, and the other goes forward. Then the old undo arrives."""
    shop, old, new = Shop(), Way(), Way()
    undo = "o-1:reserve:compensation"
    old.lost = lambda call: call.phase is Phase.ACTION
    old.arrives[undo] = asyncio.Event()
    async with worker(shop, log_url, old) as former:
        await former.start(order, "o-1", id="o-1")
        await until(lambda: bool(old.heard), "the action got lost")
        await former.cancel("o-1", reason="changed my mind")
        undoing = former.engine.worker.runs["o-1"]
        await until(lambda: any(key[2] is Phase.COMPENSATION for key in undoing.calls), "its undo is on its way")
        sql(BACK_IN_TIME)
        sql(GONE)
        async with worker(shop, log_url, new) as adopter:
            assert isinstance(await adopter.get("o-1").outcome(wait=SOON), Completed)
            assert shop.effects == fine("o-1")
            old.arrives[undo].set()
            await until(lambda: "o-1" not in former.engine.worker.runs, "the former owner drops the run")
            (came,) = old.heard_of(undo)
            assert isinstance(came, CallResponse)
            assert came.status == 412
            assert b"urn:amends:stale-epoch" in came.body
            assert shop.effects == fine("o-1"), "nothing was undone"
            assert isinstance(await adopter.get("o-1").outcome(wait=SOON), Completed)
    assert (
        sql("SELECT count(*) FROM amends.events WHERE kind IN ('Marked', 'LateReply', 'CompensationRequested')") == "0"
    )


async def test_an_answer_that_comes_to_the_former_owner_moves_the_run_on_at_the_new_one(log_url: str, sql: Sql) -> None:
    """The new owner can't reach the participant; the old one had, and its answer is offered as a visitor's."""
    shop, old, new = Shop(), Way(), Way()
    reserve = "o-1:reserve:action"
    old.answered[reserve] = asyncio.Event()
    new.lost = lambda call: call.step == "reserve"
    async with worker(shop, log_url, old) as former:
        await former.start(order, "o-1", id="o-1")
        await until(lambda: "o-1 reserve" in shop.asked, "it is asked for")
        sql(GONE)
        async with worker(shop, log_url, new) as adopter:
            await until(lambda: bool(new.heard_of(reserve)), "the adopter asks in vain")
            assert not isinstance(await adopter.get("o-1").outcome(wait=timedelta(0)), Completed)
            old.answered[reserve].set()
            assert isinstance(await adopter.get("o-1").outcome(wait=SOON), Completed)
            assert "o-1" not in former.engine.worker.runs
        assert all(isinstance(came, Lost) for came in new.heard_of(reserve))
    assert shop.effects == fine("o-1")
    assert sql("SELECT kind FROM amends.events WHERE run = 'o-1' AND epoch = 0 ORDER BY version") == OFFERED


async def test_answers_of_a_worker_that_was_declared_dead_are_offered_by_the_one_it_becomes(
    log_url: str, sql: Sql
) -> None:
    """It slept past its lease with an answer at hand: it is refused under the old name, and offered under the new."""
    shop, old, new = Shop(), Way(), Way()
    reserve = "o-1:reserve:action"
    old.answered[reserve] = asyncio.Event()
    new.lost = lambda call: call.step == "reserve"
    async with worker(shop, log_url, old) as former:
        await former.start(order, "o-1", id="o-1")
        await until(lambda: "o-1 reserve" in shop.asked, "it is asked for")
        sql(GONE)
        async with worker(shop, log_url, new) as adopter:
            await until(lambda: bool(new.heard_of(reserve)), "the adopter asks in vain")
            driven = former.engine.worker.runs["o-1"]
            driven.appending = True  # an append is on its way, so the answer waits for its verdict
            old.answered[reserve].set()
            await until(lambda: bool(driven.commands), "the answer is there")
            keeper = former.engine._lease
            assert keeper is not None
            await keeper._beat()
            assert keeper.lost_times == 1
            assert isinstance(await adopter.get("o-1").outcome(wait=SOON), Completed)
    assert shop.effects == fine("o-1")
    assert sql("SELECT kind FROM amends.events WHERE run = 'o-1' AND epoch = 0 ORDER BY version") == OFFERED
