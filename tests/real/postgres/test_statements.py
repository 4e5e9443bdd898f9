"""What the statements of the log leave alone: each condition in them is there for one of these.

What every log must do is in the contract; here is what takes several workers, or a hand in the tables.
"""

# pyright: reportPrivateUsage=false

import asyncio
import functools

import pytest

from amends.logs.postgres.log import PostgresLog
from amends.logs.postgres.statements import SQL
from amends.ports.log import Find, WorkerState
from amends.testing.contracts.log_entries import ORDERS, TRIPS, append, must_read, row, start, write
from tests.real.postgres.support import claim_by_hand, connected, workers
from tests.support.postgres import Sql

NEVER = 9_000_000
KILL = "UPDATE amends.workers SET state = 'dead' WHERE id = '{worker}'"


async def states_of(log: PostgresLog) -> dict[str, WorkerState]:
    return {each.id: each.state for each in await log.workers()}


# -- runs that a worker has, but doesn't know of


async def test_of_what_a_worker_has_only_what_it_doesnt_know_of_is_let_go(log_url: str, sql: Sql) -> None:
    async with workers(log_url, 2) as (ours, theirs):
        await write(ours, start("known"), start("stray"), start("later", shown=row(due_at=NEVER)))
        await write(ours, start("overdue", shown=row(due_at=500)))
        await write(theirs, start("theirs"))
        assert sorted(await ours._lease.let_go_of_strays(lambda: {"known"}, now=2_000)) == ["later", "overdue", "stray"]
        for run, due_at in (("stray", 2_000), ("later", 2_000), ("overdue", 500)):
            let_go = await must_read(ours, run)
            assert (let_go.owner, let_go.due_at) == (None, due_at)
        assert (await must_read(ours, "known")).owner == ours._lease.worker
        assert (await must_read(ours, "theirs")).owner == theirs._lease.worker
        assert await ours._lease.let_go_of_strays(lambda: {"known"}, now=2_000) == []


@pytest.mark.parametrize("meanwhile", ["owner = NULL", "epoch = epoch + 1"])
async def test_a_stray_that_was_let_go_or_claimed_meanwhile_is_none_any_more(
    log_url: str, sql: Sql, meanwhile: str
) -> None:
    async with workers(log_url, 1) as (log,):
        await write(log, start("a", shown=row(due_at=NEVER)))

        def held() -> set[str]:
            sql(f"UPDATE amends.runs SET {meanwhile}")  # noqa: S608 - one of the two above
            return set()

        assert await log._lease.let_go_of_strays(held, now=2_000) == []
        assert (await must_read(log, "a")).due_at == NEVER


# -- rows that somebody holds on to


async def test_of_the_rows_asked_about_those_are_held_that_another_has_locked(log_url: str) -> None:
    """And it doesn't wait for them to find that out."""
    async with workers(log_url, 1) as (log,), connected(log_url) as holding, connected(log_url) as asking:
        await write(log, *(start(run) for run in "abcd"))
        async with holding.transaction():
            await holding.fetch("SELECT FROM amends.runs WHERE id IN ('a', 'b', 'd') FOR UPDATE")
            found = await asyncio.wait_for(asking.fetch(SQL["held"], ["a", "b", "c", "no"]), 10)
            assert sorted(run for (run,) in found) == ["a", "b"]
        assert await asking.fetch(SQL["held"], ["a", "b", "c"]) == []


# -- claims


async def test_of_a_dead_workers_runs_a_claim_locks_no_more_than_its_limit_of_each_kind(log_url: str, sql: Sql) -> None:
    """Never taken over before, and taken over before. Another claimer, who skips what is locked, finds the rest."""
    async with workers(log_url, 3) as (gone, first, second), connected(log_url) as claiming:
        await write(gone, start("o1", shown=row(due_at=1)), start("o2", shown=row(due_at=2)))
        await write(gone, start("s1", shown=row(due_at=3)), start("s2", shown=row(due_at=4)))
        sql("UPDATE amends.runs SET claims = 1 WHERE id IN ('s1', 's2')")
        sql(KILL.format(worker=gone._lease.worker))
        async with claiming.transaction():
            assert await claim_by_hand(claiming, first._lease.worker, limit=1) == {"o1": 2}
            assert [run.run for run in await second.claim([ORDERS], now=0, limit=10)] == ["o2", "s2"]
        assert (await must_read(first, "o1")).owner == first._lease.worker


@pytest.mark.parametrize("claims", [0, 1])
async def test_what_another_claims_from_a_dead_worker_is_skipped(log_url: str, sql: Sql, claims: int) -> None:
    async with workers(log_url, 3) as (gone, first, second), connected(log_url) as claiming:
        await write(gone, *(start(run) for run in "abc"))
        sql(f"UPDATE amends.runs SET claims = {claims}")  # noqa: S608 - a number
        sql(KILL.format(worker=gone._lease.worker))
        async with claiming.transaction():
            assert len(await claim_by_hand(claiming, first._lease.worker, limit=2)) == 2
            assert len(await asyncio.wait_for(second.claim([ORDERS], now=0, limit=10), 10)) == 1


async def test_what_a_dead_worker_is_suspected_of_comes_from_it_alone(log_url: str, sql: Sql) -> None:
    """A run that harms whoever has it stays with an owner that lives, and so does every other run of that owner."""
    async with workers(log_url, 3) as (gone, alive, adopter):
        await write(gone, start("theirs"))
        await write(alive, start("suspect"), start("usual"))
        sql("UPDATE amends.runs SET claims = 1 WHERE id = 'suspect'")
        sql(KILL.format(worker=gone._lease.worker))
        assert [run.run for run in await adopter.claim([ORDERS], now=NEVER, limit=10)] == ["theirs"]


async def test_only_known_sagas_are_claimed_however_often_they_were_before(log_url: str, sql: Sql) -> None:
    async with workers(log_url, 2) as (gone, adopter):
        await write(gone, start("a"), start("b", saga=TRIPS))
        sql("UPDATE amends.runs SET claims = 1")
        sql(KILL.format(worker=gone._lease.worker))
        assert [run.run for run in await adopter.claim([ORDERS], now=0, limit=10)] == ["a"]


async def test_runs_of_every_dead_worker_are_claimed_most_overdue_first(log_url: str, sql: Sql) -> None:
    """Those without a due time last, among those that were never taken over as among those that were."""
    async with workers(log_url, 4) as (one, two, three, adopter):
        for number, log in enumerate((one, two, three)):
            await write(log, start(f"a{number}"), start(f"b{number}", shown=row(due_at=300 - number)))
            await write(log, start(f"r{number}", shown=row(due_at=100 - number)))
            await write(log, start(f"s-{number}"), start(f"suspect{number}", shown=row(due_at=200 - number)))
            sql(KILL.format(worker=log._lease.worker))
        sql("UPDATE amends.runs SET claims = 1 WHERE id LIKE 's%'")
        order = ["r2", "r1", "r0", "suspect2", "suspect1", "suspect0", "b2", "b1", "b0"]
        for first in (0, 3, 6):
            claimed = await adopter.claim([ORDERS], now=0, limit=3)
            assert [run.run for run in claimed] == order[first : first + 3]
        assert len(await adopter.claim([ORDERS], now=0, limit=10)) == 6


async def test_a_claim_takes_no_more_suspects_than_it_was_told_or_has_places_for(log_url: str, sql: Sql) -> None:
    async with workers(log_url, 2) as (gone, adopter):
        await write(gone, *(start(f"r{n}", shown=row(due_at=n)) for n in range(6)))
        sql("UPDATE amends.runs SET claims = 6 - due_at")
        sql(KILL.format(worker=gone._lease.worker))
        assert [run.run for run in await adopter.claim([ORDERS], now=0, limit=5, suspects=2)] == ["r4", "r5"]
        assert [run.run for run in await adopter.claim([ORDERS], now=0, limit=1, suspects=2)] == ["r3"]


async def test_a_claimed_run_comes_with_the_events_of_its_version_in_order(log_url: str) -> None:
    """What is written between the claim and the reading of its events is for the owner to find as a visit."""
    async with workers(log_url, 1) as (log,), connected(log_url) as reading:
        await write(log, start("b"), start("a"))
        await write(log, append("a", 1, kinds=("One", "Two")), append("b", 1, kinds=("Three", "Four")))
        found = await reading.fetch(SQL["events_of_many"], ["b", "a"], [2, 3])
        assert [(run, kind) for run, kind, *_ in found] == [
            *(("a", kind) for kind in ("RunStarted", "One", "Two")),
            *(("b", kind) for kind in ("RunStarted", "Three")),
        ]


# -- workers


async def test_a_lease_is_as_long_as_was_said_from_the_last_sign_of_life_on(log_url: str, sql: Sql) -> None:
    async with workers(f"{log_url}?lease_seconds=77", 1) as (log,):
        lease = "SELECT round(extract(epoch FROM expires_at - heard_at)) FROM amends.workers"
        assert sql(lease) == "77"
        sql("UPDATE amends.workers SET heard_at = heard_at - interval '1 h', expires_at = expires_at - interval '10 s'")
        (before,) = await log.workers()
        now = await log._lease.renew()
        (after,) = await log.workers()
        assert sql(lease) == "77"
        assert None not in {now, before.heard_at, after.heard_at}
        assert abs((now or 0) - (after.heard_at or 0)) < 1_000_000
        assert (after.heard_at or 0) - (before.heard_at or 0) > 3_599_000_000
        assert (after.expires_at or 0) - (after.heard_at or 0) == pytest.approx(77_000_000, abs=1_000)
        assert after.started_at == before.started_at


async def test_a_worker_renews_and_announces_for_itself_alone(log_url: str, sql: Sql) -> None:
    async with workers(log_url, 2) as (one, other):
        before = {each.id: each for each in await one.workers()}
        assert await one._lease.renew() is not None
        await one.announce([ORDERS])
        after = {each.id: each for each in await one.workers()}
        assert after[other._lease.worker] == before[other._lease.worker]
        assert tuple(after[one._lease.worker].sagas) == (ORDERS,)


async def test_the_next_lease_to_be_over_is_that_of_another_that_lives(log_url: str, sql: Sql) -> None:
    """Not one's own, not that of a worker that is gone already, not the last one."""
    async with workers(log_url, 5) as (mine, near, far, dead, late):
        left = {mine: 5, near: 300, far: 600, dead: 10, late: -1}
        for log, seconds in left.items():
            sql(
                f"UPDATE amends.workers SET expires_at = now() + interval '{seconds} s' "  # noqa: S608 - our own values
                f"WHERE id = '{log._lease.worker}'"
            )
        sql(KILL.format(worker=dead._lease.worker))
        await mine._lease.look()
        assert mine._lease.look_in is not None
        assert 200 < mine._lease.look_in <= 300
        states = await states_of(mine)
        assert [states[log._lease.worker] for log in left] == [*[WorkerState.LIVE] * 3, *[WorkerState.DEAD] * 2]


async def test_a_worker_that_left_isnt_declared_dead_and_a_dead_one_doesnt_leave(log_url: str, sql: Sql) -> None:
    async with workers(log_url, 3) as (left, dead, other):
        ids = [log._lease.worker for log in (left, dead, other)]
        sql(KILL.format(worker=ids[1]))
        await left.close()
        await dead.close()
        sql(f"UPDATE amends.workers SET expires_at = now() - interval '1 s' WHERE id = '{ids[0]}'")  # noqa: S608 - our own id
        await other._lease.look()
        states = await states_of(other)
        assert [states[worker] for worker in ids] == [WorkerState.LEFT, WorkerState.DEAD, WorkerState.LIVE]


async def test_workers_are_forgotten_a_day_after_they_were_last_heard_of_if_nothing_is_theirs(
    log_url: str, sql: Sql
) -> None:
    async with workers(log_url, 1) as (log,):
        await write(log, start("a"), start("mine"))
        sql("UPDATE amends.runs SET owner = 'has-a-run' WHERE id = 'a'")
        sql(
            "INSERT INTO amends.workers (id, state, expires_at, heard_at, started_at, host, pid) "
            "SELECT id, state, now(), now() - hours * interval '1 h', now() - hours * interval '1 h', '', 1 "
            "FROM (VALUES ('left', 'left', 25), ('dead', 'dead', 25), ('lately', 'dead', 23), "
            "('silent', 'live', 26), ('has-a-run', 'dead', 27)) AS w (id, state, hours)"
        )
        await log.announce([ORDERS])
        assert [each.id for each in await log.workers()] == ["has-a-run", "silent", "lately", log._lease.worker]


async def test_workers_are_listed_by_when_they_began(log_url: str, sql: Sql) -> None:
    """Those that began at once by their ids; each with its own runs."""
    async with workers(log_url, 1) as (log,):
        await write(log, *(start(run) for run in "abc"), start("d", owned=False))
        sql("UPDATE amends.runs SET owner = CASE id WHEN 'a' THEN 'w3' WHEN 'b' THEN 'w1' ELSE owner END")
        sql(
            "INSERT INTO amends.workers (id, state, expires_at, started_at, host, pid) "
            "SELECT id, 'live', now(), to_timestamp(began), '', 1 "
            "FROM (VALUES ('w3', 7), ('w2', 7), ('w1', 7), ('w0', 8)) AS w (id, began)"
        )
        listed = [(each.id, each.started_at, each.runs) for each in await log.workers()]
        assert listed[:4] == [("w1", 7_000_000, 1), ("w2", 7_000_000, 0), ("w3", 7_000_000, 1), ("w0", 8_000_000, 0)]
        assert [(worker, runs) for worker, _, runs in listed[4:]] == [(log._lease.worker, 1)]


async def test_a_worker_whose_lease_is_over_is_listed_as_dead_before_anybody_declares_it(
    log_url: str, sql: Sql
) -> None:
    async with workers(log_url, 2) as (late, other):
        sql(f"UPDATE amends.workers SET expires_at = now() - interval '1 s' WHERE id = '{late._lease.worker}'")  # noqa: S608 - our own id
        states = await states_of(other)
        assert states == {late._lease.worker: WorkerState.DEAD, other._lease.worker: WorkerState.LIVE}
        assert sql("SELECT count(*) FROM amends.workers WHERE state = 'live'") == "2"


async def test_who_listens_is_told_that_a_run_needs_somebody(log_url: str) -> None:
    async with workers(log_url, 2) as (one, other):
        heard = asyncio.Event()
        other._lease.listen(heard.set)
        await write(one, start("a", owned=False, shown=row(due_at=1)))
        await asyncio.wait_for(heard.wait(), 10)


# -- letting go


async def test_others_are_told_of_a_run_that_was_let_go_if_it_is_due(
    log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with workers(log_url, 1) as (log,):
        told = list[int | None]()
        await write(log, start("a"), start("b"), start("c"))
        now = await log._lease.renew()
        assert now is not None
        for run, due_at in (("a", None), ("b", now + 600_000_000), ("c", now - 1)):
            with monkeypatch.context() as patched:
                patched.setattr(log._lease, "tell", functools.partial(told.append, due_at))
                assert await log.release(run, epoch=1, version=1, due_at=due_at)
        assert told == [now - 1]


async def test_a_worker_that_leaves_hands_over_its_own_runs_alone(log_url: str) -> None:
    async with workers(log_url, 2) as (leaving, staying):
        await write(leaving, start("a"))
        await write(staying, start("b"))
        await leaving.close()
        assert (await must_read(staying, "a")).owner is None
        assert (await must_read(staying, "b")).owner == staying._lease.worker


# -- purges


async def test_a_purge_waits_for_nobody(log_url: str) -> None:
    """A run that somebody else is writing is left for the next time."""
    async with workers(log_url, 1) as (log,), connected(log_url) as writing:
        old = row("completed", ended_at=1_000)
        await write(log, *(start(run, owned=False, shown=old) for run in "ab"))
        async with writing.transaction():
            await writing.fetch("SELECT FROM amends.runs WHERE id = 'a' FOR UPDATE")
            assert await asyncio.wait_for(log.purge(ended_before=5_000, limit=10), 10) == 1
        assert [bool((await must_read(log, run)).events) for run in "ab"] == [True, False]


async def test_a_purge_takes_the_oldest_and_leaves_others_of_the_same_tags(log_url: str, sql: Sql) -> None:
    async with workers(log_url, 1) as (log,):
        for run, ended_at in (("young", 3_000), ("oldest", 1_000), ("old", 2_000)):
            shown = row("completed", ended_at=ended_at, current=b'["x"]', stuck=b'["y"]')
            await write(log, start(run, owned=False, shown=shown, tags={"customer": "ann", "shop": "1"}))
        sql("UPDATE amends.runs SET steps = '[1]'")
        assert await log.purge(ended_before=5_000, limit=1) == 1
        purged = await must_read(log, "oldest")
        assert (purged.events, purged.current, purged.steps, purged.stuck, purged.tags) == ((), b"[]", b"[]", b"[]", {})
        assert sql("SELECT format FROM amends.runs WHERE id = 'oldest'") == "0"
        assert sql("SELECT run, name FROM amends.run_tags ORDER BY 1, 2").split() == [
            *("old|customer", "old|shop", "young|customer", "young|shop"),
        ]
        assert [run.run for run in await log.find(Find(tags={"customer": "ann"}))] == ["young", "old"]


async def test_what_was_purged_takes_no_append_and_isnt_purged_again(log_url: str) -> None:
    async with workers(log_url, 1) as (log,):
        await write(log, start("a", owned=False, shown=row("completed", ended_at=1_000)))
        assert [await log.purge(ended_before=5_000, limit=10) for _ in range(2)] == [1, 0]
        for epoch in (None, 1):
            await log.append([append("a", 1, epoch=epoch)])
        assert (await must_read(log, "a")).version == 1
