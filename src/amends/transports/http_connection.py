"""One connection to a participant, HTTP/1.1: a request is written, one answer is read.

asyncio carries the bytes and llhttp (by `httptools`) reads them, strictly. Nothing is sent twice and nothing is
followed. A connection is free for another request only after a whole answer to a whole request, which nothing followed
and which said nothing against it.
"""

import asyncio
from functools import lru_cache
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from amends.core.run.answers import OUTCOME_HEADER, CallResponse
from amends.core.words.limits import REPLY_BYTES_MAX

HEAD_BYTES_MAX: Final = 65_536
"""Status line and headers of an answer, with those of interim ones before it; a longer head is refused."""

AROUND_BYTES_MAX: Final = 8 * REPLY_BYTES_MAX
"""All of an answer but its body: the longest body in chunks of one byte each has five bytes around each."""

_TOO_LONG: Final = f"the head of the answer has more than {HEAD_BYTES_MAX} bytes"
_TOO_MUCH: Final = f"the answer has more than {AROUND_BYTES_MAX} bytes around its body"
_NO_REPEATS: Final[frozenset[str]] = frozenset()
_REPEATED: Final = frozenset({OUTCOME_HEADER})
_SWITCHING: Final = 101
_NO_BODY: Final = frozenset({204, 304})


class ExchangeFailed(Exception):
    """No whole answer came, or none that is HTTP; the message says what happened."""


class HttpConnection(asyncio.Protocol):
    """`is_free`: it may be used for the next request."""

    def __init__(self) -> None:
        self.is_free = True
        self._loop = asyncio.get_running_loop()
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._around = 0
        self._begin()

    def _begin(self) -> None:
        """What was read of an answer so far: nothing."""
        self._headers: dict[str, str] = {}
        self._repeated = _NO_REPEATS
        self._status = 0
        self._pieces: list[bytes] = []
        self._size = 0
        self._until_closed = False

    async def exchange(self, request: bytes, shown: str) -> CallResponse:
        """Write the request and read the whole answer; of a body over the limit one byte more, by which readers know.

        `ExchangeFailed` or `OSError` where none came. After a cancellation the connection isn't free any more.
        """
        transport = self._transport
        if transport is None or not self.is_free:
            msg = "the connection was closed"
            raise ExchangeFailed(msg)
        self.is_free = False
        self._around = 0
        self._begin()
        waiter = self._waiter = self._loop.create_future()
        transport.write(request)
        await waiter
        body, self._pieces = b"".join(self._pieces), []  # not kept between calls
        return CallResponse(self._status, self._headers, body[: REPLY_BYTES_MAX + 1], shown, self._repeated)

    def close(self) -> None:
        """Let go of it. What is still to be sent isn't."""
        self.is_free = False
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()  # says so to the other end, over TLS
            transport.abort()  # and doesn't wait for it to say so too

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self.close()  # an answer without a request
            return
        self._around += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:  # after an upgrade what follows is no HTTP any more
            self._fail(ExchangeFailed(f"the answer is no HTTP: {error}"))
            return
        if self._around > HEAD_BYTES_MAX:
            if not self._status:
                self._fail(ExchangeFailed(_TOO_LONG))
            elif self._around > AROUND_BYTES_MAX:
                self._fail(ExchangeFailed(_TOO_MUCH))

    def eof_received(self) -> None:
        self.is_free = False
        if self._until_closed:
            self._finish(keep=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ExchangeFailed("the connection was closed before the answer was whole"))
        del self._parser  # it holds on to us as we do to it: both would wait for the garbage collector

    # -- what the parser calls

    def on_message_begin(self) -> None:
        """Another answer begins."""
        if self._waiter is None:
            self.is_free = False  # to what?

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header. Of those that come more than once the first counts, and the word is named.

        What comes after the head, as a trailer or with another answer, is none of it.
        """
        if self._status:
            return
        key = _header_name(name)
        if key not in self._headers:
            self._headers[key] = value.rstrip(b" \t").decode("utf-8", "surrogateescape")
        elif key == OUTCOME_HEADER:
            self._repeated = _REPEATED

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._waiter is None:
            return
        headers = self._headers
        if sum(map(len, headers.values())) > HEAD_BYTES_MAX:
            self._fail(ExchangeFailed(_TOO_LONG))
            return
        self._status = status = self._parser.get_status_code()
        if "content-length" not in headers and "transfer-encoding" not in headers:
            self._until_closed = status >= 200 and status not in _NO_BODY

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._waiter is None:
            return
        self._pieces.append(body)
        self._size += len(body)
        self._around -= len(body)
        if self._size > REPLY_BYTES_MAX:
            self._finish(keep=False)

    def on_message_complete(self) -> None:
        """The answer is whole; an interim one isn't the answer."""
        if self._status < 200 and self._status != _SWITCHING:
            self._begin()
        else:
            self._finish(keep=self._parser.should_keep_alive())

    # -- the end of an exchange

    def _finish(self, *, keep: bool) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            return
        transport = self._transport
        self.is_free = keep and transport is not None and not transport.get_write_buffer_size()
        if not self.is_free:
            self.close()
        waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        self.close()
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)


@lru_cache(maxsize=256)  # participants say the same few again and again
def _header_name(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape").lower()
