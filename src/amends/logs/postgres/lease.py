"""A worker among others: it has a row in the database that says until when it is to be taken for alive.

Renewing it goes over a connection of its own, which also hears what others say. All times here are the database's.
"""

import asyncio
import logging
import math
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from amends.core.words.errors import LogUnavailable
from amends.logs.postgres.connections import Connection, DatabaseAddress, Link
from amends.logs.postgres.failures import StatementRefused
from amends.logs.postgres.rows import keys_as_json
from amends.logs.postgres.statements import SQL
from amends.ports.log import SagaKey

CHANNEL: Final = "amends"

PART: Final = 1 / 6
"""This part of the lease anything else may have the connection for: half the time from one heartbeat to the next. What
hangs there would keep heartbeats waiting until the lease is over, though a new connection would do.
"""

BRIEF_SECONDS_MIN: Final = 0.5
"""A busy machine gets that long all the same."""

_LOGGER: Final = logging.getLogger("amends.logs.postgres")


class Lease:
    """`ports.log.WorkerLease`. `worker` is the id under which runs are owned; it changes when a new worker begins."""

    def __init__(self, place: DatabaseAddress) -> None:
        self.worker = ""
        self._place = place
        self._link = Link(place, self._listen_on)
        self._known: Sequence[SagaKey] = ()
        self._heard: Callable[[], None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._more_to_tell = False
        self._steady_since: float | None = -math.inf
        self.look_in: float | None = None

    @property
    def seconds(self) -> float:
        return self._place.lease_seconds

    # -- being there

    async def join(self) -> None:
        """Open the connection, and be the first worker on it."""
        self._link.open()
        self._known = ()
        try:
            await self.begin_anew()
        except BaseException:
            await self._link.close()
            raise

    async def begin_anew(self) -> None:
        worker = f"{os.getpid()}-{secrets.token_hex(6)}"
        values = (worker, self.seconds, socket.gethostname(), os.getpid(), keys_as_json(self._known))
        async with self._link.use() as connection:
            await connection.execute(SQL["join"], *values)
        self.worker = worker

    async def renew(self) -> int | None:
        try:
            async with self._link.use() as connection:
                now: int | None = await connection.fetchval(SQL["heartbeat"], self.worker, self.seconds)
        except BaseException:
            self._steady_since = self.look_in = None
            raise
        try:
            await self.look()
        except (LogUnavailable, asyncpg.PostgresError) as error:
            # The lease is renewed all the same: a session that holds another worker's row must not cost us our lease.
            _LOGGER.info("expired leases can't be looked for: %s", error)
            if not isinstance(error, StatementRefused):
                self._steady_since = None
        return now

    async def look(self) -> None:
        async with self._briefly() as connection:
            await self._reap(connection)

    @asynccontextmanager
    async def _briefly(self) -> AsyncGenerator[Connection]:
        """The connection, for something that a heartbeat must not wait for."""
        async with self._link.use() as connection, asyncio.timeout(self._brief_seconds):
            yield connection

    @property
    def _brief_seconds(self) -> float:
        return max(self.seconds * PART, BRIEF_SECONDS_MIN)

    async def _reap(self, connection: Connection) -> None:
        self.look_in = None
        if not self._others_could_renew():
            return
        told = await connection.fetch(SQL["reap"], self.worker)
        gone = [worker for worker, _ in told if worker is not None]
        self.look_in = next((seconds for worker, seconds in told if worker is None), None)
        for worker in gone:
            _LOGGER.warning("worker %s let its lease run out: it is taken for gone", worker)
        if gone:
            if self._heard is not None:
                self._heard()
            self.tell()  # a later look finds no worker to declare gone, but may have free places

    def _others_could_renew(self) -> bool:
        """Whether the database was there for as long as a lease: after an outage the others get their time, too."""
        now = asyncio.get_running_loop().time()
        if self._steady_since is None:
            self._steady_since = now
        return now - self._steady_since >= self.seconds

    async def announce(self, known: Sequence[SagaKey]) -> None:
        self._known = tuple(known)
        async with self._briefly() as connection:
            await connection.execute(SQL["announce"], self.worker, keys_as_json(known))
            await connection.execute(SQL["forget_workers"])

    async def let_go_of_strays(self, held: Callable[[], Collection[str]], now: int) -> Sequence[str]:
        worker = self.worker
        async with self._briefly() as connection:
            owned = await connection.fetch(SQL["owned"], worker)
        # Only now: what was started while that was asked is ours, too.
        known = held()
        strays = [(run, epoch) for run, epoch in owned if run not in known]
        if not strays:
            return []
        async with self._briefly() as connection:
            gone = await connection.fetch(SQL["let_go_of_strays"], worker, *zip(*strays, strict=True), now)
        return [run for (run,) in gone]

    async def leave(self) -> None:
        """Hand every run over and be gone, in good order. What isn't told now is noticed when the lease is over."""
        if self._telling is not None:
            await asyncio.gather(self._telling, return_exceptions=True)
        try:
            async with self._link.use() as connection:
                await connection.execute(SQL["hand_over"], self.worker)
                await connection.execute(SQL["leave"], self.worker)
                await connection.execute(SQL["notify"])
                await connection.execute(SQL["forget_workers"])  # each command is a worker, and servers start seldom
        except (LogUnavailable, asyncpg.PostgresError) as error:
            _LOGGER.warning("runs can't be handed over, others take them when the lease is over: %s", error)
        finally:
            await self._link.close()

    # -- hearing and telling

    def listen(self, heard: Callable[[], None]) -> None:
        self._heard = heard

    async def _listen_on(self, connection: Connection) -> None:
        # A session that waits for a lock doesn't notice that we are gone: the server must end that, or they pile up.
        await connection.execute(f"SET lock_timeout = {round(self._brief_seconds * 500)}")
        await connection.add_listener(CHANNEL, self._somebody_spoke)
        if self._heard is not None:
            self._heard()  # what was said while the connection was gone

    def _somebody_spoke(self, *_: object) -> None:
        if self._heard is not None:
            self._heard()

    def tell(self) -> None:
        """Notify others that a run needs a worker: notifications during one in flight are merged into the next.

        A commit with a notification in it waits for all others of its kind, so this is never part of an append.
        """
        self._more_to_tell = True
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self._tell(), name="amends-notify")

    async def _tell(self) -> None:
        while self._more_to_tell:
            self._more_to_tell = False
            try:
                async with self._briefly() as connection:
                    await connection.execute(SQL["notify"])
            except Exception as error:  # noqa: BLE001 - whatever it was, it costs others one look and nothing else
                _LOGGER.info("others weren't told that a run needs a worker; they see it when they look: %s", error)
