"""What went wrong between us and the database, told by what it means for what was being written.

The database's own word is its SQLSTATE. A statement it refused wasn't written, and may be sent again when the cause is
gone. When the connection was lost, or nothing was heard in time, it isn't known whether it was: `LogUnclear`. What a
value is refused for is its caller's mistake, and goes through as it is.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg

from amends.core.words.errors import AmendsError, LogUnavailable, LogUnclear

MISTAKES: Final = ("22", "23")
"""Classes of SQLSTATE: a value that a column can't take, a row that breaks a constraint."""

UNCLEAR: Final = ("08", "57P01", "57P02", "57P05")
"""The connection broke, or the server ended while it was at work: perhaps after the commit."""

AGAIN: Final = ("40001", "40P01")
"""Rolled back for another's sake: at once again."""

AFRESH: Final = ("25006", "26000", "42P05")
"""Perhaps it isn't the server that can't, but only this connection to it: the next try makes a new one. Read-only: it
became a standby, and another took its place. Prepared statements unknown, or there already: a pooler changed servers.
"""

HELD: Final = "55P03"
"""Waited for a lock until `lock_timeout` was over."""

CANCELED: Final = "57014"
"""Given up, by `statement_timeout` or by a person."""

SHOWN: Final = ("host", "port", "user", "dbname", "service")
"""Settings of a URL that say where it leads, and nothing secret."""

POOLER: Final = "Is there a pooler in between? It must pool sessions; or go past it."

REMEDIES: Final[Mapping[str, str]] = {
    "08P01": POOLER,
    "26000": POOLER,
    "42P05": POOLER,
    "25006": "It is read-only: is it a standby? The log goes on by itself once it can be written.",
    "28": "Look at user and password in the log's URL.",
    "3D000": "There is no such database. Make it: createdb NAME",
    "3F000": "There is no log in this database. Make it: amends schema apply --log URL",
    "42P01": "There is no log in this database, or only a part of it. Make it: amends schema apply --log URL",
    "42501": (
        "This user may not. The migrating role needs CREATE on the database; worker roles need USAGE on schema "
        "amends, and SELECT, INSERT, UPDATE and DELETE on all tables in it."
    ),
    "53100": "Its disk is full. Make room; the log goes on by itself.",
    "53200": "It is out of memory. The log goes on by itself.",
    "53300": "It has no connection left. Raise max_connections, or run fewer processes; the log goes on by itself.",
    HELD: "Another session has locked a table or a row: see pg_stat_activity and pg_locks. The log goes on by itself.",
    CANCELED: "It took too long and was given up: is a statement_timeout set for this user?",
    "57P03": "It is starting or stopping. The log goes on by itself.",
}
"""By SQLSTATE or its class: what to do."""

PORT_MAX: Final = 65_535
EXPECTED: Final = (
    "Expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE, where / # ? @ : and % in a user or a password are written "
    "%2F %23 %3F %40 %3A and %25."
)
NOT_THERE: Final = "Is it running, and is the address right? The log goes on by itself once it answers."
NOT_HEARD: Final = "Whether this was written isn't known; it is settled by sending it again."


class StatementRefused(LogUnavailable):
    """The database refused a statement.

    `again`: it was rolled back for another's sake, so it may be sent again at once. `held`: it waited too long for
    something that another session has locked. `slow`: it took longer than it may.
    """

    def __init__(self, message: str, *, again: bool = False, held: bool = False, slow: bool = False) -> None:
        super().__init__(message)
        self.again = again
        self.held = held
        self.slow = slow


def shown(url: str) -> str:
    """The URL without its password and its other settings, for people. `AmendsError` if it is none; the text names
    nothing of it, for what is wrong with it may be the password.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise AmendsError(f"the log's URL can't be read: {error}. {EXPECTED}") from None
    login, at, hosts = parts.netloc.rpartition("@")
    said = [(name, value) for name, value in parse_qsl(parts.query) if name in SHOWN]
    ports = [_port(each) for each in hosts.split(",")]
    ports += [each for name, value in said if name == "port" for each in value.split(",")]
    if "@" in login or parts.fragment or not all(map(_is_port, ports)):
        raise AmendsError(
            f"the log's URL can't be read: its user, its password or a port isn't as it must be. {EXPECTED}"
        )
    user = login.partition(":")[0]
    query = urlencode(said, safe="/,:")
    return f"{parts.scheme}://{user}{at if user else ''}{hosts}{parts.path}{'?' if query else ''}{query}"


def _port(host: str) -> str:
    """The port of `host:port` or `[::1]:port`; empty if none is said."""
    return host.rpartition("]")[2].partition(":")[2]


def _is_port(text: str) -> bool:
    return not text or (text.isascii() and text.isdecimal() and int(text) <= PORT_MAX)


@contextmanager
def told(where: str, *, sent: bool = True) -> Generator[None]:
    """Make errors of the driver ours. `sent`: a statement was on its way, so a lost connection leaves it open."""
    try:
        yield
    except asyncpg.PostgresError as error:
        state: str = error.sqlstate or ""
        if state.startswith(MISTAKES):
            raise
        raise _meant(where, error, state, sent=sent) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        if sent:
            raise LogUnclear(f"{where}: {reason}. {NOT_HEARD}") from error
        raise LogUnavailable(f"{where} can't be reached: {reason}. {NOT_THERE}") from error


def _meant(where: str, error: asyncpg.PostgresError, state: str, *, sent: bool) -> LogUnavailable:
    said = " ".join(str(error).split())  # details and hints come in lines of their own
    if sent and state.startswith(UNCLEAR):
        return LogUnclear(f"{where}: {said} ({state}). {NOT_HEARD}")
    remedy = REMEDIES.get(state) or REMEDIES.get(state[:2]) or "Nothing of this was written."
    text = f"{where}: {said} ({state}). {remedy}"
    return (
        LogUnavailable(text)
        if state in AFRESH
        else StatementRefused(text, again=state in AGAIN, held=state == HELD, slow=state == CANCELED)
    )
