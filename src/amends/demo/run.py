"""The demo from start to end: start all, place orders, kill the orchestrator in the middle, let all come to an end,
stop everything, and only then read from the files what came of it.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from time import monotonic
from typing import Final

from rich.console import Console
from sqlalchemy import text

from amends.demo.customers import Customers
from amends.demo.picture import LOOK_SECONDS, DemoScene, Picture, follow_faults, picture_of
from amends.demo.processes import Processes
from amends.demo.result import Kills, Result, examine
from amends.demo.settings import LEASE_SECONDS, LOG_DATABASE, SERVICES, DemoSettings
from amends.shop.books import snapshot
from amends.shop.catalogue import catalogue_for, orders

KILL_SHARE: Final = 0.5
"""The orchestrator dies when this share of the orders has been acknowledged."""

STOP_SHARE: Final = 0.7
"""Where there are several workers: another one is stopped when this share has been acknowledged."""

ASLEEP_SECONDS: Final = 3.0
"""Longer than the lease."""

OUTAGE_SECONDS: Final = 0.5
"""How long the orchestrator is down: long enough for customers to notice, and for services to finish what the dead one
asked.
"""

PATIENCE_SECONDS: Final = 60.0
PATIENCE_SECONDS_PER_ORDER: Final = 0.5
"""A bound, not a forecast: an order that hasn't ended by then is a violation."""


async def demonstrate(settings: DemoSettings, console: Console) -> Result:
    """The whole demo; afterwards nothing runs any more. `NotReady` if a process didn't start, or ended by itself."""
    began = monotonic()
    catalogue = catalogue_for(settings.orders)
    placed = orders(settings.seed, settings.orders, catalogue)
    scene = DemoScene(settings.orders)
    async with (
        picture_of(scene, console) as picture,
        server_for(settings, picture) as settings,  # noqa: PLR1704 - the same, and where its server is
        Processes(settings) as processes,
    ):
        picture.say(f"the data are in {settings.folder}")
        picture.say("starting three services and the orchestrator")
        await processes.start()
        for each in processes.all:
            picture.say(f"  {each.name} {each.url}")
        scene.orchestrator = "up"
        picture.say(
            f"placing {settings.orders} orders, {settings.concurrency} at a time, faults: {settings.faults}, "
            f"seed {settings.seed}"
        )
        customers = Customers(processes.orchestrator.url, placed, settings.concurrency)
        play = _play(customers, processes, picture, scene, settings)
        patience = PATIENCE_SECONDS + PATIENCE_SECONDS_PER_ORDER * settings.orders
        kills = await _while_all_goes_well(
            play,
            processes.watch(),
            follow_faults({each.name: each.url for each in processes.services}, scene),
            _follow_customers(customers, scene),
            patience=patience,
        )
        scene.orchestrator = "stopping"
        if kills is None:
            picture.say(f"  not all orders have ended within {patience:.0f} s; the audit will say which")
        picture.say("stopping everything; late copies of calls still arrive")
        await processes.stop()
        picture.say("auditing the three databases and the log")
        kills = kills or Kills(count=processes.kills, unfinished=0, acknowledged=())
        findings = await examine(
            settings.folder,
            [each.id for each in placed],
            acknowledged=customers.acknowledged,
            refusals=customers.refusals,
            kills=kills,
            settings=settings,
        )
    return Result(
        folder=settings.folder,
        seed=settings.seed,
        faults=settings.faults,
        orders=settings.orders,
        asked_again=customers.asked_again,
        kills=kills,
        seconds=monotonic() - began,
        findings=findings,
        postgres=settings.postgres,
        workers=settings.workers,
    )


async def _play(
    customers: Customers, processes: Processes, picture: Picture, scene: DemoScene, settings: DemoSettings
) -> Kills:
    shopping = asyncio.create_task(customers.run())
    strike = _kill_in_the_middle if settings.workers == 1 else _strike_workers
    killing = asyncio.create_task(strike(customers, processes, picture, scene, settings))
    try:
        await asyncio.wait({shopping, killing}, return_when=asyncio.FIRST_EXCEPTION)
        for each in (shopping, killing):
            if each.done():
                each.result()
    finally:
        shopping.cancel()
        killing.cancel()
    picture.say("all customers have seen their orders end")
    return killing.result()


async def _kill_in_the_middle(
    customers: Customers, processes: Processes, picture: Picture, scene: DemoScene, settings: DemoSettings
) -> Kills:
    """Kill it while it is at work; should everything have ended just then, kill it again a little later."""
    mark = max(1, round(settings.orders * KILL_SHARE))
    while True:
        await customers.reached(mark)
        await processes.kill_orchestrator()
        scene.orchestrator = "killed"
        acknowledged = list(customers.acknowledged)
        unfinished = await count_unfinished(settings.log)
        picture.say(
            f"orchestrator killed with SIGKILL: {len(acknowledged)} orders were acknowledged, {unfinished} in the log "
            "are unfinished"
        )
        await asyncio.sleep(OUTAGE_SECONDS)
        await processes.start_orchestrator()
        scene.orchestrator = "up"
        picture.say("orchestrator started again; it goes on from the log")
        if unfinished or customers.done:
            return Kills(count=processes.kills, unfinished=unfinished, acknowledged=acknowledged)
        mark = len(acknowledged) + 1


async def _strike_workers(
    customers: Customers, processes: Processes, picture: Picture, scene: DemoScene, settings: DemoSettings
) -> Kills:
    """Kill one of the workers in the middle, and stop another for longer than its lease a little later."""
    await customers.reached(max(1, round(settings.orders * KILL_SHARE)))
    acknowledged = list(customers.acknowledged)
    unfinished = await count_unfinished(settings.log)
    await processes.kill_worker()
    scene.orchestrator = "a worker killed"
    picture.say(
        f"one of {settings.workers} workers killed with SIGKILL: {len(acknowledged)} orders were acknowledged, "
        f"{unfinished} in the log are unfinished; the others adopt its own when its lease of {LEASE_SECONDS} s is over"
    )
    await customers.reached(max(1, round(settings.orders * STOP_SHARE)))
    picture.say(f"another one stopped with SIGSTOP for {ASLEEP_SECONDS:.0f} s, longer than its lease")
    await processes.stop_worker_for(ASLEEP_SECONDS)
    scene.orchestrator = "up"
    picture.say("it was woken with SIGCONT: the log refuses what it still believes, and it begins anew")
    return Kills(count=processes.kills, unfinished=unfinished, acknowledged=acknowledged)


@asynccontextmanager
async def server_for(settings: DemoSettings, picture: Picture) -> AsyncGenerator[DemoSettings]:
    """A PostgreSQL server for this demo alone, with the databases that it needs; nothing where files will do."""
    if not settings.postgres:
        yield settings
        return
    from amends.logs.postgres import schema
    from amends.testing.postgres_server import PostgresServer

    server = PostgresServer(settings.folder / "postgres", settings={"max_connections": "200"})
    picture.say("starting PostgreSQL")
    await asyncio.to_thread(server.start)
    try:
        for each in (*SERVICES, LOG_DATABASE):
            await asyncio.to_thread(server.create, each)
        await schema.apply(f"{server.url}/{LOG_DATABASE}")
        await asyncio.to_thread(server.sql, f"ALTER DATABASE {LOG_DATABASE} SET search_path = amends, public")
        picture.say(f"  postgres {server.url}")
        yield replace(settings, server=server.url)
    finally:
        await asyncio.to_thread(server.stop)


async def count_unfinished(log: str) -> int:
    """How many runs the log holds that haven't ended."""
    async with snapshot(log) as db:
        return int(await db.scalar(text("select count(*) from runs where ended_at is null")) or 0)


async def _follow_customers(customers: Customers, scene: DemoScene) -> None:
    while True:
        scene.acknowledged = len(customers.acknowledged)
        scene.ended = customers.seen
        scene.asked_again = customers.asked_again
        await asyncio.sleep(LOOK_SECONDS)


async def _while_all_goes_well(play: Awaitable[Kills], *company: Awaitable[None], patience: float) -> Kills | None:
    """What `play` gives, `None` if it takes too long; what keeps it company never ends, or ends both by an error."""
    playing = asyncio.ensure_future(play)
    others = [asyncio.ensure_future(each) for each in company]
    try:
        done, _ = await asyncio.wait({playing, *others}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            if each is not playing:
                each.result()
        return playing.result() if playing in done else None
    finally:
        for each in (playing, *others):
            each.cancel()
        for each in (playing, *others):
            with suppress(asyncio.CancelledError, Exception):  # the first one has been told; these were only in the way
                await each
