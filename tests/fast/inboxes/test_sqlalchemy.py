"""What sessions add to the barrier: flushes, savepoints of the handler's own, engines with their own way to begin."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import MetaData, create_mock_engine, event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateTable

from amends.core.saga.operation import Participant, operation
from amends.core.words.errors import Rejected
from amends.inboxes.sqlalchemy import SqlAlchemyInbox, barrier_table
from amends.inboxes.sqlite import SqliteInbox
from amends.inboxes.statements import POSTGRES
from amends.participant.response import Answer
from amends.participant.service import Service
from amends.ports.inbox import Row, RowState


@dataclass(frozen=True, slots=True)
class Book:
    room: str


POSTGRESQL = create_mock_engine("postgresql+asyncpg://", print).dialect


class Hotel(Participant):
    book = operation(Book, str)


class Base(DeclarativeBase):
    pass


class Booking(Base):
    __tablename__ = "booking"
    room: Mapped[str] = mapped_column(primary_key=True)


async def book(service: Service[AsyncSession], run: str) -> Answer:
    headers = {
        "Idempotency-Key": f"{run}:book:action",
        "Saga-Kind": "pivot",
        "Saga-Since": datetime.now(UTC).isoformat(),
    }
    return await service.handle(headers, "book", b'{"room":"12"}')


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/hotel.db")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    await engine.dispose()


@pytest.fixture
async def service(engine: AsyncEngine) -> Service[AsyncSession]:
    inbox = SqlAlchemyInbox(async_sessionmaker(engine))
    await inbox.create()
    return Service(Hotel, inbox)


async def rooms(engine: AsyncEngine) -> list[str]:
    async with engine.connect() as connection:
        return list((await connection.execute(text("select room from booking"))).scalars())


async def test_objects_that_were_only_added_are_written_with_the_row(
    service: Service[AsyncSession], engine: AsyncEngine
) -> None:
    @service.action(Hotel.book)
    async def handler(request: Book, db: AsyncSession) -> str:
        db.add(Booking(room=request.room))
        return "ok"

    assert callable(handler)
    assert (await book(service, "run-1")).status == 200
    assert await rooms(engine) == ["12"]
    broken = await book(service, "run-2")
    assert (broken.status, broken.headers.get("saga-outcome")) == (503, None), "the flush fails after the handler"


async def test_a_constraint_that_says_no_becomes_a_remembered_rejection(
    service: Service[AsyncSession], engine: AsyncEngine
) -> None:
    @service.action(Hotel.book)
    async def handler(request: Book, db: AsyncSession) -> str:
        db.add(Booking(room=request.room))
        try:
            await db.flush()
        except IntegrityError:
            raise Rejected("taken", code="taken") from None
        return "ok"

    assert callable(handler)
    await book(service, "run-1")
    refused = await book(service, "run-2")
    assert (refused.status, json.loads(refused.body)["code"]) == (409, "taken")
    assert await book(service, "run-2") == refused


async def test_a_handler_may_have_savepoints_of_its_own(service: Service[AsyncSession], engine: AsyncEngine) -> None:
    @service.action(Hotel.book)
    async def handler(request: Book, db: AsyncSession) -> str:
        async with db.begin_nested():
            db.add(Booking(room="kept"))
        undone = await db.begin_nested()
        db.add(Booking(room="undone"))
        await undone.rollback()
        left_open = await db.begin_nested()
        assert left_open.is_active
        db.add(Booking(room="left open"))
        return "ok"

    assert callable(handler)
    assert (await book(service, "run-1")).status == 200
    assert await rooms(engine) == ["kept", "left open"]


async def test_a_commit_in_plain_sql_is_seen(service: Service[AsyncSession], engine: AsyncEngine) -> None:
    @service.action(Hotel.book)
    async def handler(request: Book, db: AsyncSession) -> str:
        await db.execute(text("commit"))
        return "ok"

    assert callable(handler)
    first = await book(service, "run-1")
    assert (first.status, json.loads(first.body)["code"]) == (500, "handler-committed")
    again = await book(service, "run-1")
    assert (again.status, json.loads(again.body)["code"]) == (500, "handler-committed"), "the row was left half-made"


@pytest.mark.parametrize("begin", ["begin", "begin immediate"])
async def test_an_engine_that_begins_in_its_own_way_is_left_to_it(engine: AsyncEngine, begin: str) -> None:
    began: list[str] = []

    @event.listens_for(engine.sync_engine, "begin")
    def starts(connection: object) -> None:
        getattr(connection, "exec_driver_sql")(begin)  # noqa: B009 - an event's connection has no type
        began.append(begin)

    assert callable(starts)
    inbox = SqlAlchemyInbox(async_sessionmaker(engine))
    await inbox.create()
    service: Service[AsyncSession] = Service(Hotel, inbox)

    @service.action(Hotel.book)
    async def handler(request: Book, db: AsyncSession) -> str:
        db.add(Booking(room=request.room))
        return "ok"

    assert callable(handler)
    assert (await book(service, "run-1")).status == 200
    assert began


async def test_the_tables_are_the_same_for_both_inboxes_on_sqlite(tmp_path: Path) -> None:
    plain = SqliteInbox(tmp_path / "shared.db")
    row = Row("run", "book", RowState.BLOCKED, compensation_print=b"x" * 32)
    with plain.open() as tx:
        assert tx.insert(row)
        tx.commit()
    plain.close()
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/shared.db")
    inbox = SqlAlchemyInbox(async_sessionmaker(engine))
    await inbox.create()
    async with inbox.open_async() as other:
        assert await other.lock("run", "book") == row
        assert await other.purge(-1_000_000, 10) == 1
    await engine.dispose()


def test_the_tables_of_postgresql_have_its_types() -> None:
    written = str(CreateTable(barrier_table(MetaData())).compile(dialect=POSTGRESQL))
    for column in (
        "run TEXT NOT NULL",
        "request_print BYTEA",
        "epoch BIGINT DEFAULT '0' NOT NULL",
        "lease_until TIMESTAMP WITH TIME ZONE",
        "touched_at TIMESTAMP WITH TIME ZONE NOT NULL",
        "PRIMARY KEY (run, step)",
    ):
        assert column in written


def test_every_parameter_of_postgresqls_statements_is_one_of_ours() -> None:
    compiled = {
        name: sorted(text(getattr(POSTGRES, name)).compile(dialect=POSTGRESQL).params)
        for name in ("lock", "read", "delete", "purged_through", "ago", "move_mark", "first_mark", "delete_older")
    }
    assert compiled == {
        "lock": ["run", "step"],
        "read": ["run", "step"],
        "delete": ["run", "step"],
        "purged_through": [],
        "ago": ["age"],
        "move_mark": ["through"],
        "first_mark": ["through"],
        "delete_older": ["limit", "through"],
    }


async def test_a_database_the_barrier_does_not_know_is_named(engine: AsyncEngine) -> None:
    engine.sync_engine.dialect.name = "oracle"
    with pytest.raises(NotImplementedError, match="the barrier knows no oracle"):
        async with SqlAlchemyInbox(async_sessionmaker(engine)).open_async() as tx:
            await tx.read("run", "book")
