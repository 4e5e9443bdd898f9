"""What the contract can't ask of every inbox: moments between two threads, errors of one driver, transactions of one's
own.
"""

# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

import asyncio
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

from amends.inboxes.memory import MemoryInbox, _Turn
from amends.inboxes.sqlalchemy import BlockingSqlAlchemyInbox, SqlAlchemyInbox
from amends.inboxes.sqlite import SqliteInbox
from amends.ports.inbox import Busy, NotSerializable, Row, RowState

ROW = Row("run-1", "hold", RowState.PENDING)

# -- transactions of the service's own


def test_a_transaction_in_memory_is_committed_at_its_end_and_gone_with_an_error() -> None:
    inbox = MemoryInbox()
    with inbox.transaction() as data:
        data["kept"] = 1
    with pytest.raises(OSError, match="lost"), inbox.transaction() as data:  # noqa: PT012 - the whole block is what fails
        data["gone"] = 1
        raise OSError("lost")
    assert inbox.data == {"kept": 1}


async def test_a_transaction_of_a_session_is_committed_at_its_end_and_gone_with_an_error(tmp_path: Path) -> None:
    url = f"{tmp_path}/service.db"
    engine, awaited = create_engine(f"sqlite:///{url}"), create_async_engine(f"sqlite+aiosqlite:///{url}")
    blocking = BlockingSqlAlchemyInbox(sessionmaker(engine))
    with blocking.transaction() as session:
        session.execute(text("create table thing (name text)"))
    with pytest.raises(OSError, match="lost"), blocking.transaction() as session:  # noqa: PT012 - the whole block is what fails
        session.execute(text("insert into thing values ('gone')"))
        raise OSError("lost")
    inbox = SqlAlchemyInbox(async_sessionmaker(awaited))
    async with inbox.transaction() as async_session:
        await async_session.execute(text("insert into thing values ('kept')"))
    with pytest.raises(OSError, match="lost"):  # noqa: PT012 - the whole block is what fails
        async with inbox.transaction() as async_session:
            await async_session.execute(text("insert into thing values ('gone')"))
            raise OSError("lost")
    with sqlite3.connect(url) as db:
        assert db.execute("select name from thing").fetchall() == [("kept",)]
    db.close()
    engine.dispose()
    await awaited.dispose()


def test_only_the_open_transaction_of_a_memory_inbox_can_be_joined() -> None:
    inbox = MemoryInbox()
    with pytest.raises(ValueError, match="not the open transaction"):
        inbox.join({})
    with inbox.open() as tx:
        assert inbox.join(tx.handle) is tx
        with pytest.raises(ValueError, match="not the open transaction"):
            inbox.join({})


def test_a_connection_that_is_not_the_inboxes_own_can_be_joined_unguarded(tmp_path: Path) -> None:
    inbox = SqliteInbox(tmp_path / "a.db")
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("begin immediate")
    joined = inbox.join(other)
    joined.savepoint()
    assert joined.insert(ROW)
    assert not joined.tampered
    assert joined.release()
    joined.commit()
    with inbox.open() as tx:
        assert tx.read("run-1", "hold") == ROW
    other.close()
    inbox.close()


# -- turns, in memory


async def test_a_call_that_is_cancelled_while_it_waits_gives_its_turn_to_the_next() -> None:
    inbox = MemoryInbox()

    async def writes(name: str) -> None:
        async with inbox.open_async() as tx:
            tx.handle[name] = True
            await tx.commit()

    async with inbox.open_async():
        cancelled, next_one = asyncio.create_task(writes("cancelled")), asyncio.create_task(writes("next"))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    await next_one
    assert inbox.data == {"next": True}


def test_a_turn_that_comes_in_the_moment_its_waiter_leaves_is_passed_on() -> None:
    turn = _Turn(0)
    turn.take()
    waiting, after = turn._enter(), turn._enter()
    assert waiting is not None
    assert after is not None
    turn.pass_on()
    assert waiting.done()
    turn._leave(waiting)
    assert after.done(), "nobody waits for a turn that nobody has"
    turn.pass_on()
    turn.take()  # free again


# -- what errors mean


def test_a_refusal_to_order_is_told_from_a_lock_that_is_waited_for(tmp_path: Path) -> None:
    inbox = BlockingSqlAlchemyInbox(sessionmaker(create_engine(f"sqlite:///{tmp_path}/a.db")))

    class Refused(Exception):
        sqlstate = ""

    def meant(state: str) -> type[Exception] | None:
        error = Refused("said so")
        error.sqlstate = state
        meaning = inbox.classify(DBAPIError("select", {}, error))
        return None if meaning is None else type(meaning)

    assert [meant(state) for state in ("40001", "40P01", "55P03", "23505")] == [NotSerializable, Busy, Busy, None]


def test_a_missing_table_is_only_the_barriers_own(tmp_path: Path) -> None:
    inbox = SqliteInbox(tmp_path / "a.db", create=False)
    with pytest.raises(sqlite3.OperationalError) as ours, inbox.open() as tx:
        tx.insert(ROW)
    assert "Call create()" in str(inbox.classify(ours.value))
    with pytest.raises(sqlite3.OperationalError) as theirs, inbox.open() as tx:
        tx.handle.execute("select * from orders")
    assert inbox.classify(theirs.value) is None
    inbox.create()
    with inbox.open() as tx:
        assert tx.insert(ROW)
    inbox.close()


def test_a_savepoint_that_can_not_be_kept_for_another_reason_is_an_error_of_its_own(tmp_path: Path) -> None:
    inbox = SqliteInbox(tmp_path / "a.db")
    with pytest.raises(sqlite3.OperationalError, match="interrupted"), inbox.open() as tx:  # noqa: PT012 - the whole block is what fails
        tx.savepoint()
        tx.handle.set_progress_handler(lambda: 1, 1)
        try:
            tx.release()
        finally:
            tx.handle.set_progress_handler(None, 1)
    with inbox.open() as tx:
        assert tx.read("run-1", "hold") is None, "the inbox goes on"
    inbox.close()
