"""A worker process that is stopped for longer than its lease, with runs in its hands, and woken again."""

# pyright: reportPrivateUsage=false

import asyncio
import signal

from amends.testing.postgres_server import ask
from tests.real.postgres.storm import Told, Workers, _customer, _front, _has_work, _judge, _progress
from tests.real.postgres.support import until
from tests.real.postgres.worker_process import make_tables
from tests.support.postgres import Databases

LEASE_SECONDS = 1.0
CUSTOMERS = 12


async def stopped_with_runs(log: str, process: asyncio.subprocess.Process) -> tuple[str, int]:
    """Stop it while it drives runs; its worker's id, and how many it had."""
    while True:
        await _has_work(log, process)
        process.send_signal(signal.SIGSTOP)
        held = ask(log, f"SELECT owner, count(*) FROM amends.runs WHERE owner LIKE '{process.pid}-%' GROUP BY owner")  # noqa: S608 - a number
        if held:
            worker, _, count = held.partition("|")
            return worker, int(count)
        process.send_signal(signal.SIGCONT)


async def test_a_worker_stopped_past_its_lease_loses_its_runs_to_the_others_and_comes_back_as_another(
    databases: Databases, pattern: str
) -> None:
    log, shop = databases.new(like=pattern), databases.new()
    await make_tables(shop)
    workers, told, over = Workers(f"{log}?lease_seconds={LEASE_SECONDS}", shop, 2), Told(), asyncio.Event()
    await workers.start()

    def state(worker: str) -> str:
        return ask(log, f"SELECT state FROM amends.workers WHERE id = '{worker}'")  # noqa: S608 - our own id

    try:
        async with _front(log) as front:
            customers = [asyncio.create_task(_customer(front, n, CUSTOMERS, over, told)) for n in range(CUSTOMERS)]
            sleeper, _ = [await workers.one_at_work(place) for place in range(2)]
            worker, count = await stopped_with_runs(log, sleeper)
            assert count
            await until(lambda: state(worker) == "dead", "its lease is over, and the other one says so")
            mine = f"SELECT count(*) FROM amends.runs WHERE owner = '{worker}'"  # noqa: S608 - our own id
            await until(lambda: ask(log, mine) == "0", "the other one takes its runs")
            assert int(ask(log, "SELECT count(*) FROM amends.runs WHERE epoch > 2")) >= count, "each was adopted"
            sleeper.send_signal(signal.SIGCONT)
            again = f"SELECT count(*) FROM amends.workers WHERE pid = {sleeper.pid} AND state = 'live'"  # noqa: S608 - a number
            await until(lambda: ask(log, again) == "1", "it is there again, under another name")
            assert state(worker) == "dead", "for good"
            await _has_work(log, sleeper)
            await _progress(told, 1)
            over.set()
            await asyncio.gather(*customers)
            unfinished = "SELECT count(*) FROM amends.runs WHERE ended_at IS NULL"
            await until(lambda: ask(log, unfinished) == "0", "every order ends")
        assert sleeper.returncode is None, "it was never started anew"
    finally:
        over.set()
        await workers.stop()
    _judge(log, shop, told)
