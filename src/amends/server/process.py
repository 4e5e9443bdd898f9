"""One process that serves: socket, log, engine, HTTP server, in this order up and in the opposite order down.

The address is taken first, since it is the one thing that can be refused without having touched anything. On
SIGTERM or SIGINT nothing new is accepted, waiting callers are answered, calls in flight get their time, runs are let
go of and the log is closed; what code of steps still does then isn't waited for. A log that broke ends the process in
the same way: going on would mean to act without being able to write it down. On SIGHUP secrets and certificates are
read again, without a pause.
"""

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any, Final

import uvicorn
import uvloop
from starlette.applications import Starlette
from typing_extensions import override

from amends.config.settings import Settings
from amends.config.values import BadSetting
from amends.config.webhooks import links_of, webhooks_of
from amends.core.saga.saga import Saga
from amends.core.words.errors import AmendsError, LogBroken
from amends.orchestrator import Orchestrator
from amends.ports.log import TransactionLog
from amends.server.app import application
from amends.server.callback_tokens import CallbackTokens, calling_back
from amends.server.connections import Acceptor, ListenerConnections, places
from amends.server.context import Context
from amends.server.garbage import collect_seldom
from amends.server.listen import listen_on, url_of
from amends.server.notifications import Observing
from amends.server.protocol import guarded, too_many_connections
from amends.server.retention import Keeping
from amends.server.setup import ServerSetup, access_of, callback_secrets_of, tls_context
from amends.server.shutdown import AFTER_SECONDS, BEYOND_SECONDS, Ending
from amends.server.supervisor import inherited
from amends.system.forks import keep_from_children

GRACE_SECONDS: Final = 5
"""How long answers that are on their way may take once the server stops."""

KEEP_ALIVE_SECONDS: Final = 75
"""Longer than clients keep a connection that they don't use, so that they, not we, close it."""

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)

_LOGGER = logging.getLogger("amends.server")


def serve(
    sagas: Iterable[Saga[Any]],
    setup: ServerSetup,
    *,
    log: TransactionLog,
    ready: Callable[[str], None],
    ending: Ending | None = None,
) -> None:
    """Serve until told to stop; `ready` is given the URL once requests are answered. `ending` ends the process where
    code of a step keeps it from ending.

    Raises what entering an `Orchestrator` raises, `AddressInUse`, and `LogBroken` once the log can't be written
    any more.
    """
    collect_seldom()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve_until_stopped(sagas, setup, log, ready, ending))
        except SystemExit as error:
            if ending is not None:
                ending.crash(error.code)
            raise


async def serve_until_stopped(
    sagas: Iterable[Saga[Any]],
    setup: ServerSetup,
    log: TransactionLog,
    ready: Callable[[str], None],
    ending: Ending | None = None,
) -> None:
    """As `serve`, in the event loop of this process's main thread, whose signals it takes."""
    settings, callbacks = setup.settings, CallbackTokens()
    public_url = settings.server.public_url
    around = None if public_url is None else calling_back(callbacks, public_url)
    with inherited() or listen_on(*setup.address) as listening:
        keep_from_children(listening, socket.socket.fileno)
        async with (
            _last(ending),
            Orchestrator(sagas, log=log, settings=settings, around=around, grace=settings.server.grace) as runs,
            Observing(runs.engine, webhooks_of(settings), links_of(settings)) as observing,
            Keeping(runs.engine.log, settings.privacy.keep),
        ):
            await callbacks.open(runs.engine.log, setup.callback_secrets)
            context = Context(
                runs.engine,
                access=setup.access,
                limits=setup.limits,
                callbacks=callbacks,
                lanes=runs.lanes,
                sagas=settings.sagas,
            )
            url = url_of(listening, setup.scheme)
            server = _UvicornServer(application(context), context, setup, lambda: ready(url))
            reloading = _Reloading(setup, runs, observing, context, server)
            loop = asyncio.get_running_loop()
            for each in STOPPING:
                loop.add_signal_handler(each, server.stop)
            if ending is not None:
                ending.at_work = partial(_at_work, runs)
                for each in STOPPING:  # the loop's own handler isn't called while a step blocks the loop
                    signal.signal(each, partial(_told_to_stop, ending, settings.server.grace))
            loop.add_signal_handler(signal.SIGHUP, reloading.reload)
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


@asynccontextmanager
async def _last(ending: Ending | None) -> AsyncGenerator[None]:
    """Once the log is closed, the process has little time left."""
    try:
        yield
    except BaseException:
        if ending is not None:
            ending.failed = True
        raise
    finally:
        if ending is not None and ending.at_work is not list:
            ending.within(AFTER_SECONDS)


def _told_to_stop(ending: Ending, grace_seconds: float, _number: int, _frame: FrameType | None) -> None:
    ending.within(grace_seconds + BEYOND_SECONDS)


def _at_work(runs: Orchestrator) -> list[str]:
    return runs.outlasted


async def _stop_when_broken(broken: asyncio.Event, server: "_UvicornServer") -> None:
    await broken.wait()
    server.stop()


class _Reloading:
    """Secrets, certificates, tokens and receivers of webhooks, read again without a pause.

    What was taken away is refused from then on: streams of a revoked token, connections under a replaced authority and
    deliveries with an old secret end. What can't be read stays as it was, and is named.
    """

    def __init__(
        self, setup: ServerSetup, runs: Orchestrator, observing: Observing, context: Context, server: "_UvicornServer"
    ) -> None:
        self._setup = setup
        self._runs = runs
        self._observing = observing
        self._context = context
        self._server = server

    def reload(self) -> None:
        """Do it, and say in the log what went wrong."""
        wrong: list[str] = []
        settings: Settings | None = None
        try:
            settings = None if self._setup.again is None else self._setup.again()
        except AmendsError as error:
            wrong.append(str(error))
        wrong += self._runs.reload(settings)
        if settings is not None:
            wrong += self._renewed(settings)
        tls = self._setup.settings.server.tls
        if tls is not None:
            try:
                self._server.renew(tls_context(tls), closes=tls.client_ca is not None)
            except BadSetting as error:
                wrong.append(str(error))
        for each in wrong:
            _LOGGER.error("not read again: %s", each)
        but = ", but for those above" if wrong else ""
        _LOGGER.warning("secrets, certificates and tokens were read again%s", but)

    def _renewed(self, settings: Settings) -> list[str]:
        wrong: list[str] = []
        try:
            access = access_of(settings)
            if access.is_open != self._context.access.is_open:
                wrong.append("tokens: with the first, or without the last one, it may listen elsewhere: start it anew")
            else:
                self._context.access = access
        except AmendsError as error:
            wrong.append(str(error))
        try:
            self._context.callbacks.renew(callback_secrets_of(settings))
        except BadSetting as error:
            wrong.append(str(error))
        except ValueError as error:
            wrong.append(f"server.callback_secret_of_log: {error}")
        try:
            self._observing.renew(webhooks_of(settings))
        except BadSetting as error:
            wrong.append(str(error))
        return wrong


class _UvicornServer(uvicorn.Server):
    """Leaves signals to us: uvicorn would raise them again, and end the process before the log is closed."""

    def __init__(self, app: Starlette, context: Context, setup: ServerSetup, ready: Callable[[], None]) -> None:
        limits = setup.limits
        self._connections = ListenerConnections(places(limits.connections))
        protocol = guarded(
            self._connections,
            head_bytes=limits.head_bytes,
            head_seconds=limits.head_seconds,
            body_seconds=limits.body_seconds,
            write_seconds=limits.write_seconds,
        )
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # or wrong tokens would count for whatever address a client behind loopback names
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        config.load()
        config.ssl = setup.tls
        super().__init__(config)
        self._context = context
        self._ready = ready
        self._protocol = protocol
        self._acceptors: list[Acceptor] = []
        self._accepting: list[asyncio.Task[None]] = []

    def renew(self, tls: ssl.SSLContext, *, closes: bool) -> None:
        """Accept under this context from now on. `closes`: connections that were accepted before it come to an end."""
        for each in self._acceptors:
            each.renew(tls)
        if closes:
            self._context.certificates += 1
            for connection in list(self.server_state.connections):
                connection.shutdown()  # idle ones are closed, the others after their answer

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
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept by ourselves: uvicorn would accept whatever comes, and count no handshakes."""
        assert sockets is not None, "the address was taken before the server was made"
        await self.lifespan.startup()
        self.servers = []
        refusal = too_many_connections(self._connections.most)
        for each in sockets:
            acceptor = Acceptor(each, self._make, self._connections, self.config.ssl, refusal)
            self._acceptors.append(acceptor)
            self._accepting.append(asyncio.create_task(acceptor.run()))
        self.started = True
        self._ready()

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for each in self._accepting:
            each.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        await super().shutdown(sockets)

    def _make(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self._protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made
