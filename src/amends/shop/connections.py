"""A way to break a connection for real: uvicorn's HTTP protocol, told to remember its open connections."""

import asyncio
from typing import Any, cast

from starlette.types import Scope
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class OpenConnections:
    """The open connections of one server, found by the address of the client."""

    def __init__(self) -> None:
        self._open: dict[Any, asyncio.Transport] = {}

    def break_off(self, scope: Scope) -> None:
        """Reset the connection a request came by, without another byte."""
        transport = self._open.get(tuple(scope["client"]))
        if transport is not None:
            transport.abort()

    def protocol(self) -> type[HttpToolsProtocol]:
        """The class to hand to uvicorn as `http`."""
        connections = self._open

        class Remembered(HttpToolsProtocol):
            """Notes when it is opened and closed."""

            _peer: Any = None

            @override
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made = cast(
                    "asyncio.Transport", transport
                )  # as every transport of a stream is, and uvicorn says itself
                self._peer = made.get_extra_info("peername")
                connections[tuple(self._peer)] = made
                super().connection_made(made)

            @override
            def connection_lost(self, exc: Exception | None) -> None:
                connections.pop(tuple(self._peer), None)
                super().connection_lost(exc)

        return Remembered
