"""Every inbox passes the one suite."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker
from typing_extensions import override

from amends.inboxes.memory import MemoryData, MemoryInbox
from amends.inboxes.sqlalchemy import BlockingSqlAlchemyInbox, SqlAlchemyInbox, sqlite_settings
from amends.inboxes.sqlite import SqliteInbox
from amends.testing.contracts.bench import PATIENCE_SECONDS, Bench
from amends.testing.contracts.inbox import InboxContract

CREATE = "create table thing (name text primary key)"
PUT = "insert into thing values (:name)"
TAKE = "delete from thing where name = :name"
DROP = "drop table amends_barrier"


def read(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return [str(name) for (name,) in db.execute("select name from thing order by name")]


def do(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)


class MemoryBench(Bench[MemoryData]):
    refuses_commits = False

    def __init__(self, *, blocks: bool) -> None:
        self.memory = MemoryInbox({"things": set()}, lock_wait_seconds=PATIENCE_SECONDS)
        self.inbox = self.memory
        self._blocks = blocks

    @property
    @override
    def blocks(self) -> bool:
        return self._blocks

    @override
    async def put(self, tx: MemoryData, name: str) -> None:
        tx["things"].add(name)

    @override
    async def take(self, tx: MemoryData, name: str) -> None:
        tx["things"].discard(name)

    @override
    async def rows(self) -> list[str]:
        return sorted(self.memory.data["things"])

    @override
    async def end(self, tx: MemoryData, how: str) -> None:
        raise NotImplementedError

    @override
    async def drop(self) -> None:
        raise NotImplementedError


class SqliteBench(Bench[sqlite3.Connection]):
    def __init__(self, path: Path) -> None:
        self.path = path
        do(path, CREATE)
        self.sqlite = SqliteInbox(path, lock_wait_seconds=PATIENCE_SECONDS)
        self.inbox = self.sqlite

    @override
    async def put(self, tx: sqlite3.Connection, name: str) -> None:
        tx.execute(PUT, {"name": name})

    @override
    async def take(self, tx: sqlite3.Connection, name: str) -> None:
        tx.execute(TAKE, {"name": name})

    @override
    async def rows(self) -> list[str]:
        return read(self.path)

    @override
    async def end(self, tx: sqlite3.Connection, how: str) -> None:
        tx.execute(how)

    @override
    async def drop(self) -> None:
        do(self.path, DROP)


class SessionBench(Bench[Session]):
    def __init__(self, path: Path, sessions: sessionmaker[Session]) -> None:
        self.path = path
        do(path, CREATE)
        inbox = BlockingSqlAlchemyInbox(sessions, lock_wait_seconds=PATIENCE_SECONDS)
        inbox.create()
        self.inbox = inbox

    @override
    async def put(self, tx: Session, name: str) -> None:
        tx.execute(text(PUT), {"name": name})

    @override
    async def take(self, tx: Session, name: str) -> None:
        tx.execute(text(TAKE), {"name": name})

    @override
    async def rows(self) -> list[str]:
        return read(self.path)

    @override
    async def end(self, tx: Session, how: str) -> None:
        getattr(tx, how)()

    @override
    async def drop(self) -> None:
        do(self.path, DROP)


class AsyncSessionBench(Bench[AsyncSession]):
    def __init__(self, path: Path, inbox: SqlAlchemyInbox) -> None:
        self.path = path
        self.inbox = inbox

    @override
    async def put(self, tx: AsyncSession, name: str) -> None:
        await tx.execute(text(PUT), {"name": name})

    @override
    async def take(self, tx: AsyncSession, name: str) -> None:
        await tx.execute(text(TAKE), {"name": name})

    @override
    async def rows(self) -> list[str]:
        return read(self.path)

    @override
    async def end(self, tx: AsyncSession, how: str) -> None:
        await getattr(tx, how)()

    @override
    async def drop(self) -> None:
        do(self.path, DROP)


class TestMemory(InboxContract[MemoryData]):
    @pytest.fixture
    def bench(self) -> Bench[MemoryData]:
        return MemoryBench(blocks=False)


class TestMemoryWithHandlersThatBlock(InboxContract[MemoryData]):
    @pytest.fixture
    def bench(self) -> Bench[MemoryData]:
        return MemoryBench(blocks=True)


class TestSqlite(InboxContract[sqlite3.Connection]):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[Bench[sqlite3.Connection]]:
        bench = SqliteBench(tmp_path / "service.db")
        yield bench
        bench.sqlite.close()


class TestBlockingSqlAlchemy(InboxContract[Session]):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[Bench[Session]]:
        engine = create_engine(f"sqlite:///{tmp_path}/service.db")
        sqlite_settings(engine)
        yield SessionBench(tmp_path / "service.db", sessionmaker(engine))
        engine.dispose()


class TestSqlAlchemy(InboxContract[AsyncSession]):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[Bench[AsyncSession]]:
        path = tmp_path / "service.db"
        do(path, CREATE)
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        sqlite_settings(engine)
        inbox = SqlAlchemyInbox(async_sessionmaker(engine), lock_wait_seconds=PATIENCE_SECONDS)
        await inbox.create()
        yield AsyncSessionBench(path, inbox)
        await engine.dispose()


class TestSqlAlchemyOnAnEngineWithSqlitesOwnDefaults(InboxContract[AsyncSession]):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[Bench[AsyncSession]]:
        path = tmp_path / "service.db"
        do(path, CREATE)
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        inbox = SqlAlchemyInbox(async_sessionmaker(engine), lock_wait_seconds=PATIENCE_SECONDS)
        await inbox.create()
        yield AsyncSessionBench(path, inbox)
        await engine.dispose()
