"""Every log passes the one suite."""

# pyright: reportPrivateUsage=false

from pathlib import Path

import pytest
from typing_extensions import override

from amends.logs.memory import MemoryLog, MemoryStore
from amends.logs.postgres.log import PostgresLog
from amends.logs.sqlite import pace
from amends.logs.sqlite.log import SqliteLog
from amends.ports.log import TransactionLog
from amends.testing.contracts.log import LogContract
from amends.testing.contracts.log_base import Opener
from tests.support.postgres import Sql


class TestMemoryLog(LogContract):
    @pytest.fixture
    def opener(self) -> Opener:
        store = MemoryStore()
        return lambda: MemoryLog(store)

    @override
    async def die(self, log: TransactionLog) -> None:
        """The next opening finds it gone."""


class SqliteContract(LogContract):
    @override
    async def die(self, log: TransactionLog) -> None:
        assert isinstance(log, SqliteLog)
        assert log._writer is not None
        log._writer.broken = "its process died"  # so that it says nothing when it lets go of the lock
        await log.close()


class TestSqliteLog(SqliteContract):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda: SqliteLog(tmp_path / "orders.db")


class TestSqliteLogOnASlowDisk(SqliteContract):
    """Every commit on the writing thread."""

    @pytest.fixture
    def opener(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
        monkeypatch.setattr(pace, "QUICK_SECONDS", -1.0)
        monkeypatch.setattr(pace, "LOOK_AGAIN_EVERY", 10**9)
        return lambda: SqliteLog(tmp_path / "orders.db")


class TestPostgresLog(LogContract):
    @pytest.fixture
    def opener(self, log_url: str) -> Opener:
        return lambda: PostgresLog(log_url)

    @pytest.fixture(autouse=True)
    def _take_sql(self, sql: Sql) -> None:
        self.sql = sql

    @override
    async def die(self, log: TransactionLog) -> None:
        assert isinstance(log, PostgresLog)
        await log._writing.close()
        await log._lease._link.close()
        await log.stop()
        self.sql("UPDATE amends.workers SET state = 'dead'")
