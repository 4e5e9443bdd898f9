"""Where an answer begins and ends, and what belongs to it (RFC 9112, sections 6 and 7; RFC 9110, section 6.5)."""

import asyncio
from dataclasses import replace

import pytest

from amends.core.run.answers import CallResponse, Cause, Lost
from amends.core.words.limits import REPLY_BYTES_MAX
from amends.testing.contracts.transport import CALL
from tests.support.raw_server import OK, Serve, answer_with, transport

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"

WORDS = {
    "with blanks around it": (HEAD + b"Saga-Outcome: \t succeeded \t \r\nContent-Length: 2\r\n\r\n{}", "succeeded"),
    "not in a trailer": (HEAD + CHUNKS + b"Saga-Outcome: succeeded\r\n\r\n", None),
    "not of a trailer": (HEAD + b"Saga-Outcome: pending\r\n" + CHUNKS + b"Saga-Outcome: rejected\r\n\r\n", "pending"),
    "not of another answer": (HEAD + b"Content-Length: 2\r\n\r\n{}" + OK, None),
    "not of the same answer, twice": (OK + OK, "succeeded"),
    "not of an interim answer": (
        b"HTTP/1.1 103 Early Hints\r\nSaga-Outcome: rejected\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\n{}",
        None,
    ),
}


@pytest.mark.parametrize(("said", "word"), WORDS.values(), ids=WORDS.keys())
async def test_the_word_is_the_one_in_the_head(serve: Serve, said: bytes, word: str | None) -> None:
    came, _ = await answer_with(serve, said, close=False)
    assert isinstance(came, CallResponse)
    assert came.body == b"{}"
    assert came.headers.get("saga-outcome") == word
    assert not came.repeated


UNCLEAR = {
    "a length beside chunks": b"Content-Length: 3\r\n" + CHUNKS + b"\r\n",
    "chunks beside a length": b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "another coding in a line of its own, cut": b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
    "a blank behind the coding, cut": b"Transfer-Encoding: chunked \r\n\r\n5\r\n{}",
    "another coding": b"Transfer-Encoding: gzip\r\n\r\n{}",
    "a coding nobody knows": b"Transfer-Encoding: xchunked\r\n\r\n{}",
    "the same length twice": b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a signed length": b"Content-Length: +2\r\n\r\n{}",
    "a length too large for any number": b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "a chunk too large for any number": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}",
    "the last line of the last chunk is missing": CHUNKS,
    "a header over two lines": b"Saga-Outcome: succ\r\n eeded\r\nContent-Length: 2\r\n\r\n{}",
    "a blank before a colon": b"Saga-Outcome : succeeded\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("said", UNCLEAR.values(), ids=UNCLEAR.keys())
async def test_an_answer_whose_end_is_not_clear_is_none(serve: Serve, said: bytes) -> None:
    came, _ = await answer_with(serve, HEAD + said)
    assert isinstance(came, Lost), came
    assert came.cause is Cause.LOST


async def test_another_protocol_is_no_error_of_ours(serve: Serve) -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, what: told.append(what))
    came, _ = await answer_with(
        serve, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nmore", close=False
    )
    assert isinstance(came, CallResponse)
    assert came.status == 101
    assert not told


ENDLESS = {
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000),
    "a header": (HEAD + b"X: ", b"y" * 65_536),
    "a trailer": (HEAD + b"Saga-Outcome: succeeded\r\n" + CHUNKS + b"X: ", b"y" * 65_536),
    "the mark of a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;x=", b"y" * 65_536),
}


@pytest.mark.parametrize(("begin", "more"), ENDLESS.values(), ids=ENDLESS.keys())
async def test_what_has_no_end_is_given_up_long_before_the_time_out(serve: Serve, begin: bytes, more: bytes) -> None:
    written = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await raw.read(reader)
        writer.write(begin)
        for _ in range(64 * REPLY_BYTES_MAX // len(more)):
            writer.write(more)
            await writer.drain()
            written += len(more)

    raw = await serve(talk)
    async with transport(raw.url) as http:
        came = await http.send(replace(CALL, timeout_seconds=60))
    assert isinstance(came, Lost)
    assert came.cause is Cause.LOST
    assert "has more than" in came.detail
    assert written < 48 * REPLY_BYTES_MAX


async def test_a_long_body_may_come_in_chunks_of_a_byte(serve: Serve) -> None:
    body = b"[" + b"1," * (REPLY_BYTES_MAX // 8) + b"1]"
    said = b"".join(b"1\r\n%c\r\n" % each for each in body)
    came, _ = await answer_with(serve, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", said, b"0\r\n\r\n")
    assert isinstance(came, CallResponse)
    assert came.body == body
