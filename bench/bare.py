"""The yardstick: the same calls by aiohttp alone, as anybody would write them who leaves out the log.

It has every advantage: no key, no saga headers, nothing written anywhere, nothing tried again, and after a crash nobody
knows what was booked. It does encode requests, decode replies and look at statuses.
"""

from types import TracebackType
from typing import Self

import msgspec
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from bench.sagas import TRIP, Booked, Trip

HEADERS = {"content-type": "application/json"}


class Full(Exception):
    """The car company said no."""


class BareClient:
    """One session for all calls; with `refused` it asks for the last car, is refused and undoes the other two."""

    def __init__(self, url: str, at_once: int, *, refused: bool) -> None:
        self._url = url
        self._at_once = at_once
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Booked)
        self.once = self._refused if refused else self._accepted

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = ClientSession(
            connector=TCPConnector(limit=self._at_once),
            timeout=ClientTimeout(total=5.0),
            cookie_jar=DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session."""
        await self._session.close()

    async def _accepted(self) -> None:
        await self._book("/book-flight", TRIP)
        await self._book("/book-hotel", TRIP)
        await self._book("/book-car", TRIP)

    async def _refused(self) -> None:
        flight = await self._book("/book-flight", TRIP)
        hotel = await self._book("/book-hotel", TRIP)
        try:
            await self._book("/book-last-car", TRIP)
        except Full:
            await self._undo("/undo-hotel", hotel)
            await self._undo("/undo-flight", flight)
        else:
            msg = "nobody refused the last car"
            raise AssertionError(msg)

    async def _book(self, path: str, trip: Trip) -> Booked:
        async with self._session.post(self._url + path, data=self._encoder.encode(trip), headers=HEADERS) as response:
            body = await response.read()
            if response.status == 409:
                raise Full
            response.raise_for_status()
            return self._decoder.decode(body)

    async def _undo(self, path: str, booked: Booked) -> None:
        async with self._session.post(self._url + path, data=self._encoder.encode(booked), headers=HEADERS) as response:
            await response.read()
            response.raise_for_status()
