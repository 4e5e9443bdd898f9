"""Calls to an ASGI application of this process, through the protocol itself: no socket, no server, no client library.

The application is started at the first call (its lifespan, if it has one) and shut down by `close`. As with a real
server, an application that is slower than the time-out isn't stopped: it sees that the client has gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, TypeAlias, cast
from urllib.parse import quote, unquote

from amends.core.run.answers import OUTCOME_HEADER, CallResponse, Cause, Lost, NoRoom, NotSent
from amends.core.words.error_texts import told
from amends.core.words.limits import REPLY_BYTES_MAX
from amends.ports.transport import Outgoing
from amends.transports.room import not_sent
from amends.wire.call import call_headers

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

SHUTDOWN_SECONDS: Final = 10.0
"""What an application gets to end; then it is cancelled."""

_VERSIONS: Final = {"version": "3.0", "spec_version": "2.4"}


class AsgiTransport:
    """`ports.transport.Transport` for an ASGI application. `base` is the path before the operation's name: `/saga`."""

    def __init__(self, app: App, base: str = "", headers: Mapping[str, str] | None = None) -> None:
        self._app = app
        self._base = base.rstrip("/")
        self._given: Mapping[str, str] = {} if headers is None else headers
        self._lifespan: _Lifespan | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def send(self, call: Outgoing) -> CallResponse | NotSent | NoRoom | Lost:
        shown = f"asgi:{call.participant}{self._base}/{call.operation}"
        if self._lifespan is None:
            self._lifespan = _Lifespan(self._app)
        exchange: _Exchange | None = None
        try:
            async with asyncio.timeout(call.timeout_seconds):
                failed = await self._lifespan.started()
                if failed:
                    return NotSent(f"{shown} did not start: {failed}")
                try:
                    request = self._request(call)
                except Exception as error:  # noqa: BLE001 - a mapping that fetches a token runs its author's code
                    return not_sent(
                        f"the headers of the route to {call.participant} can't be had: {told(error)}", error
                    )
                exchange = _Exchange(request, call.body)
                task = asyncio.create_task(exchange.run(self._app), name=call.key)
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
                return await exchange.answer(shown)
        except TimeoutError:
            waited = f"within {call.timeout_seconds:g} s"
            if exchange is None:
                return NotSent(f"{shown} did not start {waited}")
            return Lost(Cause.TIMED_OUT, f"no answer from {shown} {waited}")
        finally:
            if exchange is not None:
                exchange.gone.set()

    async def close(self) -> None:
        """Stop calls that still run and let the application shut down."""
        calls = list(self._calls)
        for each in calls:
            each.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        if self._lifespan is not None:
            await self._lifespan.stop()
            self._lifespan = None

    def _request(self, call: Outgoing) -> MutableMapping[str, Any]:
        path = quote(f"{self._base}/{call.operation}", safe="/%")
        headers = {name.lower(): value for name, value in self._given.items()}
        headers |= {"host": call.participant, "content-length": str(len(call.body)), **call_headers(call)}
        return {
            "type": "http",
            "asgi": _VERSIONS,
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 0),
            "server": (call.participant, 80),
            "state": dict(cast("_Lifespan", self._lifespan).state),
        }


class _Exchange:
    """One request and what the application says to it."""

    def __init__(self, scope: MutableMapping[str, Any], body: bytes) -> None:
        self.gone = asyncio.Event()
        self._scope = scope
        self._body: bytes | None = body
        self._status: int | None = None
        self._headers: list[tuple[str, str]] = []
        self._said = bytearray()
        self._complete = False
        self._error: Exception | None = None
        self._over = asyncio.Event()

    async def run(self, app: App) -> None:
        try:
            await app(self._scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - a server answers it with 500, or cuts an answer it has begun
            self._error = error
        finally:
            self._over.set()

    async def answer(self, shown: str) -> CallResponse | Lost:
        await self._over.wait()
        if not self._complete or self._status is None:
            why = "nothing" if self._error is None else told(self._error)
            raised = "nothing" if self._error is None else type(self._error).__name__
            ours = f"no complete answer from {shown}"
            return Lost(Cause.LOST, f"{ours}: {why}", f"{ours}: {raised}")
        outcomes = sum(name == OUTCOME_HEADER for name, _ in self._headers)
        repeated = frozenset({OUTCOME_HEADER} if outcomes > 1 else ())
        return CallResponse(self._status, dict(self._headers), bytes(self._said), shown, repeated)

    async def _receive(self) -> Message:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start":
                self._status = int(message["status"])
                pairs = cast("list[tuple[bytes, bytes]]", message.get("headers", []))
                self._headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in pairs]
            case "http.response.body":
                room = REPLY_BYTES_MAX + 1 - len(self._said)
                self._said += cast("bytes", message.get("body", b""))[: max(0, room)]
                if not message.get("more_body", False):
                    self._complete = True
                    self._over.set()
            case _:  # extensions a server needn't know
                pass


class _Lifespan:
    """An application's start and end. One that doesn't know the protocol raises at once, and just has none."""

    def __init__(self, app: App) -> None:
        self.state: dict[str, Any] = {}
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._begun: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(app), name="amends-asgi-lifespan")
        self._inbox.put_nowait({"type": "lifespan.startup"})

    async def started(self) -> str:
        """Waits until it has started; what went wrong, or nothing."""
        return await asyncio.shield(self._begun)

    async def stop(self) -> None:
        self._inbox.put_nowait({"type": "lifespan.shutdown"})
        await asyncio.wait([self._task], timeout=SHUTDOWN_SECONDS)
        self._task.cancel()

    async def _run(self, app: App) -> None:
        scope: MutableMapping[str, Any] = {"type": "lifespan", "asgi": _VERSIONS, "state": self.state}
        try:
            await app(scope, self._inbox.get, self._send)
        except Exception:  # noqa: BLE001 - the protocol's way to say "I have no lifespan"
            self.state.clear()
        finally:
            self._say("")

    async def _send(self, message: Message) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self._say("")
            case "lifespan.startup.failed":
                self._say(str(message.get("message") or "start-up failed"))
            case _:
                pass

    def _say(self, failed: str) -> None:
        if not self._begun.done():
            self._begun.set_result(failed)
