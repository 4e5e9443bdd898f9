"""Every order in which two who write the log can meet, on a real server, with real connections, forced.

One test per row of the table in `docs/explanation/many-workers.md`, in its order; the rows that need an engine, a
participant or a broken connection are in the files beside this one.
"""

# pyright: reportPrivateUsage=false

import asyncio

import pytest

from amends.logs.postgres.statements import SQL
from amends.ports.log import WorkerState, Written
from amends.testing.contracts.log_entries import ORDERS, append, must_read, row, start, write
from tests.real.postgres.support import append_by_hand, claim_by_hand, connected, is_waiting, until, workers
from tests.support.postgres import Sql

KILL = "UPDATE amends.workers SET state = 'dead' WHERE id = '{worker}'"


async def test_an_append_that_meets_an_uncommitted_claim_waits_and_is_refused_alone(log_url: str, sql: Sql) -> None:
    async with workers(log_url, 2) as (stale, adopter), connected(log_url) as claiming, connected(log_url) as watcher:
        await write(stale, start("a"), start("b"))
        await write(stale, append("b", 1, release=True))
        sql(KILL.format(worker=stale._lease.worker))
        async with claiming.transaction():
            assert await claim_by_hand(claiming, adopter._lease.worker) == {"a": 2}
            writing = asyncio.create_task(stale.append([append("a", 1, number=7), start("c")]))
            await until(lambda: is_waiting(watcher), "the append waits for the claim")
            assert not writing.done()
        assert await writing == [Written.NOT_YOURS, Written.ACCEPTED]
        found = await must_read(adopter, "a")
        assert (found.owner, found.epoch, found.version) == (adopter._lease.worker, 2, 1)
        assert (await must_read(adopter, "c")).version == 1


async def test_a_claim_that_meets_an_uncommitted_append_skips_the_run_and_takes_it_a_moment_later(
    log_url: str, sql: Sql
) -> None:
    async with workers(log_url, 2) as (stale, adopter), connected(log_url) as writing:
        await write(stale, start("a"), start("b"))
        sql(KILL.format(worker=stale._lease.worker))
        async with writing.transaction():
            assert await append_by_hand(writing, stale._lease.worker, append("a", 1, kinds=("Late",))) == {"a"}
            assert [run.run for run in await adopter.claim([ORDERS], now=0, limit=10)] == ["b"]
        (claimed,) = await adopter.claim([ORDERS], now=0, limit=10)
        assert (claimed.run, claimed.version, claimed.epoch) == ("a", 2, 2)
        assert [event.kind for event in claimed.events] == ["RunStarted", "Late"]


async def test_an_owner_declared_dead_may_write_while_nobody_has_adopted_its_run(log_url: str, sql: Sql) -> None:
    async with workers(log_url, 2) as (stale, adopter):
        await write(stale, start("a"))
        sql(KILL.format(worker=stale._lease.worker))
        await write(stale, append("a", 1))
        (claimed,) = await adopter.claim([ORDERS], now=0, limit=10)
        assert (claimed.version, claimed.epoch) == (2, 2)
        assert await stale.append([append("a", 2, number=9)]) == [Written.NOT_YOURS]


async def test_a_run_started_by_a_worker_declared_dead_is_claimed_by_the_next_sweep(log_url: str, sql: Sql) -> None:
    async with workers(log_url, 2) as (stale, adopter):
        sql(KILL.format(worker=stale._lease.worker))
        assert await adopter.claim([ORDERS], now=0, limit=10) == []
        await write(stale, start("a"))
        assert [run.run for run in await adopter.claim([ORDERS], now=0, limit=10)] == ["a"]


async def test_a_run_whose_owner_nobody_has_ever_heard_of_is_claimed(log_url: str, sql: Sql) -> None:
    async with workers(log_url, 2) as (stale, adopter):
        await write(stale, start("a"))
        sql(f"DELETE FROM amends.workers WHERE id = '{stale._lease.worker}'")  # noqa: S608 - our own id
        assert [run.run for run in await adopter.claim([ORDERS], now=0, limit=10)] == ["a"]


async def test_the_reaper_waits_for_a_heartbeat_that_is_being_written_and_spares_its_worker(
    log_url: str, sql: Sql
) -> None:
    async with workers(log_url, 2) as (late, other), connected(log_url) as beating, connected(log_url) as watcher:
        sql(f"UPDATE amends.workers SET expires_at = now() - interval '1 s' WHERE id = '{late._lease.worker}'")  # noqa: S608
        async with beating.transaction():
            assert await beating.fetchval(SQL["heartbeat"], late._lease.worker, 15.0) is not None
            reaping = asyncio.create_task(other._lease.renew())
            await until(lambda: is_waiting(watcher), "the reaper waits for the heartbeat")
        assert await reaping is not None
        assert {each.state for each in await other.workers()} == {WorkerState.LIVE}
        assert await late._lease.renew() is not None


async def test_a_row_that_somebody_holds_on_to_costs_nobody_else_his_lease(log_url: str, sql: Sql) -> None:
    """As a person does who looks at the table in a transaction, and goes to lunch."""
    short = f"{log_url}?lease_seconds=1"
    states = "SELECT DISTINCT state FROM amends.workers ORDER BY 1"
    async with workers(short, 2) as (late, other), connected(log_url) as holding, connected(log_url) as watcher:
        sql(f"UPDATE amends.workers SET expires_at = now() - interval '1 s' WHERE id = '{late._lease.worker}'")  # noqa: S608
        async with holding.transaction():
            await holding.execute("SELECT FROM amends.workers WHERE id = $1 FOR UPDATE", late._lease.worker)
            renewing = asyncio.create_task(other._lease.renew())
            await until(lambda: is_waiting(watcher), "the reaper waits for the row")
            async with asyncio.timeout(10):
                assert await renewing is not None
            assert not await is_waiting(watcher), "nor does a session of the server wait for it any more"
            assert sql(states) == "live"
        await other._lease.renew()
        assert sql(states).splitlines() == ["dead", "live"]


async def test_a_heartbeat_after_the_reaper_learns_that_it_is_dead(log_url: str, sql: Sql) -> None:
    async with workers(log_url, 2) as (late, other):
        await write(late, start("a"))
        dead = late._lease.worker
        sql(f"UPDATE amends.workers SET expires_at = now() - interval '1 s' WHERE id = '{dead}'")  # noqa: S608
        assert await other._lease.renew() is not None
        assert await late._lease.renew() is None
        assert await late._lease.renew() is None, "for good"
        await late._lease.begin_anew()
        assert late._lease.worker != dead
        assert await late._lease.renew() is not None
        assert await late.append([append("a", 1)]) == [Written.NOT_YOURS], "what the dead one owned isn't the new one's"


async def test_a_look_declares_gone_whose_lease_is_over_and_renews_nothing(log_url: str, sql: Sql) -> None:
    async with workers(log_url, 3) as (late, later, other):
        for log, left in ((late, -1), (later, 600)):
            sql(f"UPDATE amends.workers SET expires_at = now() + interval '{left} s' WHERE id = '{log._lease.worker}'")  # noqa: S608
        mine = f"SELECT expires_at FROM amends.workers WHERE id = '{other._lease.worker}'"  # noqa: S608 - our own id
        before = sql(mine)
        await other._lease.look()
        states = {row.id: row.state for row in await other.workers()}
        assert states[late._lease.worker] is WorkerState.DEAD
        assert states[later._lease.worker] is WorkerState.LIVE
        assert sql(mine) == before
        assert other._lease.look_in is not None
        assert 0 < other._lease.look_in <= 600, "the next to be over is the other one's"
        sql("DELETE FROM amends.workers WHERE state = 'live'")
        await other._lease.look()
        assert other._lease.look_in is None, "nobody is left to look after"


async def test_who_leaves_forgets_those_who_are_gone_for_a_day_and_own_nothing(log_url: str, sql: Sql) -> None:
    """Commands join and leave all day, while the servers beside them run for months."""
    a_day_ago = "UPDATE amends.workers SET heard_at = heard_at - interval '25 h', state = 'dead'"
    async with workers(log_url, 1) as (owner,):
        await write(owner, start("a"))
        sql(a_day_ago)
        owning = owner._lease.worker
        async with workers(log_url, 1):
            pass
        assert sql("SELECT count(*) FROM amends.workers") == "2", "it still owns a run"
        sql(a_day_ago)
        async with workers(log_url, 1) as (leaving,):
            last = leaving._lease.worker
        assert sql("SELECT id FROM amends.workers ORDER BY id").splitlines() == sorted([owning, last])


async def test_two_claimers_never_get_the_same_run(log_url: str) -> None:
    async with workers(log_url, 3) as (first, second, third):
        await write(first, *(start(f"r{n:03}", owned=False, shown=row(due_at=n)) for n in range(200)))
        claimers = (second, third, second, third)
        tried = await asyncio.gather(*(each.claim([ORDERS], now=9_000, limit=60) for each in claimers))
        claimed = [run.run for runs in tried for run in runs]
        while len(claimed) < 200:
            claimed += [run.run for run in await first.claim([ORDERS], now=9_000, limit=60)]
        assert sorted(claimed) == [f"r{n:03}" for n in range(200)]
        assert {(await must_read(first, run)).epoch for run in ("r000", "r100", "r199")} == {2}


async def test_a_claimer_skips_what_another_is_about_to_have(log_url: str) -> None:
    async with workers(log_url, 2) as (first, second), connected(log_url) as claiming:
        await write(first, *(start(run, owned=False, shown=row(due_at=1)) for run in "abc"))
        async with claiming.transaction():
            assert len(await claim_by_hand(claiming, first._lease.worker, limit=2)) == 2
            assert len(await second.claim([ORDERS], now=9_000, limit=10)) == 1
        assert await second.claim([ORDERS], now=9_000, limit=10) == []


async def test_when_the_databases_clock_jumps_runs_move_and_nothing_else_happens(log_url: str, sql: Sql) -> None:
    async with workers(log_url, 2) as (first, second):
        await write(first, start("a"), start("b"))
        sql("UPDATE amends.workers SET expires_at = expires_at - interval '1 day'")  # as if it were a day later
        assert await second._lease.renew() is not None
        assert {run.run: run.epoch for run in await second.claim([ORDERS], now=0, limit=10)} == {"a": 2, "b": 2}
        assert await first._lease.renew() is None
        assert await first.append([append("a", 1)]) == [Written.NOT_YOURS]
        await write(second, append("a", 1, epoch=2))


async def test_letting_go_and_a_visit_at_once_never_lose_the_visit(log_url: str) -> None:
    async with workers(log_url, 2) as (owner, visitor), connected(log_url) as visiting, connected(log_url) as watcher:
        await write(owner, start("a"))
        async with visiting.transaction():
            assert await append_by_hand(visiting, visitor._lease.worker, append("a", 1, epoch=None)) == {"a"}
            letting_go = asyncio.create_task(owner.release("a", epoch=1, version=1, due_at=None))
            await until(lambda: is_waiting(watcher), "letting go waits for the visit")
        assert not await letting_go
        assert list(await owner.nudged(now=9_000_000)) == [("a", 2)]
        assert await owner.release("a", epoch=1, version=2, due_at=7)


async def test_handing_over_waits_for_nobody_who_holds_on_to_one_of_the_runs(log_url: str, sql: Sql) -> None:
    async with workers(log_url, 2) as (leaving, other), connected(log_url) as holding:
        await write(leaving, *(start(run, shown=row(due_at=1)) for run in "abc"))
        async with holding.transaction():
            await holding.execute("SELECT FROM amends.runs WHERE id = 'b' FOR UPDATE")
            async with asyncio.timeout(10):
                await leaving.close()
            assert sql("SELECT state, count(*) FROM amends.workers GROUP BY 1 ORDER BY 1") == "left|1\nlive|1"
            assert [run.run for run in await other.claim([ORDERS], now=9, limit=10)] == ["a", "c"]
        (claimed,) = await other.claim([ORDERS], now=9, limit=10)
        assert (claimed.run, claimed.epoch) == ("b", 2)


async def test_a_visit_after_letting_go_makes_the_run_due(log_url: str) -> None:
    async with workers(log_url, 2) as (owner, visitor), connected(log_url) as releasing, connected(log_url) as watcher:
        await write(owner, start("a"))
        async with releasing.transaction():
            await releasing.fetch(SQL["release"], "a", None, owner._lease.worker, 1, 1)
            visiting = asyncio.create_task(visitor.append([append("a", 1, epoch=None, at=2_000)]))
            await until(lambda: is_waiting(watcher), "the visit waits for letting go")
        assert await visiting == [Written.ACCEPTED]
        assert [run.run for run in await visitor.claim([ORDERS], now=2_000, limit=10)] == ["a"]


@pytest.mark.parametrize("first", ["owner", "visitor"])
async def test_of_a_visitor_and_the_owner_one_is_first_and_the_other_decides_again(log_url: str, first: str) -> None:
    async with workers(log_url, 2) as (owner, visitor), connected(log_url) as writing, connected(log_url) as watcher:
        await write(owner, start("a"))
        entries = {"owner": append("a", 1, number=5), "visitor": append("a", 1, epoch=None, number=6)}
        logs = {"owner": owner, "visitor": visitor}
        second = "visitor" if first == "owner" else "owner"
        async with writing.transaction():
            assert await append_by_hand(writing, logs[first]._lease.worker, entries[first]) == {"a"}
            waiting = asyncio.create_task(logs[second].append([entries[second]]))
            await until(lambda: is_waiting(watcher), "the second waits for the first")
        assert await waiting == [Written.MOVED_ON]
        assert (await must_read(owner, "a")).version == 2
        again = append("a", 2, epoch=1 if second == "owner" else None, number=7)
        assert await logs[second].append([again]) == [Written.ACCEPTED]


async def test_the_same_append_sent_again_waits_for_the_undecided_one_and_is_one(log_url: str) -> None:
    async with workers(log_url, 1) as (owner,), connected(log_url) as undecided, connected(log_url) as watcher:
        await write(owner, start("a"), start("b"))
        for run, end in (("a", "commit"), ("b", "rollback")):
            transaction = undecided.transaction()
            await transaction.start()
            entry = append(run, 1, kinds=("One", "Two"))
            assert await append_by_hand(undecided, owner._lease.worker, entry) == {run}
            again = asyncio.create_task(owner.append([entry]))
            await until(lambda: is_waiting(watcher), "the repeat waits for the undecided one")
            await (transaction.commit() if end == "commit" else transaction.rollback())
            assert await again == [Written.ACCEPTED]
            assert [event.kind for event in (await must_read(owner, run)).events] == ["RunStarted", "One", "Two"]


async def test_the_same_start_sent_again_waits_for_the_undecided_one_and_is_one(log_url: str) -> None:
    async with workers(log_url, 1) as (owner,), connected(log_url) as undecided, connected(log_url) as watcher:
        for run, end in (("a", "commit"), ("b", "rollback")):
            transaction = undecided.transaction()
            await transaction.start()
            assert await append_by_hand(undecided, owner._lease.worker, start(run)) == {run}
            again = asyncio.create_task(owner.append([start(run)]))
            await until(lambda: is_waiting(watcher), "the repeat waits for the undecided one")
            await (transaction.commit() if end == "commit" else transaction.rollback())
            assert await again == [Written.ACCEPTED]
            assert (await must_read(owner, run)).version == 1


async def test_two_batches_that_cross_are_both_written(log_url: str) -> None:
    async with workers(log_url, 2) as (one, other):
        await write(one, *(start(f"r{n}") for n in range(40)))
        for turn in range(5):
            entries = [append(f"r{n}", 1 + turn, epoch=None, number=100 + turn) for n in range(40)]
            others = [append(f"r{n}", 1 + turn, epoch=None, number=200 + turn) for n in reversed(range(40))]
            first, second = await asyncio.gather(one.append(entries), other.append(others))
            won = [verdict is Written.ACCEPTED for verdict in first]
            lost = [verdict is Written.MOVED_ON for verdict in reversed(second)]
            assert won == lost, "each run has one winner"
