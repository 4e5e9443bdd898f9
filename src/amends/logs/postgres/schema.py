"""The log's tables: numbered migrations, applied in order, one transaction for all that are missing.

A process that applies migrations holds an advisory lock, so that two deploys at once are one after the other. A program
works on exactly its own version: what is older lacks something, what is newer may mean something else.
"""

from importlib.resources import files
from typing import Final

from amends.core.words.errors import SchemaMismatch
from amends.logs.named_sql import resource
from amends.logs.postgres.connections import Connection, DatabaseAddress
from amends.logs.postgres.failures import told

PACKAGE: Final = "amends.logs.postgres.migrations"
LOCK: Final = 0x616D656E6473
"""The letters `amends`: a process that changes the tables holds this advisory lock."""

APPLY_SECONDS: Final = 86_400.0
"""How long bringing tables up to date may take, and waiting for another process that is at it: to index many runs takes
its time.
"""

NO_LIMITS: Final = (
    "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;\n"
)
"""What this user is held to in his daily work."""

PREPARE: Final = """\
DO $$ BEGIN
    IF to_regnamespace('amends') IS NULL THEN  -- a role that may use it but not make it needn't
        CREATE SCHEMA amends;
    END IF;
END $$;
CREATE TABLE IF NOT EXISTS amends.schema_versions (
    version    integer     NOT NULL PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""
ENCODING: Final = "UTF8"
NOTED: Final = "INSERT INTO amends.schema_versions (version) VALUES ({version});\n"
IS_THERE: Final = "SELECT to_regclass('amends.schema_versions') IS NOT NULL"
VERSION: Final = "SELECT coalesce(max(version), 0) FROM amends.schema_versions"


def migrations() -> dict[int, str]:
    """Every migration by its number."""
    names = [each.name for each in files(PACKAGE).iterdir() if each.name.endswith(".sql")]
    return {int(name.removesuffix(".sql")): resource(PACKAGE, name) for name in sorted(names)}


LATEST: Final = max(migrations())


def script(after: int = 0) -> str:
    """Everything that makes version `after` the latest, as one transaction to be run with `psql`."""
    parts = [f"{text}\n{NOTED.format(version=number)}" for number, text in migrations().items() if number > after]
    lock = f"SELECT pg_advisory_xact_lock({LOCK});\n"
    return "\n".join(["BEGIN;", NO_LIMITS + lock + PREPARE, *parts, "COMMIT;\n"])


async def version_of(connection: Connection) -> int:
    """The version of the tables in this database; 0 where there are none."""
    return int(await connection.fetchval(VERSION)) if await connection.fetchval(IS_THERE) else 0


async def check(connection: Connection, place: DatabaseAddress) -> None:
    """Refuse tables that aren't this program's, before anything is written."""
    _refuse_encoding(connection, place)
    found = await version_of(connection)
    if found == 0:
        raise SchemaMismatch(f"there is no log in {place.shown} yet. Make it: amends schema apply --log {place.shown}")
    if found < LATEST:
        raise SchemaMismatch(
            f"the log in {place.shown} has schema {found}, this amends needs {LATEST}. Nothing was changed. "
            f"Bring it up to date: amends schema apply --log {place.shown}"
        )
    _refuse_newer(found, place)


def _refuse_newer(found: int, place: DatabaseAddress) -> None:
    if found > LATEST:
        raise SchemaMismatch(
            f"the log in {place.shown} was made by a newer amends (its schema is {found}, this one knows {LATEST}). "
            "Nothing was changed. Install the newer one: pip install --upgrade amends"
        )


def _refuse_encoding(connection: Connection, place: DatabaseAddress) -> None:
    """Names, tags and errors may hold any character; a run that can't be written for one would never end."""
    encoding: str = connection.get_settings().server_encoding
    if encoding != ENCODING:
        raise SchemaMismatch(
            f"the database {place.shown} is encoded in {encoding}, which can't hold every character. "
            f"Make another for the log: createdb --encoding {ENCODING} --template template0 NAME"
        )


async def found_version(url: str) -> int:
    """The version of the tables where a URL leads, 0 where there are none; `SchemaMismatch` for one not known here."""
    place = DatabaseAddress(url)
    connection = await place.connect()
    try:
        with told(place.shown):
            found = await version_of(connection)
            _refuse_newer(found, place)
            return found
    finally:
        await connection.close()


async def apply(url: str) -> tuple[int, int]:
    """Bring the tables up to date; from which version to which. Two at once: the second finds it done."""
    place = DatabaseAddress(url)
    connection = await place.connect()
    try:
        _refuse_encoding(connection, place)
        with told(place.shown):
            async with connection.transaction():
                await connection.execute(NO_LIMITS)
                await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK, timeout=APPLY_SECONDS)
                before = await version_of(connection)
                _refuse_newer(before, place)
                if before == 0:
                    await connection.execute(PREPARE)
                for number, text in migrations().items():
                    if number > before:
                        await connection.execute(text, timeout=APPLY_SECONDS)
                        await connection.execute(NOTED.format(version=number))
    finally:
        await connection.close()
    return before, LATEST
