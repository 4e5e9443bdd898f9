"""POST over aiohttp, for webhooks: no redirects, nothing of the answer but its status."""

from types import TracebackType
from typing import Self

import aiohttp


class Poster:
    """Connections to receivers."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> int:
        """The status; `OSError` where no answer came."""
        assert self._session is not None, "enter it first"
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                return answer.status
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error) or type(error).__name__) from error
