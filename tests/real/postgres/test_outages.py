"""What the database and the way to it do to us: nothing is lost, nothing is done twice, and what is wrong is said."""

# pyright: reportPrivateUsage=false

import asyncio
import contextlib
import logging
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Generator
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from amends.core.saga.outcomes import Completed
from amends.core.words.errors import LogTooSlow, LogUnavailable, LogUnclear
from amends.logs.postgres import connections, schema
from amends.logs.postgres.connections import DatabaseAddress
from amends.logs.postgres.log import PostgresLog
from amends.orchestrator import Orchestrator
from amends.ports.log import Append, Find, Start, StoredEvent, Written
from amends.ports.runs import Run
from amends.testing.contracts.log_entries import ORDERS, append, must_read, row, start, write
from amends.testing.postgres_server import UNSAFE_AND_QUICK, PostgresServer, Stop, ask
from tests.real.postgres.shop import Shop, order
from tests.real.postgres.support import until, worker_of
from tests.real.postgres.test_workers import SOON, fine
from tests.support.postgres import Databases, Sql
from tests.support.proxy import Cut, Proxy, proxied


def order_digest(runs: Orchestrator) -> bytes:
    (key,) = runs.engine.definitions
    return key.digest.encode()


@contextlib.contextmanager
def small_disk() -> Generator[Path]:
    """A disk in memory of its own size, where this user may have one.

    Not in pytest's folder, which a run that is killed would leave with a disk in it for the next one to trip over.
    """
    folder = Path(tempfile.mkdtemp(prefix="amends-small-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("this user can't have a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


# -- the connection


@pytest_asyncio.fixture
async def way(log_url: str) -> AsyncIterator[tuple[Proxy, str]]:
    async with proxied(log_url) as (proxy, url):
        yield proxy, url


@pytest.mark.parametrize("how", Cut)
async def test_a_batch_whose_connection_is_cut_is_open_and_settled_by_sending_it_again(
    way: tuple[Proxy, str], how: Cut, sql: Sql
) -> None:
    proxy, url = way
    log = PostgresLog(url)
    await log.open()
    await write(log, start("a"))
    batch: list[Start | Append] = [append("a", 1, kinds=("One", "Two")), start("b-cut")]
    proxy.cut_when(b"b-cut", how)
    with pytest.raises(LogUnclear, match="settled by sending it again"):
        await log.append(batch)
    assert proxy.cuts == 1
    written = sql("SELECT count(*) FROM amends.runs WHERE id = 'b-cut'")
    assert written == ("0" if how is Cut.BEFORE else "1"), "it was cut where it was meant to be"
    assert await log.append(batch) == [Written.ACCEPTED] * 2
    assert await log.append(batch) == [Written.ACCEPTED] * 2
    assert [event.kind for event in (await must_read(log, "a")).events] == ["RunStarted", "One", "Two"]
    assert (await must_read(log, "b-cut")).version == 1
    await log.close()


@pytest.mark.parametrize("how", Cut)
@pytest.mark.parametrize("marker", [b"RunStarted", b"ActionSucceeded", b"RunEnded"])
async def test_a_run_ends_once_whenever_its_workers_connection_is_cut(
    way: tuple[Proxy, str], how: Cut, marker: bytes
) -> None:
    proxy, url = way
    shop = Shop()
    async with worker_of(shop, url) as runs:
        proxy.cut_when(marker, how)
        run = await runs.start(order, "o-1", id="o-1")
        assert isinstance(await run.outcome(wait=SOON), Completed)
        assert proxy.cuts == 1
        assert run.is_new
        found = await must_read(runs.engine.log, "o-1")
        assert found.epoch == 1
        assert [event.kind for event in found.events].count("ActionSucceeded") == 3
    assert shop.effects == fine("o-1")
    assert len(shop.asked) == 3, "nothing was even asked twice"


async def test_a_start_of_which_nothing_is_known_is_told_so_and_made_once(
    way: tuple[Proxy, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amends.engine.engine.UNCLEAR_SECONDS", 0.1)
    proxy, url = way
    shop = Shop()
    async with worker_of(shop, url) as runs:
        await (await runs.start(order, "o-0", id="o-0")).outcome(wait=SOON)
        proxy.cut_when(b"o-1", Cut.AFTER)
        proxy.is_deaf = True
        with pytest.raises(LogUnclear):
            await runs.start(order, "o-1", id="o-1")
        with pytest.raises(LogUnavailable, match="can't be reached"):
            await runs.start(order, "o-2", id="o-2")
        proxy.is_deaf = False
        run = await runs.start(order, "o-1", id="o-1")
        assert not run.is_new, "it had been written all along"
        assert isinstance(await run.outcome(wait=SOON), Completed)
    assert shop.effects == fine("o-0") | fine("o-1")


async def test_a_claim_whose_answer_is_lost_on_the_way_is_found_out(way: tuple[Proxy, str], log_url: str) -> None:
    proxy, url = way
    shop = Shop()
    async with worker_of(shop, log_url, runs_max=0) as crowded:
        await crowded.start(order, "o-1", id="o-1")
    async with worker_of(shop, url, runs_max=0) as runs:
        claims = runs.engine._claims
        claims._runs_max = 10
        proxy.cut_when(order_digest(runs), Cut.AFTER)  # which only claims name
        claims.look()
        await until(lambda: proxy.cuts == 1, "the claim's connection is cut")
        assert isinstance(await runs.get("o-1").outcome(wait=SOON), Completed)
    assert shop.effects == fine("o-1")


async def test_visits_and_wake_ups_come_through_after_the_listening_connection_was_cut(
    way: tuple[Proxy, str], log_url: str
) -> None:
    proxy, url = way
    shop = Shop()
    held = shop.hold("o-1 reserve")
    async with worker_of(shop, url, lease=1.0) as driving, worker_of(shop, log_url) as asked:
        await driving.start(order, "o-1", id="o-1")
        await until(lambda: bool(shop.asked), "the call is on its way")
        proxy.cut()
        await asked.cancel("o-1", reason="no longer wanted")
        await until(lambda: driving.engine.worker.runs["o-1"].record.backward, "the owner has read the visit")
        held.set()
        await driving.get("o-1").outcome(wait=SOON)
    assert shop.effects == {"o-1 reserve": 0}


# -- too many of something


async def test_questions_that_find_no_connection_say_so_and_hold_up_nothing_else(
    log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ACQUIRE_SECONDS", 0.05)
    log = PostgresLog(log_url)
    await log.open()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(connections.QUESTIONS_AT_ONCE):
            await stack.enter_async_context(log.questions.use())
        with pytest.raises(LogUnavailable, match="all 4 connections for questions have been busy"):
            await log.read("a")
        await write(log, start("a"))
        assert await log._lease.renew() is not None
    assert (await must_read(log, "a")).version == 1
    await log.close()


async def test_lists_have_connections_of_their_own_and_hold_up_nothing_else(
    log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ACQUIRE_SECONDS", 0.05)
    log = PostgresLog(log_url)
    await log.open()
    await write(log, start("a", owned=False, shown=row(due_at=1)))
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(connections.LISTS_AT_ONCE):
            await stack.enter_async_context(log.lists.use())
        with pytest.raises(LogTooSlow, match="all 2 connections for lists have been busy"):
            await log.find(Find())
        assert (await must_read(log, "a")).version == 1
        assert await log.next_due() == 1
        assert [run.run for run in await log.claim([ORDERS], now=2, limit=1)] == ["a"]
        assert [each.count for each in await log.live()] == [1]
    assert [run.run for run in await log.find(Find())] == ["a"]
    await log.close()


async def test_a_list_that_takes_too_long_is_given_up_by_the_database(
    log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as that, and the connection is used again; other questions have more time."""
    monkeypatch.setattr(connections, "LIST_SECONDS", 0.02)
    log = PostgresLog(log_url)
    await log.open()
    used: list[object] = []

    async def long() -> None:
        async with log.lists.use() as connection:
            used.append(connection)
            await connection.fetch("SELECT pg_sleep(60)")

    for _ in range(2):
        with pytest.raises(LogTooSlow, match=r"a list was given up after 0.02 s\."):
            await long()
    assert used[0] is used[1]
    async with log.questions.use() as other:
        assert await other.fetchval("SHOW statement_timeout") == "0"
    await log.close()


async def test_a_database_without_a_connection_left_says_so_and_is_used_once_it_has(databases: Databases) -> None:
    url = databases.new()
    await schema.apply(url)
    name = urlsplit(url).path.removeprefix("/")
    role = f"few_{name}"
    ask(url, f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 2; GRANT ALL ON SCHEMA amends TO {role}")
    ask(url, f"GRANT ALL ON ALL TABLES IN SCHEMA amends TO {role}")
    few = url.replace("amends@", f"{role}@")
    taken = [await DatabaseAddress(few).connect() for _ in range(2)]
    with pytest.raises(LogUnavailable, match=r"too many connections.*Raise max_connections"):
        await PostgresLog(few).open()
    for each in taken:
        await each.close()
    ask(url, f"ALTER ROLE {role} CONNECTION LIMIT -1")
    log = PostgresLog(few)
    await log.open()
    await write(log, start("a"))
    await log.close()


# -- the server


async def test_a_database_that_turns_read_only_costs_nothing_but_time(
    databases: Databases, pattern: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = databases.new(like=pattern)
    name = urlsplit(url).path.removeprefix("/")
    away = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    shop = Shop()
    held = shop.hold("o-1 reserve")
    async with worker_of(shop, url) as runs:
        await runs.start(order, "o-1", id="o-1")
        await until(lambda: bool(shop.asked), "the call is on its way")
        ask(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        ask(url, away)
        with caplog.at_level(logging.WARNING):
            held.set()
            await until(lambda: "It is read-only: is it a standby?" in caplog.text, "the log line says what is wrong")
        with pytest.raises(LogUnavailable, match="read-only"):
            await runs.start(order, "o-2", id="o-2")
        assert "read-only" in str(runs.engine.trouble)
        ask(databases.url, f"ALTER DATABASE {name} RESET default_transaction_read_only")
        assert isinstance(await runs.get("o-1").outcome(wait=SOON), Completed)
        assert str(runs.engine.trouble) == "None"
    assert shop.effects == fine("o-1")
    assert shop.asked.count("o-1 reserve") == 1


async def test_whoever_has_nothing_to_write_is_ready_again_once_the_database_can_be_written(
    databases: Databases, pattern: str
) -> None:
    url = databases.new(like=pattern)
    name = urlsplit(url).path.removeprefix("/")
    async with worker_of(Shop(), url, lease=2.0) as runs:
        ask(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        ask(
            url,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        with pytest.raises(LogUnavailable, match="read-only"):
            await runs.start(order, "o-1", id="o-1")
        await until(lambda: "read-only" in str(runs.engine.trouble), "it says what is wrong")
        ask(databases.url, f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await until(lambda: runs.engine.trouble is None, "it is ready, though nobody brought it anything to write")


async def test_a_server_that_is_restarted_at_once_again_and_again_loses_and_doubles_nothing(
    own_server: PostgresServer,
) -> None:
    url = own_server.create("orders")
    await schema.apply(url)
    shop = Shop()
    count = 60
    async with worker_of(shop, url) as runs, worker_of(shop, url) as others:

        async def started(n: int) -> Run:
            while True:
                try:
                    return await (runs, others)[n % 2].start(order, f"o-{n}", id=f"o-{n}")
                except LogUnavailable:
                    await asyncio.sleep(0.02)

        async def one(n: int) -> None:
            run = await started(n)
            assert isinstance(await run.outcome(wait=SOON), Completed)

        def has_asked(calls: int) -> bool:
            return len(shop.asked) >= calls

        async def crashes() -> None:
            for calls in (30, 75, 120):
                await until(partial(has_asked, calls), "work is under way")
                await asyncio.to_thread(own_server.restart, Stop.IMMEDIATE)

        async def customers() -> None:
            for first in range(0, count, 10):
                await asyncio.gather(*(one(n) for n in range(first, first + 10)))

        await asyncio.gather(customers(), crashes())
    expected: dict[str, int] = {}
    for n in range(count):
        expected |= fine(f"o-{n}")
    assert shop.effects == expected
    assert (
        ask(url, "SELECT state, count(*) FROM amends.runs WHERE owner IS NULL GROUP BY state") == f"completed|{count}"
    )
    assert "database system was not properly shut down" in own_server.output.read_text("utf-8")


async def test_a_server_out_of_disk_refuses_and_goes_on_once_there_is_room() -> None:
    """The disk is a small one in memory, filled up by the test."""
    with small_disk() as disk, PostgresServer(disk, settings=UNSAFE_AND_QUICK) as server:
        url = server.create("orders")
        await schema.apply(url)
        log = PostgresLog(url)
        await log.open()
        await write(log, start("a"))
        filler = disk / "filler"
        with filler.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 2**16)
                file.flush()

        async def append_until_full() -> None:
            for version in range(1, 200):
                fact = StoredEvent("Big", os.urandom(100_000), 1, 1)
                await write(log, replace(append("a", version, number=version + 5), events=[fact]))
                taken.append(version)

        taken: list[int] = []
        with pytest.raises(LogUnavailable, match=r"Its disk is full\. Make room; the log goes on by itself"):
            await append_until_full()
        assert (await must_read(log, "a")).version == 1 + len(taken), "what was taken is there, and nothing else"
        filler.unlink()

        async def goes_on() -> bool:
            try:
                return (await log.append([start("b")]))[0] is Written.ACCEPTED
            except LogUnavailable:
                return False

        await until(goes_on, "there is room again")
        await log.close()
