"""Requests over aiohttp's connections. Imported when a client is opened, so that `import amends` is quick."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from amends.client.protocol import Address, Again, Ask, ServerResponse

_LOST: Final = (aiohttp.ClientError, TimeoutError)


class Session:
    """One server's connections. Redirects aren't followed: a server of amends gives none."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._session = aiohttp.ClientSession()

    async def close(self) -> None:
        """Let go of all connections."""
        await self._session.close()

    async def ask(self, ask: Ask) -> ServerResponse:
        """One answer; `ServerUnavailable` where none comes."""
        tries = 2 if ask.again is Again.FINE else 1
        while True:
            tries -= 1
            try:
                async with self._open(ask, total=ask.seconds) as answer:
                    return await _said(answer)
            except aiohttp.ClientConnectorError as error:
                raise self._address.unreached(error.os_error) from error
            except _LOST as error:
                if not tries:
                    raise self._address.unanswered(error) from error

    async def lines(self, ask: Ask) -> AsyncGenerator[bytes | ServerResponse]:
        """The lines of an answer without an end, until it breaks; or what was said instead."""
        try:
            async with self._open(ask, total=None) as answer:
                if answer.status >= 400:
                    yield await _said(answer)
                    return
                async for line in answer.content:
                    yield line
        except aiohttp.ClientConnectorError as error:
            raise self._address.unreached(error.os_error) from error
        except _LOST as error:
            raise self._address.unanswered(error) from error

    @asynccontextmanager
    async def _open(self, ask: Ask, *, total: float | None) -> AsyncGenerator[aiohttp.ClientResponse]:
        async with self._session.request(
            ask.method,
            f"{self._address.url}{ask.target}",
            data=ask.body,
            headers=self._address.headers_of(ask),
            timeout=aiohttp.ClientTimeout(total=total),
            allow_redirects=False,
            ssl=self._address.tls or True,
        ) as answer:
            yield answer


async def _said(answer: aiohttp.ClientResponse) -> ServerResponse:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return ServerResponse(answer.status, headers, await answer.read())
