"""What went wrong between us and the database, told by what it means for what was being written.

The database's own word is its SQLSTATE. A statement it refused wasn't written, and may be sent again when the cause is
gone. When the connection was lost, or nothing was heard in time, it isn't known whether it was: `LogUnclear`. What a
value is refused for is its caller's mistake, and goes through as it is.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from amends.core.errors import LogUnavailable, LogUnclear

MISTAKES: Final = ("22", "23")
"""Classes of SQLSTATE: a value that a column can't take, a row that breaks a constraint."""

UNCLEAR: Final = ("08", "57P01", "57P02", "57P05")
"""The connection broke, or the server ended while it was at work: perhaps after the commit."""

AGAIN: Final = ("40001", "40P01")
"""Rolled back for another's sake: at once again."""

REMEDIES: Final[Mapping[str, str]] = {
    "25006": "It is read-only: is it a standby? The log goes on by itself once it can be written.",
    "28": "Look at user and password in the log's URL.",
    "3D000": "There is no such database. Make it: createdb NAME",
    "3F000": "There is no log in this database. Make it: amends schema apply --log URL",
    "42P01": "There is no log in this database, or only a part of it. Make it: amends schema apply --log URL",
    "42501": "This user may not. Grant it usage on schema amends, and what it needs on its tables.",
    "53100": "Its disk is full. Make room; the log goes on by itself.",
    "53200": "It is out of memory. The log goes on by itself.",
    "53300": "It has no connection left. Raise max_connections, or run fewer processes; the log goes on by itself.",
    "57014": "It took too long and was given up.",
    "57P03": "It is starting or stopping. The log goes on by itself.",
}
"""By SQLSTATE or its class: what to do."""

NOT_THERE: Final = "Is it running, and is the address right? The log goes on by itself once it answers."
NOT_HEARD: Final = "Whether this was written isn't known; it is settled by sending it again."


class Refusal(LogUnavailable):
    """The database refused a statement; `again`: for another's sake, so it may be sent again at once."""

    def __init__(self, message: str, *, again: bool = False) -> None:
        super().__init__(message)
        self.again = again


def shown(url: str) -> str:
    """The URL without its password and its settings, for people."""
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit((parts.scheme, f"{user}{parts.hostname or ''}{port}", parts.path, "", ""))


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
    if sent and state.startswith(UNCLEAR):
        return LogUnclear(f"{where}: {error} ({state}). {NOT_HEARD}")
    remedy = REMEDIES.get(state) or REMEDIES.get(state[:2]) or "Nothing of this was written."
    return Refusal(f"{where}: {error} ({state}). {remedy}", again=state in AGAIN)
