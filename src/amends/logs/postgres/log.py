"""The transaction log in PostgreSQL: many processes, one of which drives each run.

What keeps two from driving one run is the condition of `write`: version, owner and epoch of the run's row. Each
statement is a transaction, at READ COMMITTED. When a connection is lost over an append, `LogUnclear` says that it may
have been written; sending the same append again tells, because the row's lock makes the new one wait for the
old one, and its `append_id` tells it. Nothing is ever read to find that out.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from typing_extensions import override

from amends.core.words.errors import LogUnavailable
from amends.logs.postgres import schema
from amends.logs.postgres.batches import arrays, first_version
from amends.logs.postgres.connections import Connection, Link
from amends.logs.postgres.failures import StatementRefused, told
from amends.logs.postgres.lease import Lease
from amends.logs.postgres.reader import PostgresReader
from amends.logs.postgres.rows import key_columns, stored
from amends.logs.postgres.statements import SQL
from amends.ports.log import ACCEPTED, Append, SagaKey, Start, StoredEvent, StoredRun, WorkerLease, Written

TRIES_MAX: Final = 5
"""How often an append that was rolled back for another's sake is sent at once again."""

_LOGGER: Final = logging.getLogger("amends.logs.postgres")


class PostgresLog(PostgresReader):
    """A worker on the log at `url`, whose tables must be there (`amends schema apply`)."""

    def __init__(self, url: str, *, lease_seconds: float | None = None) -> None:
        """`lease_seconds`: how long this worker may be silent; what the URL says wins."""
        super().__init__(url, lease_seconds)
        self._lease = Lease(self.place)
        self._writing = Link(self.place)
        self._held: set[str] = set()

    @property
    @override
    def lease(self) -> WorkerLease | None:
        return self._lease

    @property
    def is_elsewhere(self) -> bool:
        return True

    async def open(self) -> None:
        await self.start()
        self._writing.open()
        try:
            await self._lease.join()
        except BaseException:
            await self._writing.close()
            await self.stop()
            raise

    async def close(self) -> None:
        if self._links is None:
            return
        try:
            await self._writing.close()
            await self._lease.leave()
        finally:
            await self.stop()

    async def announce(self, known: Sequence[SagaKey]) -> None:
        await self._lease.announce(known)

    # -- appends

    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        assert len({entry.run for entry in batch}) == len(batch), "a run stands in a batch once"
        assert all(entry.events for entry in batch)
        _ = self.questions  # is it open?
        if not batch:
            return []
        async with self._writing.use() as connection:
            if self._held:
                await self._look_at_held(connection)
            try:
                verdicts = await self._verdicts(connection, batch)
            except StatementRefused as error:
                if not error.held:
                    raise
                found = await self._held_of(connection, [entry.run for entry in batch])
                if not found:  # it isn't about rows
                    raise
                self._held |= found
                _LOGGER.warning("%s It is about %s: they wait, the others go on", error, ", ".join(sorted(found)))
                verdicts = await self._verdicts(connection, batch)
        if any(verdicts[entry.run] is ACCEPTED and needs_somebody(entry) for entry in batch):
            self._lease.tell()
        return [verdicts[entry.run] for entry in batch]

    async def _verdicts(self, connection: Connection, batch: Sequence[Start | Append]) -> Mapping[str, Written]:
        """By run. Rows that another session holds aren't tried."""
        held = self._held
        free = [entry for entry in batch if entry.run not in held] if held else batch
        taken = await self._write(connection, arrays(free)) if free else set[str]()
        refused = [entry for entry in free if entry.run not in taken]
        verdicts = dict.fromkeys(taken, ACCEPTED)
        if refused:
            verdicts.update(await self._why_not(connection, refused))
        if held:
            verdicts.update({entry.run: Written.HELD for entry in batch if entry.run in held})
        return verdicts

    async def _held_of(self, connection: Connection, runs: Sequence[str]) -> set[str]:
        with told(self.place.shown):
            return {run for (run,) in await connection.fetch(SQL["held"], runs)}

    async def _look_at_held(self, connection: Connection) -> None:
        """Rows that another session held: does it still? It costs no waiting."""
        still = await self._held_of(connection, list(self._held))
        for run in sorted(self._held - still):
            _LOGGER.warning("nobody holds on to %s any more", run)
        self._held = still

    async def _write(self, connection: Connection, parameters: Sequence[object]) -> set[str]:
        tries = 0
        while True:
            tries += 1
            try:
                with told(self.place.shown):
                    return {run for (run,) in await connection.fetch(SQL["write"], self._lease.worker, *parameters)}
            except StatementRefused as error:
                if not error.again or tries == TRIES_MAX:
                    raise
                _LOGGER.info("an append is sent again: %s", error)

    async def _why_not(self, connection: Connection, refused: Sequence[Start | Append]) -> Mapping[str, Written]:
        wanted = [first_version(each) for each in refused]
        rows = await connection.fetch(SQL["refused"], [each.run for each in refused], wanted)
        found = {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}
        verdicts = {each.run: self._verdict(each, found.get(each.run)) for each in refused}
        if any(verdict is ACCEPTED for verdict in verdicts.values()):
            await connection.execute(SQL["sync"])
        return verdicts

    def _verdict(self, entry: Start | Append, row: tuple[str | None, int, int, bytes | None] | None) -> Written:
        if row is None:
            # A start that met an id taken by a transaction which was then rolled back isn't refused, so it is there.
            return Written.NO_SUCH_RUN
        owner, epoch, is_kept, append_id = row
        if append_id == entry.append_id:
            return ACCEPTED
        if isinstance(entry, Start):
            return Written.EXISTS
        if not is_kept:
            return Written.NO_SUCH_RUN
        ours = entry.epoch is None or (owner, epoch) == (self._lease.worker, entry.epoch)
        return Written.MOVED_ON if ours else Written.NOT_YOURS

    # -- owning

    async def claim(
        self, known: Sequence[SagaKey], now: int, limit: int, *, suspects: int | None = None
    ) -> Sequence[StoredRun]:
        asked = (self._lease.worker, now, *key_columns(known), limit if suspects is None else suspects, limit)
        async with self.questions.use() as connection:
            rows = await connection.fetch(SQL["claim"], *asked)
            if not rows:
                return []
            versions = ([row[0] for row in rows], [row[6] for row in rows])
            events: dict[str, list[StoredEvent]] = {row[0]: [] for row in rows}
            for run, *event in await connection.fetch(SQL["events_of_many"], *versions):
                events[run].append(StoredEvent(*event))
        claimed = [stored(row, tuple(events[row[0]])) for row in rows]
        claimed.sort(key=lambda run: (run.due_at is None, run.due_at or 0))
        return claimed

    async def exonerate(self, run: str, epoch: int) -> None:
        async with self.questions.use() as connection:
            await connection.execute(SQL["exonerate"], run, self._lease.worker, epoch)

    async def release(self, run: str, epoch: int, version: int, due_at: int | None) -> bool:
        async with self.questions.use() as connection:
            values = (run, due_at, self._lease.worker, epoch, version)
            is_due: bool | None = await connection.fetchval(SQL["release"], *values)
        if is_due:
            self._lease.tell()
        return is_due is not None

    async def nudged(self, now: int) -> Sequence[tuple[str, int]]:
        async with self.questions.use() as connection:
            return [(run, version) for run, version in await connection.fetch(SQL["nudged"], self._lease.worker, now)]

    async def next_due(self, known: Sequence[SagaKey] | None = None) -> int | None:
        sql, values = (SQL["next_due"], ()) if known is None else (SQL["next_due_of"], key_columns(known))
        async with self.questions.use() as connection:
            due: int | None = await connection.fetchval(sql, *values)
            return due

    # -- what is kept once

    async def define(self, saga: SagaKey, graph: bytes, *, beside: bool = False) -> bytes | None:
        values = (saga.name, saga.version, saga.digest, graph, beside)
        async with self.questions.use() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", schema.LOCK)  # two that differ: one is first
            other: bytes | None = await connection.fetchval(SQL["keep_graph"], *values)
            return other

    async def setting(self, name: str, value: bytes) -> bytes:
        async with self.questions.use() as connection:
            await connection.execute(SQL["keep_setting"], name, value)
            kept: bytes | None = await connection.fetchval(SQL["setting"], name)
        if kept is None:
            raise LogUnavailable(f"{self.place.shown}: setting {name} was taken away while it was being read.")
        return kept

    async def purge(self, ended_before: int, limit: int, state: str | None = None) -> int:
        async with self.questions.use() as connection:
            return len(await connection.fetch(SQL["purge"], ended_before, limit, state))


def needs_somebody(entry: Start | Append) -> bool:
    """Whether others should look at the run once this is written: it has no owner, or a visitor wrote."""
    if isinstance(entry, Start):
        return not entry.owned and entry.row.due_at is not None
    if entry.epoch is None:
        return True
    return entry.release and entry.row.due_at is not None and entry.row.due_at <= entry.at
