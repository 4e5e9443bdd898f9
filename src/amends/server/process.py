"""One process that serves: socket, log, engine, HTTP server, in this order up and in the opposite order down.

The address is taken first, since it is the one thing that can be refused without having touched anything. On
SIGTERM or SIGINT nothing new is accepted, whoever waits is answered, calls in flight get their time, runs are let
go of and the log is closed. A log that broke ends the process in the same way: going on would mean to act without
being able to write it down.
"""

import asyncio
import signal
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from typing import Any, Final

import uvicorn
import uvloop
from starlette.applications import Starlette
from typing_extensions import override

from amends.compose import Orchestrator
from amends.core.errors import LogBroken
from amends.core.operation import Route
from amends.core.saga import Saga
from amends.ports.log import TransactionLog
from amends.server.app import application
from amends.server.context import Context
from amends.server.listen import listen_on, url_of

GRACE_SECONDS: Final = 5
"""How long answers that are on their way may take once the server stops."""

KEEP_ALIVE_SECONDS: Final = 75
"""Longer than clients keep a connection that they don't use, so that they, not we, close it."""

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)


def serve(
    sagas: Iterable[Saga[Any]],
    *,
    log: TransactionLog,
    routes: Iterable[Route],
    address: tuple[str, int],
    ready: Callable[[str], None],
) -> None:
    """Serve until told to stop; `ready` is given the URL once requests are answered.

    Raises what entering an `Orchestrator` raises, `AddressInUse`, and `LogBroken` once the log can't be written
    any more.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_until_stopped(Orchestrator(sagas, log=log, routes=routes), address, ready))


async def serve_until_stopped(
    orchestrator: Orchestrator, address: tuple[str, int], ready: Callable[[str], None]
) -> None:
    """As `serve`, in the event loop of this process's main thread, whose signals it takes."""
    with listen_on(*address) as listening:
        async with orchestrator as runs:
            context = Context(runs.engine)
            server = _Server(application(context), context, lambda: ready(url_of(listening)))
            loop = asyncio.get_running_loop()
            for each in STOPPING:
                loop.add_signal_handler(each, server.stop)
            watching = asyncio.create_task(_stop_when_broken(runs.engine.broken, server))
            try:
                await server.serve(sockets=[listening])
            finally:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching
            broken = runs.engine.broken.is_set()
    if broken:
        msg = "the log can't be written any more by this process. What was acknowledged is in it: start amends again."
        raise LogBroken(msg)


async def _stop_when_broken(broken: asyncio.Event, server: "_Server") -> None:
    await broken.wait()
    server.stop()


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn would raise them again, and end the process before the log is closed."""

    def __init__(self, app: Starlette, context: Context, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._context = context
        self._ready = ready

    def stop(self) -> None:
        """Begin to stop; asked twice, answers that are on their way aren't waited for."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._context.stopping.set()

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    @override
    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()
