"""Twice the input takes about twice the time, whatever the input is: every reader of bytes from outside, by size.

One reader that is quadratic stops an event loop, and everything on it, for seconds with a request of a few kilobytes.
CPU time of this thread is measured, not time on the wall; only what takes long enough to be measured is judged.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import pytest
from starlette.datastructures import QueryParams
from starlette.requests import Request
from typing_extensions import override

from amends.client.events import EventsRead
from amends.client.protocol import ServerResponse, refusal
from amends.codecs.json import JsonCodec, canonical
from amends.config.values import Seconds, Size, looked_up
from amends.core.run.answers import CallResponse, read_answer
from amends.core.words.error_texts import clean
from amends.core.words.keys import Phase, encode_item, parse_key
from amends.core.words.urls import http_url, shown_url
from amends.participant.access import ServiceAccess
from amends.participant.asgi import read_once
from amends.participant.request import read_headers
from amends.server.callback_tokens import CallbackTokens
from amends.server.requests import cursor
from amends.transports.http_connection import HttpConnection
from amends.views.run_filter import WHERE_CHARACTERS_MAX, parse

BYTES = 40_000
"""Half of what is read the second time: enough to be measured, and a quarter of what a body may have."""

RATIO_MAX = 3.0
"""Twice the bytes: 2 for what is linear, 4 for what is quadratic."""

NOTICED_SECONDS = 0.01
"""What takes less for all its bytes holds nobody up, and is too short for a ratio."""

PIECE = 100
"""Bytes of a response that come at a time."""

Make = Callable[[int], bytes]


@dataclass
class Order:
    sku: str
    cents: int


def repeated(unit: bytes, before: bytes = b"", after: bytes = b"") -> Make:
    return lambda size: before + unit * (size // len(unit)) + after


SHAPES: dict[str, Make] = {
    "trailing zeros": repeated(b"0", b"0.12345678901234567890123"),
    "trailing zeros in an object": repeated(b"0", b'{"amount":0.1234567890123456789', b"}"),
    "digits": repeated(b"1"),
    "digits of a fraction": repeated(b"7", b"0."),
    "digits of an exponent": repeated(b"9", b"1e"),
    "many long fractions": repeated(b"0.1234567890123456789012345,", b"[", b"1]"),
    "unclosed string of escaped quotes": repeated(b'\\"', b"[" * 129 + b'"'),
    "quotes": repeated(b'"', b"[" * 129),
    "backslashes": repeated(b"\\", b"[" * 129 + b'"'),
    "closed string of escaped quotes": repeated(b'\\"', b"[" * 129 + b'"', b'"' + b"]" * 129),
    "open brackets": repeated(b"["),
    "open objects": repeated(b'{"a":'),
    "strings with places": repeated(b" - at `", b'"', b'"'),
    "ticks": repeated(b"`", b'"', b'"'),
    "spaces": repeated(b" "),
    "one name again and again": repeated(b'"k":1,', b"{", b'"k":1}'),
    "escapes": repeated(b"\\u00e9", b'"', b'"'),
    "not UTF-8": repeated(b"\xff"),
    "colons": repeated(b":"),
    "slashes": repeated(b"/"),
    "percents": repeated(b"%"),
    "percents and digits": repeated(b"%41"),
    "dots": repeated(b"."),
    "commas": repeated(b","),
    "dollars": repeated(b"${a:"),
    "letters": repeated(b"a"),
    "signs": repeated(b"-"),
    "new lines": repeated(b"\n"),
    "data lines": repeated(b"data: 1\n"),
    "date": repeated(b"Mon, 01 Dec 2026 03:00:00 ", b"", b"GMT"),
    "commented date": repeated(b"(", b"Mon, 01 Dec 2026 03:00:00 GMT "),
    "bearer": repeated(b"Bearer "),
    "at signs": repeated(b"@", b"https://"),
    "colons and at signs": repeated(b":@", b"https://"),
    "lists of URLs": repeated(b"http://a:b@c,"),
    "pairs of a query": repeated(b"&token=1", b"https://host/?"),
    "conditions": repeated(b"tag.a=1 "),
    "head of a response": repeated(b"a: b\r\n", b"HTTP/1.1 200 OK\r\n", b"\r\n"),
    "one long header": repeated(b"a", b"HTTP/1.1 200 OK\r\na: ", b"\r\n\r\n"),
    "chunks of a byte": repeated(b"1\r\nx\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
}

CODEC = JsonCodec()
ACCESS = ServiceAccess("Service(Test)", ["a-token-of-some-length"], ["https://amends.internal"])
TOKENS = CallbackTokens(b"secret")


def text(body: bytes) -> str:
    return body.decode("latin-1")


def answer(body: bytes, **headers: str) -> CallResponse:
    return CallResponse(500, {"content-type": "application/problem+json", **headers}, body)


def read(came: CallResponse) -> object:
    return read_answer(came, phase=Phase.ACTION, retriable=False, decode=CODEC.decoder(Order), now=0)


def stream(body: bytes) -> list[object]:
    reading = EventsRead("run-1")
    return [event for line in body.split(b"\n") for event in reading.line(line)]


def pairs(body: bytes) -> object:
    return read_once((each, "1") for each in text(body).split(","))


def headers(**given: str) -> dict[str, str]:
    usual = {
        "idempotency-key": '"order-42:hold:action"',
        "saga-kind": "pivot",
        "saga-since": "2026-12-01T00:00:00Z",
    }
    return {**usual, **{name.replace("_", "-"): value for name, value in given.items()}}


class Unread(asyncio.Transport):
    """The other end of a response that is only read."""

    @override
    def close(self) -> None:
        return

    @override
    def abort(self) -> None:
        return


def from_participant(body: bytes) -> int:
    """A response as it comes from the network, a piece at a time; how many pieces were read before it ended.

    Three quarters of the bytes, so that both sizes are within the limit of a head: past it, nothing more is read.
    """
    body = body[: len(body) * 3 // 4]

    async def come() -> int:
        connection: Any = HttpConnection()
        connection.connection_made(Unread())
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ended.add_done_callback(lambda done: done.exception())
        connection._waiter = ended
        pieces = 0
        for at in range(0, len(body), PIECE):
            if ended.done():
                break
            connection.data_received(body[at : at + PIECE])
            pieces += 1
        return pieces

    return asyncio.run(come())


def asked(body: bytes) -> object:
    return cursor(Request({"type": "http", "query_string": b"cursor=" + body, "headers": []}))


READERS: dict[str, Callable[[bytes], object]] = {
    **{
        f"JSON as {getattr(kind, '__name__', kind)}": CODEC.decoder(kind)
        for kind in (Any, int, float, Decimal, str, Literal["a", "b"], list[int], dict[str, Any], Order)
    },
    "canonical JSON": canonical,
    "problem in an answer": lambda body: read(answer(b'{"detail":"' + body + b'"}')),
    "body of an answer": lambda body: read(answer(body)),
    "Retry-After": lambda body: read(answer(b"", **{"retry-after": text(body)})),
    "Date": lambda body: read(answer(b"", **{"retry-after": "Mon, 01 Dec 2026 03:00:00 GMT", "date": text(body)})),
    "Saga-Outcome": lambda body: read(answer(b"", **{"saga-outcome": text(body)})),
    "a key": lambda body: parse_key(f"run-1:{text(body)}:action"),
    "an item": lambda body: parse_key(f"run-1:step/{encode_item(text(body))}:action"),
    "Idempotency-Key": lambda body: read_headers(headers(idempotency_key=text(body)), "hold"),
    "Saga-Since": lambda body: read_headers(headers(saga_since=text(body)), "hold"),
    "Saga-Epoch": lambda body: read_headers(headers(saga_epoch=text(body)), "hold"),
    "Saga-Deadline": lambda body: read_headers(headers(saga_deadline=text(body)), "hold"),
    "names of headers": pairs,
    "Authorization": lambda body: ACCESS.refusal({"authorization": text(body)}),
    "Saga-Callback": lambda body: ACCESS.callback(text(body)),
    "a callback token": lambda body: TOKENS.key(text(body)),
    "a stream of events": stream,
    "a refusal": lambda body: refusal(ServerResponse(400, {}, body)),
    "a text to be shown": lambda body: clean(text(body)),
    "a duration": lambda body: Seconds.parse(text(body)),
    "a size": lambda body: Size.parse(text(body)),
    "a URL": lambda body: http_url(text(body)),
    "a URL to be shown": lambda body: shown_url(text(body)),
    "a query string": QueryParams,
    "a cursor": asked,
    "conditions of a list": lambda body: parse(text(body)[:WHERE_CHARACTERS_MAX]),  # bounded: `shlex` is quadratic
    "a response of a participant": from_participant,
    "a secret's reference": lambda body: looked_up(text(body)),
}


def seconds(reader: Callable[[bytes], object], body: bytes) -> float:
    """The shortest of a few: what else the machine does only makes it longer."""
    found: list[float] = []
    for _ in range(3):
        began = time.thread_time()
        with suppress(Exception):  # most of it is refused; here only the time counts
            reader(body)
        found.append(time.thread_time() - began)
        if found[-1] < NOTICED_SECONDS:
            break
    return min(found)


def growth(reader: Callable[[bytes], object], make: Make) -> float:
    """How many times as long twice the bytes take; 0 where it is too short to tell."""
    whole = seconds(reader, make(2 * BYTES))
    return 0.0 if whole < NOTICED_SECONDS else whole / seconds(reader, make(BYTES))


@pytest.mark.parametrize("name", READERS)
def test_twice_the_bytes_take_about_twice_the_time(name: str) -> None:
    reader = READERS[name]
    for shape, make in SHAPES.items():
        # Measured again before it is believed: memory and caches have their moods.
        ratio = next((each for each in (growth(reader, make) for _ in range(3)) if each <= RATIO_MAX), None)
        assert ratio is not None, f"{name}, {shape}: twice the bytes take more than {RATIO_MAX} times as long"


def test_a_quadratic_reader_is_noticed() -> None:
    def quadratic(body: bytes) -> bool:
        return all(body.count(b"0", 0, end) <= end for end in range(0, len(body), 64))

    assert any(growth(quadratic, repeated(b"0")) > RATIO_MAX for _ in range(3))


@pytest.mark.parametrize("shape", ["head of a response", "one long header", "chunks of a byte"])
def test_a_response_is_read_to_its_end_at_both_sizes(shape: str) -> None:
    """Otherwise the bytes that are read don't double, and a quadratic reader would pass."""
    for size in (BYTES, 2 * BYTES):
        body = SHAPES[shape](size)
        pieces = -(-(len(body) * 3 // 4) // PIECE)
        assert from_participant(body) == pieces
