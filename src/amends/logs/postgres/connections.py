"""Connections to the database: what each is for, how it is set up, and that it comes back.

A process has one connection for appends, one for its lease and for hearing of others, a few for questions and claims,
and a few for lists, on which a statement is soon given up. So a long list never holds up a commit, a claim or a
heartbeat.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from amends.core.words.errors import AmendsError, LogTooSlow, LogUnavailable
from amends.logs.postgres.failures import StatementRefused, shown, told
from amends.system.forks import keep_from_children

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Made: TypeAlias = Callable[[Connection], Awaitable[None]]

QUESTIONS_AT_ONCE: Final = 4
"""Connections for questions and claims, per process."""

LISTS_AT_ONCE: Final = 2
"""Connections for lists, per process."""

LIST_SECONDS: Final = 5.0
"""How long the database may take for a page of a list."""

CONNECT_SECONDS: Final = 5.0
ACQUIRE_SECONDS: Final = 5.0
STATEMENT_SECONDS: Final = 30.0
"""After that a statement is given up; for an append it isn't known then what became of it."""

LEASE_SECONDS: Final = 15.0
LEASE_SECONDS_MIN: Final = 0.1
LEASE_SECONDS_MAX: Final = 3_600.0

LOCK_SECONDS: Final = 2
"""How long a statement waits for a lock that another session has: longer than any statement of ours holds one."""

SETTINGS: Final = {
    "timezone": "UTC",
    "jit": "off",  # every statement is over before its compiler would have begun
    "enable_seqscan": "off",  # a table that is small while the plan is made will not stay so
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "default_transaction_isolation": "read committed",
    "lock_timeout": f"{LOCK_SECONDS}s",
}
"""For every session, set once it is there: poolers refuse them at the start. `synchronous_commit` is set beside them,
and only raised.
"""

SET_UP: Final = (
    "SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS s (name, value) UNION ALL "
    "SELECT set_config('synchronous_commit', 'on', false) "
    "WHERE current_setting('synchronous_commit') IN ('off', 'local')"
)
NAME: Final = "application_name"
_TRANSPORT: Final = "_transport"


class DatabaseAddress:
    """Where the log is, taken apart from its URL. `lease_seconds` may be said in the URL (`?lease_seconds=2`), and wins
    there over what is given.
    """

    def __init__(self, url: str, lease_seconds: float | None = None) -> None:
        self.shown = shown(url)
        parts = urlsplit(url)
        said = dict(parse_qsl(parts.query))
        lease = said.pop("lease_seconds", None)
        said.setdefault(NAME, "amends")
        self.dsn = urlunsplit(parts._replace(query=urlencode(said)))
        if parts.scheme not in {"postgresql", "postgres"}:
            raise AmendsError(f"{self.shown}: expected postgresql://USER@HOST/DATABASE.")
        given = LEASE_SECONDS if lease_seconds is None else lease_seconds
        self.lease_seconds = _checked(given, f"a lease of {given:g} s") if lease is None else _lease(lease)

    async def connect(self) -> Connection:
        """A connection of one's own."""
        with told(self.shown, sent=False):
            connection = await asyncpg.connect(self.dsn, timeout=CONNECT_SECONDS, command_timeout=STATEMENT_SECONDS)
            keep_from_children(connection, _descriptor)
            try:
                await set_up(connection)
            except BaseException:
                connection.terminate()
                raise
        return connection


def _descriptor(connection: Connection) -> int:
    if connection.is_closed():
        return -1
    transport = cast("asyncio.Transport", getattr(connection, _TRANSPORT))  # asyncpg gives its socket in no other way
    return cast("int", transport.get_extra_info("socket").fileno())  # the event loop's own socket


def _lease(told_seconds: str) -> float:
    try:
        seconds = float(told_seconds)
    except ValueError:
        seconds = 0.0
    return _checked(seconds, f"lease_seconds={told_seconds}")


def _checked(seconds: float, told: str) -> float:
    if not LEASE_SECONDS_MIN <= seconds <= LEASE_SECONDS_MAX:
        raise AmendsError(f"{told}: expected a number of seconds from {LEASE_SECONDS_MIN} to {LEASE_SECONDS_MAX:.0f}.")
    return seconds


async def set_up(connection: Connection) -> None:
    """JSON goes in and out as bytes, and a commit is on the disk before it is acknowledged."""
    await connection.set_type_codec("json", schema="pg_catalog", encoder=_as_it_is, decoder=_as_it_is, format="binary")
    await connection.fetch(SET_UP, list(SETTINGS), list(SETTINGS.values()))


def _as_it_is(text: bytes) -> bytes:
    return bytes(text)


class Link:
    """One connection for one purpose, made anew when it was lost. Users take turns."""

    def __init__(self, place: DatabaseAddress, made: Made | None = None) -> None:
        """`made` is called with every new connection before it is used."""
        self._place = place
        self._made = made
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None
        self._is_open = False

    def open(self) -> None:
        """From now on it may be used; the connection is made when it is."""
        self._is_open = True

    @asynccontextmanager
    async def use(self) -> AsyncGenerator[Connection]:
        """The connection, for one statement. Unless the server itself says how that ended, it isn't used again."""
        async with self._turn:
            if not self._is_open:
                raise LogUnavailable(f"{self._place.shown} isn't open.")
            connection = self._connection
            if connection is None or connection.is_closed():
                connection = self._connection = await self._connect()
            try:
                with told(self._place.shown):
                    yield connection
            except (StatementRefused, asyncpg.PostgresError):
                raise
            except BaseException:
                self._connection = None
                connection.terminate()
                raise

    async def _connect(self) -> Connection:
        connection = await self._place.connect()
        if self._made is not None:
            try:
                with told(self._place.shown, sent=False):
                    await self._made(connection)
            except BaseException:
                connection.terminate()
                raise
        return connection

    async def close(self) -> None:
        """Let go of it, once its user is done."""
        async with self._turn:
            self._is_open = False
            connection, self._connection = self._connection, None
            if connection is not None and not connection.is_closed():
                try:
                    await connection.close(timeout=CONNECT_SECONDS)
                except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    connection.terminate()  # the server is gone: there is no session to end


class ConnectionPool:
    """A few connections for the same purpose. If none is free, a statement waits for one, but not for ever."""

    def __init__(
        self,
        place: DatabaseAddress,
        count: int = QUESTIONS_AT_ONCE,
        *,
        purpose: str = "questions",
        busy: type[LogUnavailable] = LogUnavailable,
        made: Made | None = None,
    ) -> None:
        """`busy` is raised where none got free in time; `made` is called with every new connection."""
        self._place = place
        self._purpose = purpose
        self._busy = busy
        self._all = [Link(place, made) for _ in range(count)]
        self._free: asyncio.LifoQueue[Link] = asyncio.LifoQueue()  # those used last: the others are never connected
        for each in self._all:
            each.open()
            self._free.put_nowait(each)

    @asynccontextmanager
    async def use(self) -> AsyncGenerator[Connection]:
        """One of them, for one statement."""
        try:
            async with asyncio.timeout(ACQUIRE_SECONDS):
                link = await self._free.get()
        except TimeoutError:
            raise self._busy(
                f"{self._place.shown}: all {len(self._all)} connections for {self._purpose} have been busy for "
                f"{ACQUIRE_SECONDS:.0f} s. Ask again later."
            ) from None
        try:
            async with link.use() as connection:
                yield connection
        finally:
            self._free.put_nowait(link)

    async def close(self) -> None:
        """Let go of them."""
        for each in self._all:
            await each.close()


class Lists:
    """The connections for lists: what takes too long there is given up, and told as that."""

    def __init__(self, place: DatabaseAddress) -> None:
        self._place = place
        self._links = ConnectionPool(place, LISTS_AT_ONCE, purpose="lists", busy=LogTooSlow, made=_soon_given_up)

    @asynccontextmanager
    async def use(self) -> AsyncGenerator[Connection]:
        """One of them, for one statement."""
        try:
            async with self._links.use() as connection:
                yield connection
        except StatementRefused as error:
            if error.slow:
                raise LogTooSlow(f"{self._place.shown}: a list was given up after {LIST_SECONDS:g} s.") from error
            raise

    async def close(self) -> None:
        """Let go of them."""
        await self._links.close()


async def _soon_given_up(connection: Connection) -> None:
    await connection.execute("SELECT set_config('statement_timeout', $1, false)", f"{LIST_SECONDS * 1000:.0f}ms")
