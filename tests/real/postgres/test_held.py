"""Others' locks, and commits that wait for others: what has to wait for them waits, and nothing beside it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from amends.core.saga.outcomes import Completed
from amends.core.words.errors import LogUnavailable, LogUnclear
from amends.logs.postgres import connections, schema
from amends.logs.postgres.connections import Connection
from amends.logs.postgres.log import PostgresLog
from amends.ports.log import Written
from amends.testing.contracts.log_entries import append, start, write
from amends.testing.postgres_server import PostgresServer, ask
from tests.real.postgres.shop import Shop, order
from tests.real.postgres.support import connected, is_waiting, until, worker_of, workers
from tests.real.postgres.test_workers import SOON, fine

CANCEL = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
"""What gives up waiting for a standby; a crash of the server does it as well."""


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.SETTINGS, "lock_timeout", "150ms")


@asynccontextmanager
async def holding(url: str, sql: str) -> AsyncGenerator[Connection]:
    """A session that has done something and not committed yet."""
    async with connected(url) as connection, connection.transaction():
        await connection.execute(sql)
        yield connection


async def test_a_row_that_somebody_holds_on_to_keeps_only_its_own_run_waiting(
    log_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with workers(log_url, 1) as (log,), connected(log_url) as watcher:
        await write(log, start("a"), start("b"))
        async with holding(log_url, "SELECT FROM amends.runs WHERE id = 'a' FOR UPDATE"):
            writing = asyncio.create_task(log.append([append("a", 1), append("b", 1)]))
            await until(lambda: is_waiting(watcher), "the batch waits for the row")
            assert await writing == [Written.HELD, Written.ACCEPTED]
            assert await log.append([append("a", 1), start("c")]) == [Written.HELD, Written.ACCEPTED]
            assert await log.append([append("a", 1)]) == [Written.HELD]
        assert await log.append([append("a", 1), append("c", 1)]) == [Written.ACCEPTED] * 2
    said = [each.getMessage() for each in caplog.records if each.name == "amends.logs.postgres"]
    assert len(said) == 2
    assert "(55P03)" in said[0]
    assert "It is about a: they wait, the others go on" in said[0]
    assert said[1] == "nobody holds on to a any more"


async def test_runs_end_while_somebody_holds_on_to_the_row_of_one(log_url: str) -> None:
    shop = Shop()
    async with worker_of(shop, log_url) as runs:
        paid = shop.hold("o-1 pay")
        kept = await runs.start(order, "o-1", id="o-1")
        await until(lambda: "o-1 pay" in shop.asked, "the first order is under way")
        async with holding(log_url, "SELECT FROM amends.runs WHERE id = 'o-1' FOR UPDATE"):
            paid.set()
            for name in ("o-2", "o-3"):
                assert isinstance(await (await runs.start(order, name, id=name)).outcome(wait=SOON), Completed)
            assert runs.engine.trouble is None
            assert "o-1 send" not in shop.asked, "nobody heard that the first order is paid"
        assert isinstance(await kept.outcome(wait=SOON), Completed)
    assert shop.effects == fine("o-1") | fine("o-2") | fine("o-3")


async def test_a_worker_that_ends_while_somebody_holds_on_to_a_row_leaves_the_run_to_the_next(log_url: str) -> None:
    shop = Shop()
    async with holding(log_url, "SELECT 1") as other:
        async with worker_of(shop, log_url) as runs:
            paid = shop.hold("o-1 pay")
            await runs.start(order, "o-1", id="o-1")
            await until(lambda: "o-1 pay" in shop.asked, "the order is under way")
            await other.execute("SELECT FROM amends.runs WHERE id = 'o-1' FOR UPDATE")
            paid.set()
            await until(lambda: runs.engine.appends_waiting == 1, "its append is put off")
        assert ask(log_url, "SELECT state FROM amends.runs") == "running"
    async with worker_of(shop, log_url) as runs:
        assert isinstance(await runs.get("o-1").outcome(wait=SOON), Completed)
    assert shop.effects == fine("o-1")


async def test_a_table_that_somebody_has_locked_is_told_as_that(log_url: str) -> None:
    async with workers(log_url, 1) as (log,):
        async with holding(log_url, "LOCK TABLE amends.runs IN SHARE MODE"):
            with pytest.raises(LogUnavailable, match=r"\(55P03\)\. Another session has locked a table or a row"):
                await log.append([start("a")])
        assert await log.append([start("a")]) == [Written.ACCEPTED]


async def test_what_was_given_up_while_it_waited_for_a_standby_is_not_taken_for_safe_before_the_standby_has_it(
    own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "STATEMENT_SECONDS", 0.5)
    url = own_server.create("orders")
    await schema.apply(url)
    async with workers(f"{url}?lease_seconds=600", 1) as (log,):
        assert isinstance(log, PostgresLog)
        ask(url, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        ask(url, "SELECT pg_reload_conf()")
        await until(lambda: ask(url, "SHOW synchronous_standby_names") == "nobody", "commits wait for a standby")
        with pytest.raises(LogUnclear):
            await log.append([start("a")])
        assert ask(url, CANCEL) == "1", "it waits for the standby"
        await until(lambda: ask(url, "SELECT count(*) FROM amends.runs") == "1", "it is here, and nowhere else")
        with pytest.raises(LogUnclear):
            await log.append([start("a")])
        ask(url, "ALTER SYSTEM RESET synchronous_standby_names")
        ask(url, "SELECT pg_reload_conf()")
        await until(lambda: ask(url, "SHOW synchronous_standby_names") == "", "nobody waits any more")
        assert await log.append([start("a")]) == [Written.ACCEPTED]


async def test_sessions_are_set_up_whatever_the_url_says_of_them(log_url: str) -> None:
    async with connected(f"{log_url}?application_name=orders") as connection:
        assert await connection.fetchval("SHOW application_name") == "orders"
        for name, value in connections.SETTINGS.items():
            found = await connection.fetchval(f"SHOW {name}")
            assert found == value, name
    async with connected(log_url) as connection:
        assert await connection.fetchval("SHOW application_name") == "amends"
