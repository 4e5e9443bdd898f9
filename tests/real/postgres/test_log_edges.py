"""What the PostgreSQL log does when its database fails it at a certain word: on a connection that is only played.

`tests/real/postgres` has the real server and real outages; which word an outage hits there is a matter of luck.
"""

# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from amends.core.words.errors import AmendsError, LogUnavailable, LogUnclear
from amends.logs.postgres import lease as lease_module
from amends.logs.postgres import schema
from amends.logs.postgres.batches import arrays
from amends.logs.postgres.connections import DatabaseAddress, Link
from amends.logs.postgres.failures import StatementRefused, shown, told
from amends.logs.postgres.lease import Lease
from amends.logs.postgres.log import TRIES_MAX, PostgresLog
from amends.logs.postgres.reader import PostgresReader
from amends.logs.postgres.statements import SQL
from amends.testing.contracts.log_entries import row, start

URL = "postgresql://ann@there/shop?lease_seconds=2"


class Played:
    """A connection that answers what it is told to, or fails at a statement as often as it is told to."""

    def __init__(self) -> None:
        self.faults: dict[str, list[Exception]] = {}
        self.answers: dict[str, Any] = {}
        self.said: list[str] = []
        self.terminated = self.closed = False
        self.hangs = ""
        self.hanging = asyncio.Event()

    def fails(self, what: str, *errors: Exception) -> None:
        self.faults[what] = [*errors]

    async def execute(self, sql: str, *_: object, **__: object) -> Any:  # noqa: ANN401 - a driver's answers have no type
        self.said.append(sql)
        await asyncio.sleep(0)
        if sql == self.hangs:
            self.hanging.set()
            await asyncio.Event().wait()
        if self.faults.get(sql):
            raise self.faults[sql].pop(0)
        return self.answers.get(sql)

    fetch = fetchval = fetchrow = set_type_codec = add_listener = execute

    async def close(self, **_: object) -> None:
        await self.execute("close")
        self.closed = True

    def get_settings(self) -> SimpleNamespace:
        return SimpleNamespace(server_encoding="UTF8")

    def is_closed(self) -> bool:
        return self.closed or self.terminated

    def terminate(self) -> None:
        self.terminated = True


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    """The one connection that there is."""
    played = Played()
    played.answers = {schema.IS_THERE: True, schema.VERSION: schema.LATEST, SQL["reap"]: [], SQL["refused"]: []}

    async def connect(*_: object, **__: object) -> Played:
        return played

    monkeypatch.setattr(asyncpg, "connect", connect)
    return played


def lost() -> Exception:
    return OSError("connection lost")


def refused(state: str) -> Exception:
    """The driver's own error for this SQLSTATE."""
    made: Exception = asyncpg.PostgresError.new({"C": state, "M": "no"})
    return made


# -- connections


async def test_a_connection_that_can_not_be_set_up_is_let_go_of(played: Played) -> None:
    played.fails("json", lost())
    with pytest.raises(LogUnavailable, match="ann@there/shop can't be reached: connection lost"):
        await DatabaseAddress(URL).connect()
    assert played.terminated


async def test_a_connection_whose_first_words_fail_is_let_go_of(played: Played) -> None:
    async def made(_connection: object) -> None:
        raise lost()

    link = Link(DatabaseAddress(URL), made)
    with pytest.raises(LogUnavailable, match="isn't open"):
        async with link.use():
            raise AssertionError
    link.open()
    with pytest.raises(LogUnavailable, match="can't be reached"):
        async with link.use():
            raise AssertionError
    assert played.terminated
    await link.close()


@pytest.mark.parametrize("error", [lost(), TimeoutError(), asyncpg.InterfaceError("gone"), refused("57P01")])
async def test_taking_leave_of_a_server_that_is_gone_is_no_error(played: Played, error: Exception) -> None:
    link = Link(DatabaseAddress(URL))
    link.open()
    async with link.use() as connection:
        await connection.execute("select 1")
    assert played.said == ["json", *played.said[1:-1], "select 1"]
    played.fails("close", error)
    await link.close()
    assert played.terminated
    assert not played.faults["close"]
    await link.close()


@pytest.mark.parametrize("state", ["22003", "23505"])
def test_a_value_that_a_column_can_not_take_is_its_callers_mistake(state: str) -> None:
    error = refused(state)
    with pytest.raises(asyncpg.PostgresError) as raised, told("there"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("run", ["a\x1fb", ""])
def test_a_text_that_would_shift_the_others_of_its_batch_is_refused(run: str) -> None:
    """Texts of one column are sent as one, with a separator between them."""
    with pytest.raises(ValueError, match="empty or hold a control character"):
        arrays([start(run)])


def test_json_can_not_hold_the_separator_of_its_batch() -> None:
    kept = arrays([start("a", shown=row(current=b'["\\u001f"]')), start("b")])
    assert "a\x1fb" in kept
    assert '["\\u001f"]\x1f[]' in kept


def test_a_log_whose_url_can_not_be_read_is_refused_as_such() -> None:
    with pytest.raises(AmendsError, match="the log's URL can't be read"):
        DatabaseAddress("postgresql://ann@[::1/shop")


def test_what_is_no_url_is_told_without_a_word_of_it() -> None:
    with pytest.raises(AmendsError, match="the log's URL can't be read: Invalid IPv6 URL") as raised:
        shown("postgresql://ann:secret@[::1/orders")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("state", "says"), [("25006", "read-only"), ("26000", "a pooler in between"), ("42P05", "a pooler in between")]
)
async def test_a_connection_that_can_not_do_it_any_more_is_made_anew(played: Played, state: str, says: str) -> None:
    log = await opened(played)
    played.fails(SQL["write"], refused(state))
    with pytest.raises(LogUnavailable, match=says) as raised:
        await log.append([start("a")])
    assert not isinstance(raised.value, LogUnclear), "it wasn't written"
    assert played.terminated
    played.terminated = False
    await log.close()


async def test_a_pooler_that_refuses_our_settings_is_told_as_one(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not played.said

    async def connect(*_: object, **__: object) -> None:
        raise refused("08P01")

    monkeypatch.setattr(asyncpg, "connect", connect)
    with pytest.raises(LogUnavailable, match=r"a pooler in between.*must pool sessions"):
        await PostgresLog(URL).open()


# -- the lease


async def test_a_worker_that_can_not_join_leaves_nothing_open(played: Played) -> None:
    played.fails(SQL["join"], refused("57P03"))
    lease = Lease(DatabaseAddress(URL))
    with pytest.raises(StatementRefused, match="starting or stopping"):
        await lease.join()
    assert played.closed
    assert not lease.worker


async def test_after_an_outage_the_others_get_the_time_of_a_lease_before_they_are_taken_for_gone(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, heard = Lease(DatabaseAddress(URL)), list[int]()

    def next_look() -> float | None:
        return lease.look_in

    lease.listen(lambda: heard.append(1))
    await lease.join()
    played.answers[SQL["reap"]] = [("other", None), (None, 0.7)]
    heard.clear()
    await lease.renew()
    assert heard == [1], "a steady database: who is late is gone"
    assert next_look() == 0.7, "and the next one's lease is over then"
    played.fails(SQL["heartbeat"], refused("57P03"))
    with pytest.raises(StatementRefused):
        await lease.renew()
    assert next_look() is None
    await lease.renew()
    assert (heard, next_look()) == ([1], None)
    loop = asyncio.get_running_loop()
    later = loop.time() + 2
    monkeypatch.setattr(loop, "time", lambda: later)
    await lease.renew()
    assert heard == [1, 1]
    monkeypatch.undo()


@pytest.mark.parametrize(("error", "looks"), [(refused("55P03"), 1), (lost(), 0)], ids=["refused", "lost"])
async def test_a_heartbeat_counts_though_it_can_not_be_seen_who_is_gone(
    played: Played, error: Exception, looks: int
) -> None:
    """A held row says nothing about the others; a lost connection may be an outage, in which they couldn't renew."""
    lease = Lease(DatabaseAddress(URL))
    await lease.join()
    played.answers |= {SQL["heartbeat"]: 9_000, SQL["reap"]: []}
    await lease.renew()
    played.fails(SQL["reap"], error)
    assert await lease.renew() == 9_000
    assert not played.faults[SQL["reap"]], "it failed"
    played.terminated = False
    played.said.clear()
    assert await lease.renew() == 9_000
    assert played.said.count(SQL["reap"]) == looks


async def test_what_can_not_be_handed_over_is_left_to_the_lease(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    lease = Lease(DatabaseAddress(URL))
    await lease.join()
    played.fails(SQL["hand_over"], lost())
    await lease.leave()
    assert "runs can't be handed over" in caplog.text
    assert played.terminated


async def test_what_can_not_be_told_is_seen_by_others_when_they_look(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    lease = Lease(DatabaseAddress(URL))
    await lease.join()
    played.fails(SQL["notify"], lost())
    lease.tell()
    lease.tell()
    await lease.leave()
    assert "others weren't told" in caplog.text


async def _told(log: PostgresLog) -> None:
    log._lease.tell()
    assert log._lease._telling is not None
    await log._lease._telling


HANGING: dict[str, Callable[[PostgresLog], Awaitable[object]]] = {
    "notify": _told,
    "owned": lambda log: log._lease.let_go_of_strays(set, 0),
    "announce": lambda log: log.announce([]),
    "reap": lambda log: log._lease.look(),
}


@pytest.mark.parametrize("statement", HANGING)
async def test_what_hangs_on_the_leases_connection_holds_up_no_heartbeat(
    played: Played, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a connection that a firewall has forgotten: nothing comes back, not even an error."""
    monkeypatch.setattr(lease_module, "BRIEF_SECONDS_MIN", 0.05)
    log = PostgresLog("postgresql://ann@there/shop?lease_seconds=0.3")
    await log.open()
    played.answers[SQL["heartbeat"]] = 1
    played.hangs = SQL[statement]
    asked = asyncio.ensure_future(HANGING[statement](log))
    await played.hanging.wait()
    beat = asyncio.create_task(log._lease.renew())
    async with asyncio.timeout(5):
        (came,) = await asyncio.gather(asked, return_exceptions=True)
    assert came is None or isinstance(came, LogUnclear)
    assert played.terminated
    played.terminated, played.hangs = False, ""
    assert await beat == 1
    await log.close()


# -- the log


async def test_a_log_that_can_not_join_is_not_open(played: Played) -> None:
    played.fails(SQL["join"], refused("57P03"))
    log = PostgresLog(URL)
    with pytest.raises(StatementRefused):
        await log.open()
    with pytest.raises(LogUnavailable, match="isn't open"):
        await log.count()
    await log.close()


async def opened(played: Played) -> PostgresLog:
    log = PostgresLog(URL)
    await log.open()
    played.said.clear()
    return log


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_what_was_rolled_back_for_anothers_sake_is_sent_again_at_once_but_not_for_ever(
    played: Played, state: str
) -> None:
    log = await opened(played)
    played.answers[SQL["write"]] = [("a",)]
    played.fails(SQL["write"], *(refused(state) for _ in range(TRIES_MAX - 1)))
    await log.append([start("a")])
    assert played.said.count(SQL["write"]) == TRIES_MAX
    played.said.clear()
    played.fails(SQL["write"], *(refused(state) for _ in range(TRIES_MAX + 1)))
    with pytest.raises(StatementRefused):
        await log.append([start("a")])
    assert played.said.count(SQL["write"]) == TRIES_MAX
    played.faults.clear()
    await log.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [(lambda: refused("53100"), StatementRefused), (lost, LogUnclear), (lambda: refused("57P01"), LogUnclear)],
)
async def test_what_was_refused_for_itself_or_may_be_written_is_not_sent_again_by_itself(
    played: Played, error: Callable[[], Exception], kind: type[Exception]
) -> None:
    log = await opened(played)
    played.fails(SQL["write"], error())
    with pytest.raises(kind):
        await log.append([start("a")])
    assert played.said.count(SQL["write"]) == 1
    played.terminated = False
    await log.close()


async def test_a_setting_that_is_taken_away_while_it_is_read_is_not_made_up(played: Played) -> None:
    log = await opened(played)
    with pytest.raises(LogUnavailable, match="setting key was taken away"):
        await log.setting("key", b"value")
    await log.close()


async def test_who_only_reads_owns_nothing_and_stops_once(played: Played) -> None:
    reader = PostgresReader(URL)
    assert reader.lease is None
    await reader.stop()
    await reader.start()
    await reader.stop()
    assert played.closed
