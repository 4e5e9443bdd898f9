"""`amends serve`: sagas over HTTP, until told to stop."""

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from amends.cli.errors import BadUsage
from amends.cli.output import Json, as_json, tell

if TYPE_CHECKING:
    from amends.config.loading import Flag
    from amends.config.settings import Settings
    from amends.core.saga.saga import Saga
    from amends.ports.log import TransactionLog
    from amends.server.setup import ServerSetup

LOG_DEFAULT: Final = "sqlite:///amends.db"

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings; amends.toml here, if there is one.")
]


def serve(
    sagas: Annotated[
        list[str] | None, typer.Argument(metavar="MODULE[:NAME]...", help="Where the sagas are; else `modules`.")
    ] = None,
    *,
    log: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help=f"sqlite:///file.db, postgresql://host/db or memory:; {LOG_DEFAULT} unless set."
        ),
    ] = None,
    route: Annotated[
        list[str] | None,
        typer.Option(metavar="PARTICIPANT=URL", help="http://host/path or python:module:name; repeat per participant."),
    ] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Port 0 takes any; 127.0.0.1:8700 unless set.")
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(metavar="URL", help="How participants reach this server, for later answers.")
    ] = None,
    leave: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SAGA", help="Start though live runs need this saga and it isn't loaded; repeat per saga."
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, max=64, help="So many processes behind one address; PostgreSQL only.")
    ] = 1,
    log_format: Annotated[
        Literal["text", "json"] | None, typer.Option(help="Of the log on the standard error; text unless set.")
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option(help="The least level that is logged; warning unless set."),
    ] = None,
    access_log: Annotated[
        bool | None, typer.Option("--access-log/--no-access-log", help="Log each answered request; off unless set.")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Run sagas and serve them over HTTP."""
    from amends.cli.modules import find_sagas
    from amends.config.loading import Flag, load
    from amends.config.values import BadSetting
    from amends.core.words.errors import NoRoute
    from amends.core.words.urls import shown_url
    from amends.server import process
    from amends.server.access import BadToken
    from amends.server.listen import BadAddress
    from amends.server.process_log import write_log
    from amends.server.setup import set_up
    from amends.server.shutdown import Ending
    from amends.server.supervisor import INHERITED

    said = [
        (("modules",), sagas or None, "MODULE"),
        (("log",), log, "--log"),
        (("server", "listen"), listen, "--listen"),
        (("server", "public_url"), public_url, "--public-url"),
        (("engine", "leave"), leave or None, "--leave"),
        (("server", "log_format"), log_format, "--log-format"),
        (("server", "log_level"), log_level, "--log-level"),
        (("server", "access_log"), access_log, "--access-log"),
    ]
    flags = [Flag(path, value, name) for path, value, name in said if value is not None]
    try:
        flags += _routes(route or ())
        settings = load(flags, file=config).settings
        setup = set_up(settings, again=lambda: load(flags, file=config).settings)
    except (BadSetting, BadToken, BadAddress) as error:
        raise BadUsage(str(error)) from error
    logged = settings.server
    write_log(logged.log_format, logged.log_level, access=logged.access_log, names_process=workers > 1)
    if not settings.modules:
        msg = 'no sagas: name them, as in amends serve shop.sagas, or set modules = ["shop.sagas"] in amends.toml.'
        raise BadUsage(msg)
    found = find_sagas(settings.modules)
    _check_participants(route or (), settings, found)
    titles = [f"{each.name} v{each.version}" for each in found]

    def ready(url: str) -> None:
        where = shown_url(settings.log)
        if json:
            as_json({"url": url, "log": where, "sagas": titles, "pid": os.getpid()})
        else:
            worker = f"   worker {os.getpid()}" if workers > 1 else ""
            tell(f"amends   {url}   {where}   {', '.join(titles)}{worker}")

    try:
        if workers > 1 and INHERITED not in os.environ:
            _check_workers(workers, settings)
            _supervise(workers, setup)
            return
        process.serve(found, setup, log=_log(settings), ready=ready, ending=Ending())
    except NoRoute as error:
        msg = f"{error}\nOn the command line: --route PARTICIPANT=http://..."
        raise NoRoute(msg) from error


def _check_participants(routes: Sequence[str], settings: "Settings", sagas: "Sequence[Saga[Any]]") -> None:
    """Refuse names that no loaded saga calls: on the command line any, in the settings those that look like a slip.

    A file of settings may serve several processes with other sagas each.
    """
    from amends.config.routes import FOR_ALL
    from amends.orchestrator import load_definitions

    named = [each.partition("=")[0] for each in routes]
    listed = [each for each in settings.participants if each != FOR_ALL]
    if not named and not listed:
        return
    called = sorted({each for definition in load_definitions(sagas) for each in definition.participants})
    for where, names in (("--route", named), ("participants", listed)):
        for name in names:
            near = get_close_matches(name, called, 1)
            if name in called or (where == "participants" and not near):
                continue
            place = f"--route {name}" if where == "--route" else f"[participants.{name}]"
            meant = f" Did you mean {near[0]}?" if near else ""
            known = ", ".join(called) or "none"
            msg = f"{place}: no loaded saga calls a participant {name}.{meant} The loaded sagas call: {known}."
            raise BadUsage(msg)


def _check_workers(workers: int, settings: "Settings") -> None:
    if settings.log.partition(":")[0] not in {"postgresql", "postgres"}:
        msg = f"--workers {workers}: one process per log in a file or in memory. For more: --log postgresql://HOST/DATABASE"
        raise BadUsage(msg)
    _log(settings)


def _supervise(workers: int, setup: "ServerSetup") -> None:
    """Run the same command so many times, on one socket."""
    from amends.server.listen import listen_on
    from amends.server.supervisor import supervise

    command = [sys.executable, "-m", "amends.cli.main", *sys.argv[1:]]
    with listen_on(*setup.address) as listening:
        supervise(command, workers, listening, grace_seconds=setup.settings.server.grace)


def _log(settings: "Settings") -> "TransactionLog":
    from amends.config.values import looked_up
    from amends.core.words.errors import AmendsError
    from amends.orchestrator import open_log

    try:
        return open_log(looked_up(settings.log), lease_seconds=settings.engine.lease)
    except AmendsError as error:
        msg = f"--log {error}"
        raise BadUsage(msg) from error


def _routes(told: Sequence[str]) -> "list[Flag]":
    from amends.config.loading import Flag

    routes: dict[str, Flag] = {}
    for each in told:
        participant, equals, where = each.partition("=")
        if not equals or not participant or not where:
            msg = f"--route {each}: expected PARTICIPANT=URL, as inventory=http://127.0.0.1:8001/saga"
            raise BadUsage(msg)
        if participant in routes:
            msg = f"--route {participant} is said twice: {routes[participant].value} and {where}."
            raise BadUsage(msg)
        routes[participant] = Flag(("participants", participant, "url"), where, "--route")
    return list(routes.values())
