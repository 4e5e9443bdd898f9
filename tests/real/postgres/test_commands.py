"""The command line on a log that others work on: looking disturbs nobody, acting is a visit."""

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from amends.core.saga.outcomes import Compensated
from amends.orchestrator import Orchestrator
from amends.ports.clock import SystemClock
from tests.fast.cli.commands import Told, amends
from tests.real.postgres.shop import Shop, order
from tests.real.postgres.support import until, vanish, worker_of
from tests.real.postgres.test_workers import SOON
from tests.support.postgres import Sql

PASSWORD = "hunter2"
HOUR = 3_600_000_000


async def told(folder: Path, *arguments: str) -> Told:
    return await asyncio.to_thread(amends, folder, *arguments)


@asynccontextmanager
async def at_work(url: str) -> AsyncGenerator[tuple[Orchestrator, asyncio.Event]]:
    """A worker whose one order is at its first call, which is answered once the event is set."""
    shop = Shop()
    held = shop.hold("o-1 reserve")
    async with worker_of(shop, url) as runs:
        await runs.start(order, "o-1", id="o-1")
        await until(lambda: bool(shop.asked), "the call is on its way")
        yield runs, held


async def test_a_look_at_a_log_leaves_no_trace_and_a_cancel_is_heard_by_who_drives_the_run(
    tmp_path: Path, log_url: str, sql: Sql
) -> None:
    async with at_work(log_url) as (runs, held):
        listed = await told(tmp_path, "ls", "--json", "--log", log_url)
        assert [each["id"] for each in json.loads(listed.out)["runs"]] == ["o-1"]
        for command in (["show", "o-1"], ["show", "o-1", "--events"], ["stuck"], ["export", "o-1"]):
            seen = await told(tmp_path, *command, "--log", log_url)
            assert (seen.code, seen.err) == (0, ""), command
        assert sql("SELECT count(*) FROM amends.workers") == "1", "who looks is no worker"
        arguments = ("o-1", "--reason", "enough", "--log", log_url, "--load", "tests.real.postgres.shop")
        done = await told(tmp_path, "cancel", *arguments)
        assert done.code == 0, done.err
        held.set()
        assert isinstance(await runs.get("o-1").outcome(wait=SOON), Compensated)
        assert sql("SELECT state, count(*) FROM amends.workers GROUP BY state ORDER BY state") == "left|1\nlive|1"
        assert sql("SELECT epoch FROM amends.runs") == "1", "nobody took it over"


def an_hour_ahead(_: SystemClock) -> int:
    return time.time_ns() // 1_000 + HOUR


async def test_a_person_whose_clock_is_ahead_is_heard_at_once(
    tmp_path: Path, log_url: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked happens at the log's time: by the laptop's the run would be due in an hour, and sleep."""
    async with at_work(log_url) as (runs, held):
        with monkeypatch.context() as ahead:
            ahead.setattr(SystemClock, "now", an_hour_ahead)
            arguments = ("o-1", "--reason", "enough", "--log", log_url, "--load", "tests.real.postgres.shop")
            done = await told(tmp_path, "cancel", *arguments)
        assert done.code == 0, done.err
        at = int(sql("SELECT max(at) FROM amends.events WHERE kind = 'Aborted'"))
        assert abs(at - time.time_ns() // 1_000) < HOUR // 2
        await until(lambda: runs.engine.worker.runs["o-1"].record.backward, "its owner hears of it")
        held.set()
        assert isinstance(await runs.get("o-1").outcome(wait=SOON), Compensated)


async def test_purging_goes_on_beside_workers(tmp_path: Path, log_url: str) -> None:
    shop = Shop()
    async with worker_of(shop, log_url) as runs:
        for n in (1, 2):
            await (await runs.start(order, f"o-{n}", id=f"o-{n}")).outcome(wait=SOON)
        done = await told(tmp_path, "purge", "--older-than", "0s", "--log", log_url)
        assert (done.out[:16], done.err) == ("2 runs forgotten", "")


@pytest.mark.parametrize("command", [["ls"], ["purge", "--older-than", "1d"]], ids=["look", "act"])
def test_a_server_that_isnt_there_is_told_without_the_password(tmp_path: Path, command: list[str]) -> None:
    log = f"postgresql://ann:{PASSWORD}@127.0.0.1:9/orders"
    seen = amends(tmp_path, *command, "--log", log)
    assert seen.code == 1
    assert "postgresql://ann@127.0.0.1:9/orders can't be reached" in seen.err
    assert PASSWORD not in seen.err + seen.out


async def test_a_run_that_no_worker_is_left_for_is_listed_and_told_so(tmp_path: Path, log_url: str) -> None:
    async with at_work(log_url) as (runs, held):
        assert (await told(tmp_path, "ls", "--unclaimable", "--log", log_url)).out.startswith("no runs")
        assert "Nobody needs to act." in (await told(tmp_path, "show", "o-1", "--log", log_url)).out
        await runs.close(grace_seconds=0)
        held.set()
    listed = (await told(tmp_path, "ls", "--unclaimable", "--log", log_url)).out
    assert [line.split()[0] for line in listed.splitlines()] == ["run", "o-1"]
    shown = (await told(tmp_path, "show", "o-1", "--log", log_url)).out
    assert "  now        nobody drives it\n" in shown
    assert "No live worker has order v1: start one that does." in shown
    assert "Nobody needs to act" not in shown


async def test_where_all_workers_were_killed_none_counts_as_live_once_its_lease_is_over(
    tmp_path: Path, log_url: str, sql: Sql
) -> None:
    async with at_work(log_url) as (runs, held):
        await vanish(runs)
        assert "Nobody needs to act." in (await told(tmp_path, "show", "o-1", "--log", log_url)).out
        sql("UPDATE amends.workers SET expires_at = clock_timestamp() - interval '1 s'")
        assert sql("SELECT state FROM amends.workers") == "live", "nobody is there to declare it dead"
        assert "nobody drives it" in (await told(tmp_path, "show", "o-1", "--log", log_url)).out
        held.set()


async def test_workers_are_listed_with_what_is_left_of_their_leases(tmp_path: Path, log_url: str, sql: Sql) -> None:
    assert "no workers: nobody drives runs" in (await told(tmp_path, "workers", "--log", log_url)).out
    async with at_work(log_url) as (_, held), worker_of(Shop(), log_url):
        ids = sql("SELECT id FROM amends.workers ORDER BY started_at").splitlines()
        sql(f"UPDATE amends.workers SET expires_at = clock_timestamp() + interval '1 h 1 min' WHERE id = '{ids[1]}'")  # noqa: S608 - ours
        lines = (await told(tmp_path, "workers", "--log", log_url)).out.splitlines()
        assert lines[0].split() == ["worker", "state", "host", "runs", "lease", "sagas"]
        rows = {line.split()[0]: line for line in lines[1:]}
        assert set(rows) == set(ids)
        assert re.search(r"live +\S+ +1 +\d+ min left +order v1$", rows[ids[0]])
        assert re.search(r"live +\S+ +0 +61 min left +order v1$", rows[ids[1]])
        sql(f"UPDATE amends.workers SET expires_at = clock_timestamp() - interval '90 s' WHERE id = '{ids[0]}'")  # noqa: S608 - ours
        gone = (await told(tmp_path, "workers", "--log", log_url)).out
        assert re.search(rf"{ids[0]} +dead +\S+ +1 +over for \d+ s +order v1\n", gone)
        assert json.loads((await told(tmp_path, "workers", "--json", "--log", log_url)).out)["workers"][0]["runs"] == 1
        held.set()
