"""Several workers on one log: who is gone is replaced, who leaves hands over, and nobody drives what another drives."""

# pyright: reportPrivateUsage=false

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from amends.core.saga.outcomes import Abandoned, Compensated, Completed, Outcome, Stuck
from amends.core.words.errors import AmendsError
from amends.engine.group_commit import HALVED_MIN
from amends.engine.log_clock import LogClock
from amends.logs.postgres.log import PostgresLog
from amends.orchestrator import Orchestrator, open_log
from amends.ports.clock import SystemClock, elapsed
from amends.ports.log import Append, Start, WorkerState, Written
from amends.server.app import application
from amends.server.context import Context
from amends.testing.contracts.log_entries import must_read
from tests.fast.server.asgi import Caller
from tests.real.postgres.shop import Shop, order
from tests.real.postgres.support import until, vanish, worker_of
from tests.support.postgres import Sql

SOON = timedelta(seconds=20)


def log_of(runs: Orchestrator) -> PostgresLog:
    log = runs.engine.log
    assert isinstance(log, PostgresLog)
    return log


def fine(run: str) -> dict[str, int]:
    return {f"{run} reserve": 1, f"{run} pay": 1, f"{run} send": 1}


async def test_a_deadline_begins_at_the_logs_time_however_late_the_clock_of_who_asks_is(
    log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def an_hour_late(_: SystemClock) -> int:
        return time.time_ns() // 1_000 - 3_600_000_000

    monkeypatch.setattr(SystemClock, "now", an_hour_late)
    async with worker_of(Shop(), log_url) as runs:
        run = await runs.start(order, "o-1", id="o-1", deadline=timedelta(minutes=10))
        assert isinstance(await run.outcome(wait=SOON), Completed)
        caller = Caller(application(Context(runs.engine)))
        answer = await caller.start({"saga": "order", "input": "o-2", "id": "o-2", "deadline": 600})
        assert answer.status == 201, answer
        for name in ("o-1", "o-2"):
            deadline = (await must_read(log_of(runs), name)).deadline
            assert deadline is not None
            assert deadline - time.time_ns() // 1_000 == pytest.approx(600_000_000, abs=60_000_000)


async def test_a_run_goes_on_though_the_logs_time_went_back(log_url: str) -> None:
    """As after a fail-over to a server whose clock is behind: the step back is kept out of what this worker goes by."""
    shop = Shop()
    held = shop.hold("o-1 reserve")
    async with worker_of(shop, log_url) as runs:
        await runs.start(order, "o-1", id="o-1")
        await until(lambda: bool(shop.asked), "the call is on its way")
        clock = runs.engine.clock
        assert isinstance(clock, LogClock)
        before = clock.now()
        clock.set(before - 60_000_000, elapsed())
        assert clock.now() >= before
        held.set()
        assert isinstance(await runs.get("o-1").outcome(wait=SOON), Completed)
        assert shop.effects == fine("o-1")


async def test_runs_of_a_worker_that_is_gone_are_finished_by_another_within_the_lease_and_a_bit(log_url: str) -> None:
    shop = Shop()
    held = shop.hold("o-1 pay")
    async with worker_of(shop, log_url, lease=1.0) as survivor:
        async with worker_of(shop, log_url, lease=1.0) as mortal:
            await mortal.start(order, "o-1", id="o-1")
            await until(lambda: "o-1 pay" in shop.asked, "the pivot is asked for")
            died = time.monotonic()
            await vanish(mortal)
        held.set()
        assert isinstance(await survivor.get("o-1").outcome(wait=SOON), Completed)
        took = time.monotonic() - died
        assert shop.effects == fine("o-1")
        found = await must_read(log_of(survivor), "o-1")
        assert found.epoch == 2, "it was adopted, once"
        assert took < 1.0 + 2.0, "within the lease and two seconds"
        states = [each.state for each in await log_of(survivor).workers()]
        assert sorted(states) == [WorkerState.DEAD, WorkerState.LIVE]


@pytest.mark.parametrize(("in_url", "seconds"), [("", 1.5), ("?lease_seconds=2.5", 2.5)], ids=["settings", "both"])
async def test_the_lease_is_set_with_the_other_settings_and_the_url_wins(
    log_url: str, sql: Sql, tmp_path: Path, in_url: str, seconds: float
) -> None:
    file = tmp_path / "amends.toml"
    file.write_text('[engine]\nlease = "1500ms"\n')
    shop = Shop()
    async with Orchestrator([order], log=f"{log_url}{in_url}", routes=shop.routes, settings=str(file)) as runs:
        lease = runs.engine.log.lease
        assert lease is not None
        assert lease.seconds == seconds
        lasts = "SELECT extract(epoch FROM expires_at - heard_at) FROM amends.workers"
        assert float(sql(lasts)) == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize("seconds", [0.01, 3_601.0])
def test_a_lease_that_makes_no_sense_is_refused(seconds: float) -> None:
    with pytest.raises(AmendsError, match=f"a lease of {seconds:g} s: expected a number of seconds from 0.1 to 3600"):
        open_log("postgresql://localhost/orders", lease_seconds=seconds)


async def test_a_worker_that_leaves_hands_over_at_once_and_waits_for_no_lease(log_url: str) -> None:
    shop = Shop()
    held = shop.hold("o-1 reserve")
    async with worker_of(shop, log_url) as staying:
        async with worker_of(shop, log_url) as leaving:
            await leaving.start(order, "o-1", id="o-1")
            await until(lambda: "o-1 reserve" in shop.asked, "the first call is on its way")
            began = time.monotonic()
            await leaving.close(grace_seconds=0.1)
        await until(lambda: "o-1" in staying.engine.worker.runs, "the other one has it")
        assert time.monotonic() - began < 3
        held.set()
        assert isinstance(await staying.get("o-1").outcome(wait=SOON), Completed)
        assert shop.effects == fine("o-1")
        assert sorted(each.state for each in await log_of(staying).workers()) == [WorkerState.LEFT, WorkerState.LIVE]


async def test_a_slow_call_keeps_only_its_own_run_from_being_handed_over(log_url: str) -> None:
    """Others go on elsewhere while the leaving process still waits for that one answer."""
    shop = Shop()
    slow = shop.hold("o-slow reserve")
    async with (
        worker_of(shop, log_url) as staying,
        worker_of(shop, log_url) as leaving,
    ):
        held = shop.hold("o-1 reserve")
        await leaving.start(order, "o-slow", id="o-slow")
        await leaving.start(order, "o-1", id="o-1")
        await until(lambda: len(shop.asked) == 2, "both calls are on their way")
        closing = asyncio.create_task(leaving.close(grace_seconds=30))
        held.set()
        assert isinstance(await staying.get("o-1").outcome(wait=SOON), Completed)
        assert not closing.done(), "it still waits for the slow one"
        slow.set()
        await closing
        assert isinstance(await staying.get("o-slow").outcome(wait=SOON), Completed)
        assert shop.effects == fine("o-1") | fine("o-slow")
        assert shop.asked.count("o-slow reserve") == 1, "its answer was written before it was handed over"


async def test_what_a_person_asks_at_one_worker_reaches_the_one_that_drives(log_url: str) -> None:
    shop = Shop()
    held = shop.hold("o-1 reserve")
    async with worker_of(shop, log_url) as driving, worker_of(shop, log_url) as asked:
        await driving.start(order, "o-1", id="o-1")
        await until(lambda: bool(shop.asked), "the call is on its way")
        await asked.cancel("o-1", reason="changed my mind")
        held.set()
        outcome = await driving.get("o-1").outcome(wait=SOON)
        assert isinstance(outcome, Compensated)
        assert outcome.reason == "cancelled: changed my mind"
        assert isinstance(await asked.get("o-1").outcome(wait=SOON), Compensated)
        assert shop.effects == {"o-1 reserve": 0}
        assert (await must_read(log_of(asked), "o-1")).epoch == 1, "nobody took it over"


async def test_a_worker_with_all_its_places_taken_leaves_new_runs_to_the_others(log_url: str) -> None:
    shop = Shop()
    held = shop.hold("o-1 reserve")
    async with (
        worker_of(shop, log_url, runs_max=1) as crowded,
        worker_of(shop, log_url) as idle,
    ):
        await crowded.start(order, "o-1", id="o-1")
        await crowded.start(order, "o-2", id="o-2")
        assert isinstance(await crowded.get("o-2").outcome(wait=SOON), Completed)
        assert (await must_read(log_of(idle), "o-2")).epoch == 2, "the idle one took it"
        held.set()
        assert isinstance(await idle.get("o-1").outcome(wait=SOON), Completed)


async def test_a_worker_that_overslept_sends_nothing_and_begins_anew(log_url: str, sql: Sql) -> None:
    """It was declared dead, its run adopted and finished; what it still holds is refused, and it works on."""
    shop = Shop()
    first = shop.hold("o-1 reserve")
    async with worker_of(shop, log_url, lease=1.0) as sleeper:
        await sleeper.start(order, "o-1", id="o-1")
        await until(lambda: bool(shop.asked), "the call is on its way")
        keeper = sleeper.engine._lease
        assert keeper is not None
        assert keeper.may_send()
        keeper._confirmed = keeper._elapsed() - 1.0  # as if it had been stopped for as long as its lease
        assert not keeper.may_send()
        first.set()
        await until(lambda: bool(sleeper.engine.worker.calls.held), "the next call is held at the gate")
        assert "o-1 pay" not in shop.asked
        sql("UPDATE amends.workers SET state = 'dead'")
        async with worker_of(shop, log_url, lease=1.0) as adopter:
            assert isinstance(await adopter.get("o-1").outcome(wait=SOON), Completed)
            await until(lambda: keeper.lost_times == 1, "the sleeper hears that it was declared dead")
            assert "o-1" not in sleeper.engine.worker.runs
            await until(keeper.may_send, "it is alive again, as another")
            await sleeper.start(order, "o-2", id="o-2")
            assert isinstance(await sleeper.get("o-2").outcome(wait=SOON), Completed)
        assert shop.effects == fine("o-1") | fine("o-2")
        assert [each.state for each in await log_of(sleeper).workers()].count(WorkerState.LIVE) == 1


async def test_calls_held_at_the_gate_leave_when_the_lease_is_confirmed_again(log_url: str) -> None:
    shop = Shop()
    first = shop.hold("o-1 reserve")
    async with worker_of(shop, log_url, lease=1.0) as runs:
        await runs.start(order, "o-1", id="o-1")
        await until(lambda: bool(shop.asked), "the call is on its way")
        keeper = runs.engine._lease
        assert keeper is not None
        keeper._confirmed = keeper._elapsed() - 1.0
        first.set()
        await until(lambda: bool(runs.engine.worker.calls.held), "the next call is held at the gate")
        assert isinstance(await runs.get("o-1").outcome(wait=SOON), Completed)
        assert shop.effects == fine("o-1")
        assert keeper.lost_times == 0
        assert (await must_read(log_of(runs), "o-1")).epoch == 1


async def test_an_answer_on_its_way_at_adoption_is_replayed_to_the_adopter(log_url: str, sql: Sql) -> None:
    """The adopter sends the same key; the participant acts once; what the former owner heard is refused by the log."""
    shop = Shop()
    held = shop.hold("o-1 reserve")
    async with worker_of(shop, log_url) as former:
        await former.start(order, "o-1", id="o-1")
        await until(lambda: bool(shop.asked), "the call is on its way")
        sql("UPDATE amends.workers SET state = 'dead'")
        async with worker_of(shop, log_url) as adopter:
            await until(lambda: "o-1" in adopter.engine.worker.runs, "it is adopted")
            held.set()
            assert isinstance(await adopter.get("o-1").outcome(wait=SOON), Completed)
            await until(lambda: "o-1" not in former.engine.worker.runs, "the former owner is told by the log")
        assert shop.effects == fine("o-1")


async def test_a_claim_whose_answer_was_lost_leaves_no_run_behind(log_url: str, sql: Sql) -> None:
    shop = Shop()
    async with worker_of(shop, log_url, lease=1.0) as runs:
        await runs.start(order, "o-1", id="o-1")
        await runs.get("o-1").outcome(wait=SOON)
        me = log_of(runs)._lease.worker
        hold = shop.hold("o-2 reserve")
        await runs.start(order, "o-2", id="o-2")
        await until(lambda: "o-2 reserve" in shop.asked, "the call is on its way")
        driven = runs.engine.worker.runs["o-2"]
        runs.engine.worker._drop(driven)  # as if this worker had never heard that it has it
        hold.set()
        assert isinstance(await runs.get("o-2").outcome(wait=SOON), Completed)
        assert shop.effects == fine("o-1") | fine("o-2")
        assert sql(f"SELECT count(*) FROM amends.runs WHERE owner = '{me}'") == "0"  # noqa: S608 - our own id


async def test_a_run_that_is_started_during_the_look_for_strays_is_none(log_url: str) -> None:
    """The look waits for its connection, and the run becomes durable meanwhile: it is ours, and stays so."""
    shop = Shop()
    held = shop.hold("o-1 reserve")
    async with worker_of(shop, log_url) as runs:
        claims, lease = runs.engine._claims, log_of(runs)._lease
        async with lease._link.use():
            claims._strays_due = 0.0
            claims.look()
            await until(lambda: claims._strays_due > 0.0, "the look has begun")
            await runs.start(order, "o-1", id="o-1")
        await lease.renew()  # it is behind the look, on the same connection
        await until(lambda: "o-1 reserve" in shop.asked, "the call is on its way")
        found = await must_read(log_of(runs), "o-1")
        assert (found.owner, found.epoch) == (lease.worker, 1)
        held.set()
        assert isinstance(await runs.get("o-1").outcome(wait=SOON), Completed)
        assert (await must_read(log_of(runs), "o-1")).epoch == 1, "nobody took it over"


async def test_a_run_that_its_owners_die_of_is_left_to_a_person_who_can_have_it_tried_again(
    log_url: str, sql: Sql
) -> None:
    shop = Shop()
    hold = shop.hold("o-1 reserve")
    async with worker_of(shop, log_url) as runs:
        await runs.start(order, "o-1", id="o-1")
        await until(lambda: bool(shop.asked), "the call is on its way")
        await vanish(runs)
    sql("UPDATE amends.runs SET claims = 4; UPDATE amends.workers SET state = 'dead'")
    async with worker_of(shop, log_url) as runs:
        outcome = await runs.get("o-1").outcome(wait=SOON)
        assert isinstance(outcome, Stuck)
        found = await must_read(log_of(runs), "o-1")
        assert (found.state, found.owner, found.due_at) == ("stuck", None, None)
        assert b'"reason":"crash-loop"' in found.stuck
        assert found.events[-1].kind == "Quarantined"
        hold.set()
        await runs.retry("o-1", reason="the bug is mended")
        assert isinstance(await settled(runs, "o-1"), Completed)
        assert shop.effects == fine("o-1")


async def settled(runs: Orchestrator, run: str) -> Outcome:
    """The outcome once the run has ended: it is stuck before, and that is an outcome, too."""
    last: list[Outcome] = []

    async def ended() -> bool:
        last[:] = [await runs.get(run).outcome(wait=timedelta(0))]
        return isinstance(last[0], Completed | Compensated | Abandoned)

    await until(ended, f"{run} ends")
    return last[0]


async def test_a_run_whose_history_cant_be_read_is_left_to_a_person_and_the_others_go_on(
    log_url: str, sql: Sql
) -> None:
    shop = Shop()
    held = [shop.hold(f"o-{n} reserve") for n in (1, 2)]
    async with worker_of(shop, log_url) as runs:
        for n in (1, 2):
            await runs.start(order, f"o-{n}", id=f"o-{n}")
        await until(lambda: len(shop.asked) == 2, "the calls are on their way")
        await runs.close(grace_seconds=0)
    sql("UPDATE amends.events SET body = 'no json' WHERE run = 'o-1'")
    for each in held:
        each.set()
    async with worker_of(shop, log_url) as runs:
        assert isinstance(await runs.get("o-2").outcome(wait=SOON), Completed)
        await until(lambda: sql("SELECT state FROM amends.runs WHERE id = 'o-1'") == "stuck", "o-1 is stuck")
        assert sql("SELECT reason FROM amends.stuck_steps") == "unreadable"
        assert sql("SELECT coalesce(owner, 'nobody') FROM amends.runs WHERE id = 'o-1'") == "nobody"


async def test_suspects_are_driven_one_after_the_other(log_url: str, sql: Sql) -> None:
    shop = Shop()
    held = [shop.hold(f"o-{n} reserve") for n in range(4)]
    async with worker_of(shop, log_url) as runs:
        for n in range(4):
            await runs.start(order, f"o-{n}", id=f"o-{n}")
        await until(lambda: len(shop.asked) == 4, "the calls are on their way")
        await vanish(runs)
    sql("UPDATE amends.runs SET claims = 1; UPDATE amends.workers SET state = 'dead'")
    async with worker_of(shop, log_url) as runs:
        for _ in held:
            await until(lambda: len(runs.engine.worker.runs) == 1, "one of them is driven")
            (run,) = runs.engine.worker.runs
            owned = sql(
                "SELECT count(*) FROM amends.runs WHERE owner IN (SELECT id FROM amends.workers WHERE state = 'live')"
            )
            assert owned == "1", "the others wait"
            held[int(run.removeprefix("o-"))].set()
            assert isinstance(await runs.get(run).outcome(wait=SOON), Completed)
        assert shop.effects == fine("o-0") | fine("o-1") | fine("o-2") | fine("o-3")


async def test_one_half_of_what_comes_at_once_is_written_while_the_other_is_decided(
    log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    append = PostgresLog.append

    async def noted(log: PostgresLog, batch: Sequence[Start | Append]) -> Sequence[Written]:
        batches.append(len(batch))
        return await append(log, batch)

    monkeypatch.setattr(PostgresLog, "append", noted)
    shop = Shop()
    async with worker_of(shop, log_url) as runs:
        started = await asyncio.gather(*(runs.start(order, f"o-{n}", id=f"o-{n}") for n in range(2 * HALVED_MIN)))
        for run in started:
            assert isinstance(await run.outcome(wait=SOON), Completed)
    assert batches[:2] == [HALVED_MIN, HALVED_MIN]
