"""Reading the log: questions that need no worker."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

from amends.core.words.errors import LogUnavailable
from amends.logs.postgres import schema
from amends.logs.postgres.connections import ConnectionPool, DatabaseAddress, Lists
from amends.logs.postgres.rows import find_statement, is_text, keys_of_json, may_be_kept, stored, whole_run
from amends.logs.postgres.statements import SQL
from amends.ports.log import (
    Find,
    LiveRuns,
    LogReader,
    SagaKey,
    StoredEvent,
    StoredRun,
    StuckRuns,
    WorkerLease,
    WorkerRow,
    WorkerState,
)


class PostgresReader:
    """`ports.log.LogReader`."""

    def __init__(self, url: str, lease_seconds: float | None = None) -> None:
        self.place = DatabaseAddress(url, lease_seconds)
        self._links: ConnectionPool | None = None
        self._lists: Lists | None = None

    @property
    def lease(self) -> WorkerLease | None:
        """None: a reader owns nothing."""
        return None

    async def start(self) -> None:
        """Connect, and see that the tables are this program's."""
        links = ConnectionPool(self.place)
        try:
            async with links.use() as connection:
                await schema.check(connection, self.place)
        except BaseException:
            await links.close()
            raise
        self._links, self._lists = links, Lists(self.place)

    async def stop(self) -> None:
        """Let go of the connections."""
        links, self._links = self._links, None
        lists, self._lists = self._lists, None
        if links is not None:
            await links.close()
        if lists is not None:
            await lists.close()

    @property
    def questions(self) -> ConnectionPool:
        """Connections for questions; `LogUnavailable` where it isn't open."""
        if self._links is None:
            raise LogUnavailable(f"{self.place.shown} isn't open.")
        return self._links

    @property
    def lists(self) -> Lists:
        """Connections for lists; `LogUnavailable` where it isn't open."""
        if self._lists is None:
            raise LogUnavailable(f"{self.place.shown} isn't open.")
        return self._lists

    async def read(self, run: str) -> StoredRun | None:
        if not is_text(run):
            return None
        async with self.questions.use() as connection:
            return whole_run(await connection.fetch(SQL["whole_run"], run))

    async def read_row(self, run: str) -> StoredRun | None:
        if not is_text(run):
            return None
        async with self.questions.use() as connection:
            row = await connection.fetchrow(SQL["row"], run)
            return None if row is None else stored(row, ())

    async def read_events(self, run: str, after: int) -> Sequence[StoredEvent]:
        async with self.questions.use() as connection:
            return [StoredEvent(*row) for row in await connection.fetch(SQL["events"], run, after)]

    async def find(self, question: Find) -> Sequence[StoredRun]:
        if not may_be_kept(question):
            return []
        sql, parameters = find_statement(question)
        async with self.lists.use() as connection:
            return [stored(row, ()) for row in await connection.fetch(sql, *parameters)]

    async def count(self) -> Mapping[str, int]:
        async with self.questions.use() as connection:
            rows: list[tuple[str, int]] = [tuple(row) for row in await connection.fetch(SQL["count"])]
            return dict(rows)

    async def standing(self, runs: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        async with self.questions.use() as connection:
            rows = await connection.fetch(SQL["standing"], list(runs))
        return {run: (version, state) for run, version, state in rows}

    async def due(self, now: int) -> int:
        async with self.questions.use() as connection:
            count: int = await connection.fetchval(SQL["due"], now)
            return count

    async def stuck(self) -> Sequence[StuckRuns]:
        async with self.questions.use() as connection:
            return [StuckRuns(*row) for row in await connection.fetch(SQL["stuck"])]

    async def late(self, now: int) -> Mapping[str, int]:
        async with self.questions.use() as connection:
            rows: list[tuple[str, int]] = [tuple(row) for row in await connection.fetch(SQL["late"], now)]
            return dict(rows)

    async def live(self) -> Sequence[LiveRuns]:
        async with self.questions.use() as connection:
            rows = await connection.fetch(SQL["live"])
        return [LiveRuns(SagaKey(*row[:3]), *row[3:]) for row in rows]

    async def workers(self) -> Sequence[WorkerRow]:
        async with self.questions.use() as connection:
            rows = await connection.fetch(SQL["workers"])
        return [
            WorkerRow(worker, WorkerState(state), host, pid, started, heard, expires, keys_of_json(sagas), owned)
            for worker, state, host, pid, started, heard, expires, sagas, owned in rows
        ]

    async def graph(self, saga: SagaKey) -> bytes | None:
        async with self.questions.use() as connection:
            graph: bytes | None = await connection.fetchval(SQL["graph"], saga.name, saga.version, saga.digest)
            return graph


@asynccontextmanager
async def open_readonly(url: str) -> AsyncGenerator[LogReader]:
    """Look into a log without joining its workers."""
    reader = PostgresReader(url)
    await reader.start()
    try:
        yield reader
    finally:
        await reader.stop()
