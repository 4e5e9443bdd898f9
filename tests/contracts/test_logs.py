"""Every log passes the one suite."""

from pathlib import Path

import pytest

from amends.logs.memory import MemoryLog, MemoryStore
from amends.logs.sqlite import pace
from amends.logs.sqlite.log import SqliteLog
from amends.testing.contracts.log import LogContract, Opener


class TestMemoryLog(LogContract):
    @pytest.fixture
    def opener(self) -> Opener:
        store = MemoryStore()
        return lambda: MemoryLog(store)


class TestSqliteLog(LogContract):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda: SqliteLog(tmp_path / "orders.db")


class TestSqliteLogOnASlowDisk(LogContract):
    """Every commit on the writing thread."""

    @pytest.fixture
    def opener(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
        monkeypatch.setattr(pace, "QUICK_SECONDS", -1.0)
        monkeypatch.setattr(pace, "LOOK_AGAIN_EVERY", 10**9)
        return lambda: SqliteLog(tmp_path / "orders.db")
