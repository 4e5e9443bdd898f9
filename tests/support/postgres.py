"""A real PostgreSQL for the tests that want one: started by the first of them, one per process of the test run.

`AMENDS_TEST_POSTGRES=postgresql://user@host:port/postgres` names a running one instead, where this user may create
databases. Every test gets a database of its own.
"""

import asyncio
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from amends.logs.postgres import schema
from amends.testing.postgres_server import UNSAFE_AND_QUICK, PostgresServer, ask

RUNNING = "AMENDS_TEST_POSTGRES"

EMPTY = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
TRUNCATE amends.runs, amends.events, amends.sagas, amends.workers, amends.settings, amends.run_tags;
"""


@dataclass
class Databases:
    """Databases on one server, gone after the tests."""

    url: str
    """Of a database that is there already."""

    server: PostgresServer | None = None
    """The server itself, where it is ours to stop."""

    made: list[str] = field(default_factory=list[str])
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    def new(self, *, like: str = "template0") -> str:
        """An empty database."""
        name = f"amends_test_{os.getpid()}_{next(self.numbers)}"
        ask(self.url, f'CREATE DATABASE "{name}" TEMPLATE "{like}"')
        self.made.append(name)
        return self.named(name)

    def named(self, name: str) -> str:
        return urlsplit(self.url)._replace(path=f"/{name}").geturl()

    def drop(self, name: str) -> None:
        ask(self.url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Generator[Databases]:
    running = os.environ.get(RUNNING)
    if running:
        found = Databases(running)
        yield found
        for name in found.made:
            found.drop(name)
        return
    with PostgresServer(tmp_path_factory.mktemp("postgres"), settings=UNSAFE_AND_QUICK) as server:
        yield Databases(f"{server.url}/postgres", server)


@pytest.fixture(scope="session")
def pattern(databases: Databases) -> str:
    """The name of a database that holds an empty log, to be copied."""
    url = databases.new()
    asyncio.run(schema.apply(url))
    return urlsplit(url).path.removeprefix("/")


@pytest.fixture
def no_log(databases: Databases) -> str:
    """An empty database."""
    return databases.new()


@pytest.fixture(scope="session")
def shared(databases: Databases, pattern: str) -> str:
    """The database with the log that one test after the other uses."""
    return databases.new(like=pattern)


@pytest.fixture
def log_url(shared: str) -> str:
    """A database with an empty log; whoever was left over by an earlier test is sent away first."""
    ask(shared, EMPTY)
    return shared


@pytest.fixture
def spare_log_url(databases: Databases, pattern: str) -> str:
    """The same for a test that spoils more than rows."""
    return databases.new(like=pattern)


@pytest.fixture
def own_server(tmp_path: Path) -> Generator[PostgresServer]:
    """A server that a test may stop, start and starve, whatever else is running."""
    with PostgresServer(tmp_path / "own", settings=UNSAFE_AND_QUICK) as server:
        yield server


Sql = Callable[[str], str]


@pytest.fixture
def sql(log_url: str) -> Sql:
    """Ask the log's database directly."""
    return lambda statement: ask(log_url, statement)
