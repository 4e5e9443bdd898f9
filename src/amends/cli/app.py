"""The table of commands. A command is a function in a module of its own, and imports what it needs when it runs."""

from collections.abc import Callable
from importlib import metadata
from typing import Annotated, Any, Final

import typer

from amends.cli.alerts import alerts
from amends.cli.check import check
from amends.cli.config import config
from amends.cli.demo import demo
from amends.cli.explore import explore
from amends.cli.graph import graph
from amends.cli.inspect import export, ls, show, stuck
from amends.cli.new import new
from amends.cli.operate import abandon, answer, cancel, compensate, probe, resolve, retry, skip
from amends.cli.purge import purge
from amends.cli.rekey import rekey
from amends.cli.schema import schema
from amends.cli.serve import serve
from amends.cli.simulate import simulate
from amends.cli.start import start
from amends.cli.token import token
from amends.cli.top import top
from amends.cli.workers import workers

BEGIN: Final = "begin"
RUN: Final = "run"
LOOK: Final = "look"
ACT: Final = "act"

COMMANDS: Final[tuple[tuple[str, Callable[..., Any]], ...]] = (
    (BEGIN, new),
    (BEGIN, check),
    (BEGIN, explore),
    (BEGIN, graph),
    (BEGIN, simulate),
    (RUN, serve),
    (RUN, config),
    (RUN, token),
    (RUN, alerts),
    (RUN, purge),
    (RUN, rekey),
    (LOOK, ls),
    (LOOK, stuck),
    (LOOK, show),
    (LOOK, workers),
    (LOOK, top),
    (LOOK, export),
    (ACT, start),
    (ACT, answer),
    (ACT, cancel),
    (ACT, compensate),
    (ACT, retry),
    (ACT, probe),
    (ACT, resolve),
    (ACT, skip),
    (ACT, abandon),
)

app = typer.Typer(
    name="amends",
    help="Distributed transactions as sagas.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# What the demo takes is said by the demo, which is loaded only when it is asked for.
app.command(
    "demo",
    rich_help_panel=BEGIN,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)(demo)

app.add_typer(schema, name="schema", rich_help_panel=RUN)

for panel, command in COMMANDS:
    app.command(command.__name__, rich_help_panel=panel)(command)


def _version(asked: bool) -> None:  # noqa: FBT001 - called by typer
    if asked:
        print(f"amends {metadata.version('amends')}")
        raise typer.Exit


@app.callback()
def _amends(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which one this is.")
    ] = False,
) -> None:
    """Distributed transactions as sagas."""
