"""`amends ls`, `amends show`: what is in a log. Only reads, also while a server works on it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from amends.cli.errors import BadUsage
from amends.cli.output import Json, as_json, columns
from amends.cli.serve import LOG_DEFAULT

if TYPE_CHECKING:
    from amends.ports.log import LogReader
    from amends.server.views import RowView, RunView

Log = Annotated[str, typer.Option("--log", metavar="URL", help="The log to look into.")]

LIMIT_DEFAULT: Final = 100
LIVE: Final = ("running", "compensating", "stuck")


def ls(
    *,
    log: Log = LOG_DEFAULT,
    live: Annotated[bool, typer.Option("--live", help="Only what hasn't ended.")] = False,
    saga: Annotated[str | None, typer.Option(help="Only runs of this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = LIMIT_DEFAULT,
    json: Json = False,
) -> None:
    """List runs, newest first."""
    rows = asyncio.run(_find(log, states=LIVE if live else (), saga=saga, limit=limit))
    if json:
        as_json({"runs": rows})
        return
    if not rows:
        print("no runs")
        return
    table = [("run", "saga", "state", "at", "started")]
    table += [(each.id, f"{each.saga} v{each.version}", _state(each), _at(each), _time(each)) for each in rows]
    for line in columns(table):
        print(line)


def show(
    run: Annotated[str, typer.Argument(metavar="ID")],
    *,
    log: Log = LOG_DEFAULT,
    json: Json = False,
) -> None:
    """Show one run."""
    view = asyncio.run(_read(log, run))
    if json:
        as_json(view)
        return
    tags = "".join(f"   {name}={value}" for name, value in view.tags.items())
    print(f"{view.id}   {view.saga} v{view.version}   {_state(view)}   {_time(view)}{tags}")
    if view.outcome is not None and view.outcome.reason:
        print(f"  because    {view.outcome.reason}")
    for each in view.stuck:
        detail = f": {each.detail}" if each.detail else ""
        print(f"  stuck      {each.step or 'the run'}, {each.phase or 'all'}: {each.reason}{detail}")
    table = [
        (
            each.name,
            each.kind,
            each.state,
            f"{each.attempts} attempt{'' if each.attempts == 1 else 's'}",
            each.error or "",
        )
        for each in view.steps
    ]
    for line in columns(table, indent="  ") if table else ():
        print(line)


async def _find(url: str, *, states: Sequence[str], saga: str | None, limit: int) -> "list[RowView]":
    from amends.ports.log import Find
    from amends.server.views import row_view

    async with _reading(url) as log:
        return [row_view(each) for each in await log.find(Find(states=states, saga=saga, limit=limit))]


async def _read(url: str, run: str) -> "RunView":
    from amends.server.stored import stored_view

    async with _reading(url) as log:
        _, view = await stored_view(log, run)
        return view


@asynccontextmanager
async def _reading(url: str) -> "AsyncGenerator[LogReader]":
    scheme, _, rest = url.partition(":")
    path = rest.removeprefix("///")
    if scheme == "memory":
        msg = "a memory: log is in the process that runs it, and nowhere else. Ask its server."
        raise BadUsage(msg)
    if scheme != "sqlite" or not rest.startswith("///") or not path:
        msg = f"--log {url}: expected sqlite:///file.db, or sqlite:////absolute/file.db."
        raise BadUsage(msg)
    from amends.logs.sqlite.log import open_readonly

    async with open_readonly(path) as log:
        yield log


def _state(view: "RowView | RunView") -> str:
    state = "STUCK" if view.state == "stuck" else view.state
    return f"{state}, by hand" if view.by_hand else state


def _at(row: "RowView") -> str:
    """What it is at: what only a person can move comes first."""
    if row.stuck:
        return ", ".join(f"{each.step}, {each.phase}: {each.reason}" for each in row.stuck)
    return ", ".join(row.current) or "-"


def _time(view: "RowView | RunView") -> str:
    return f"{view.created_at:%Y-%m-%d %H:%M:%S} UTC"
