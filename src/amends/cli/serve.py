"""`amends serve`: sagas over HTTP, until told to stop."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from amends.cli.errors import BadUsage
from amends.cli.output import Json, as_json

if TYPE_CHECKING:
    from amends.core.operation import Route
    from amends.ports.log import TransactionLog

LISTEN_DEFAULT: Final = "127.0.0.1:8700"
LOG_DEFAULT: Final = "sqlite:///amends.db"


def serve(
    sagas: Annotated[list[str], typer.Argument(metavar="MODULE[:NAME]...", help="Where the sagas are.")],
    *,
    log: Annotated[str, typer.Option(metavar="URL", help="memory: or sqlite:///file.db")] = LOG_DEFAULT,
    route: Annotated[
        list[str] | None,
        typer.Option(metavar="PARTICIPANT=URL", help="http://host/path or python:module:name; repeat per participant."),
    ] = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Port 0 takes any.")] = LISTEN_DEFAULT,
    json: Json = False,
) -> None:
    """Run sagas and serve them over HTTP."""
    from amends.cli.modules import find_sagas
    from amends.core.errors import NoRoute
    from amends.server import process
    from amends.server.listen import BadAddress, parse_address

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        address = parse_address(listen)
    except BadAddress as error:
        raise BadUsage(str(error)) from error
    found = find_sagas(sagas)
    titles = [f"{each.name} v{each.version}" for each in found]

    def ready(url: str) -> None:
        if json:
            as_json({"url": url, "log": log, "sagas": titles})
        else:
            print(f"amends   {url}   {log}   {', '.join(titles)}", flush=True)

    try:
        process.serve(found, log=_log(log), routes=_routes(route or ()), address=address, ready=ready)
    except NoRoute as error:
        msg = f"{error}\nOn the command line: --route PARTICIPANT=http://..."
        raise NoRoute(msg) from error


def _log(url: str) -> "TransactionLog":
    from amends.compose import open_log
    from amends.core.errors import AmendsError

    try:
        return open_log(url)
    except AmendsError as error:
        msg = f"--log {error}"
        raise BadUsage(msg) from error


def _routes(told: Sequence[str]) -> "list[Route]":
    from amends.core.operation import Route

    routes: dict[str, Any] = {}
    for each in told:
        participant, equals, where = each.partition("=")
        if not equals or not participant or not where:
            msg = f"--route {each}: expected PARTICIPANT=URL, as inventory=http://127.0.0.1:8001/saga"
            raise BadUsage(msg)
        if participant in routes:
            msg = f"--route {participant} is said twice: {routes[participant].where} and {where}."
            raise BadUsage(msg)
        routes[participant] = Route(participant, where)
    return list(routes.values())
