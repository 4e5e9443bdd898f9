"""`amends schema`: the tables of a log on PostgreSQL, shown or made."""

import asyncio
from enum import StrEnum
from typing import Annotated, Final

import typer

from amends.cli.errors import BadUsage
from amends.cli.output import Json, as_json, tell
from amends.cli.source_log import LogToOpen, settings_here


class Dialect(StrEnum):
    """Databases of services."""

    POSTGRESQL = "postgresql"
    SQLITE = "sqlite"


schema: Final = typer.Typer(help="The tables of a log on PostgreSQL.", no_args_is_help=True)

AnyLog = Annotated[
    str | None, typer.Option("--log", metavar="URL", help="Only what the log there lacks; without it: everything.")
]


Barrier = Annotated[
    Dialect | None, typer.Option("--barrier", help="A service's barrier tables instead, for its own database.")
]


@schema.command()
def show(*, log: AnyLog = None, barrier: Barrier = None, json: Json = False) -> None:
    """Print the statements, to apply them by other means."""
    if barrier is not None:
        _show_barrier(barrier, json=json)
        return
    from amends.logs.postgres import schema as tables

    found = 0 if log is None else asyncio.run(tables.found_version(_postgres(log)))
    script = tables.script(found) if found < tables.LATEST else ""
    if json:
        as_json({"found": found, "latest": tables.LATEST, "sql": script})
    else:
        tell(script.removesuffix("\n") or f"-- The log has schema {found}: there is nothing to be done.")


@schema.command()
def apply(*, log: LogToOpen = None, json: Json = False) -> None:
    """Make the tables, or bring them up to date. Two at once are one after the other."""
    url = _postgres(log if log is not None else _log_of_settings())
    from amends.logs.postgres import schema as tables

    before, after = asyncio.run(tables.apply(url))
    if json:
        as_json({"before": before, "after": after})
    elif before == after:
        tell(f"the log has schema {after} already")
    else:
        tell(f"the log has schema {after} now" + (f", it had {before}" if before else ""))


def _show_barrier(dialect: Dialect, *, json: bool) -> None:
    from importlib import import_module

    from sqlalchemy import MetaData
    from sqlalchemy.schema import CreateTable

    from amends.inboxes.sqlalchemy import barrier_table

    metadata = MetaData()
    barrier_table(metadata)
    spoken = import_module(f"sqlalchemy.dialects.{dialect.value}").dialect()
    sql = "".join(f"{str(CreateTable(each).compile(dialect=spoken)).strip()};\n" for each in metadata.sorted_tables)
    if json:
        as_json({"sql": sql})
    else:
        tell(sql.removesuffix("\n"))


def _log_of_settings() -> str:
    from amends.config.values import BadSetting, looked_up

    try:
        return looked_up(settings_here().log)
    except BadSetting as error:
        raise BadUsage(str(error)) from error


def _postgres(url: str) -> str:
    from amends.core.words.urls import shown_url

    if url.partition(":")[0] not in {"postgresql", "postgres"}:
        msg = (
            f"--log {shown_url(url)}: only a log on PostgreSQL has tables that are made beforehand: "
            "postgresql://USER@HOST/DATABASE"
        )
        raise BadUsage(msg)
    return url
