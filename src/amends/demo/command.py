"""`amends demo`: three services, their databases and an orchestrator as real processes; orders under faults; a kill in
the middle; and an audit of what is left.

Exit 0 if the audit holds, 1 if it doesn't or a process failed, 2 if the demo can't be given as told.
"""

import asyncio
import json
import os
import secrets
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from amends.demo.result import Result
    from amends.demo.settings import DemoSettings

SEEDS: Final = 10_000
"""Seeds that aren't told are drawn below this: short enough to be typed again."""


class FaultLevel(StrEnum):
    """How often calls are hit."""

    NONE = "none"
    SOME = "some"
    MANY = "many"


def demo_command(
    *,
    orders: Annotated[int, typer.Option(min=1, max=9_999, help="How many orders are placed.")] = 200,
    concurrency: Annotated[int, typer.Option(min=1, max=500, help="How many at a time.")] = 32,
    faults: Annotated[
        FaultLevel, typer.Option(help="How often services fail, hang, drop or repeat calls.")
    ] = FaultLevel.SOME,
    dir: Annotated[  # noqa: A002 - the option's name
        Path | None, typer.Option(help="Where the data go and stay: new or empty. Default: a fresh temporary folder.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Makes orders and faults repeatable. Default: drawn.")] = None,
    work_ms: Annotated[int, typer.Option(min=0, max=10_000, help="How long services work on a call, about.")] = 10,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The orchestrator's. 0: any that is free.")] = 0,
    inventory_port: Annotated[int, typer.Option(min=0, max=65_535, help="A service's.")] = 0,
    payment_port: Annotated[int, typer.Option(min=0, max=65_535, help="A service's.")] = 0,
    shipping_port: Annotated[int, typer.Option(min=0, max=65_535, help="A service's.")] = 0,
    postgres: Annotated[
        bool, typer.Option("--postgres", help="Log and databases on a PostgreSQL server of the demo's own.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, max=8, help="Orchestrator processes on one log; more than one needs --postgres.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one JSON object, the last line.")] = False,
) -> None:
    """See it work: a shop of three services, orders under faults, the orchestrator killed in the middle, an audit."""
    # Said before what takes a second to import: silence looks like a demo that hangs.
    opening = f"amends demo: {orders} orders over three services, faults: {faults.value}. It takes some ten seconds."
    print(opening, file=sys.stderr if as_json else sys.stdout, flush=True)
    from rich.console import Console

    from amends.demo.settings import ORCHESTRATOR, DemoSettings, Impossible, usable_folder, usable_ports

    told = {ORCHESTRATOR: port, "inventory": inventory_port, "payment": payment_port, "shipping": shipping_port}
    if workers > 1 and not postgres:
        _fail(f"--workers {workers} needs --postgres: a log in a file is one process's.", 2)
    try:
        ports = usable_ports(told)
        settings = DemoSettings(
            folder=usable_folder(dir),
            orders=orders,
            concurrency=concurrency,
            faults=faults.value,
            seed=secrets.randbelow(SEEDS) if seed is None else seed,
            work_ms=work_ms,
            ports=ports,
            postgres=postgres,
            workers=workers,
        )
    except Impossible as error:
        _fail(str(error), 2)
    console = Console(stderr=as_json, soft_wrap=True, highlight=False, emoji=False, markup=False)
    result = _given(settings, console)
    show(result, console)
    if as_json:
        print(json.dumps(result.as_json()), flush=True)
    raise typer.Exit(0 if result.audit_ok else 1)


def show(result: "Result", console: "Console") -> None:
    """The story of one order, then the summary."""
    from amends.core.words.visible import visible

    story = result.findings.story
    if story is not None:
        console.print(f"\nthe story of {story.run} ({story.saga}), which was turned back, from the log:")
        console.print(visible(str(story), lines=True))
    console.print(f"\n{result}")
    there = "postgres" if result.postgres else "inventory.db, payment.db, shipping.db, log.db"
    console.print(f"data          {result.folder} ({there}); seed {result.seed}")
    if not result.postgres:  # its server has stopped
        run = "uv run amends" if "UV_RUN_RECURSION_DEPTH" in os.environ else "amends"
        log = f"--log sqlite:///{result.folder / 'log.db'}"
        console.print(f"next          {run} ls {log}")
        if story is not None:
            console.print(f"              {run} show {story.run} --events {log}")
        console.print("              docs/tutorial/first-saga.md writes a saga of your own, step by step")


def _given(settings: "DemoSettings", console: "Console") -> "Result":
    from amends.core.words.errors import AmendsError
    from amends.demo.run import demonstrate
    from amends.shop.service_process import NotReady

    stopped_by: list[signal.Signals] = []

    async def main() -> "Result":
        task = asyncio.current_task()
        assert task is not None

        def stop(by: signal.Signals) -> None:
            stopped_by.append(by)
            task.cancel()

        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(each, stop, each)
        return await demonstrate(settings, console)

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if not stopped_by:
            raise
        _fail(
            f"stopped by {stopped_by[0].name}; nothing runs any more. The data are in {settings.folder}",
            128 + stopped_by[0],
        )
    except (NotReady, AmendsError) as error:
        _fail(f"{error}\nThe data are in {settings.folder}", 1)


def _fail(message: str, status: int) -> NoReturn:
    print(f"error   {message}", file=sys.stderr, flush=True)
    raise typer.Exit(status)
