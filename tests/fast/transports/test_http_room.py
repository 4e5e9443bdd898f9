"""A process without a free descriptor, for real: nothing was sent, and that says nothing of the participant."""

import asyncio
import errno
import os
import resource
import socket
from collections import UserDict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typing_extensions import override

from amends.core.run.answers import CallResponse, Cause, NoRoom, NotSent, Unknown, read_answer
from amends.core.words.keys import Phase
from amends.testing.contracts.transport import CALL
from amends.transports.http import HttpTransport
from amends.transports.room import lacks_room
from tests.support.raw_server import OK, Serve, transport


@contextmanager
def without_descriptors() -> Generator[None]:
    """No descriptor can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "nowhere.invalid"])
async def test_a_call_without_a_descriptor_is_no_attempt(host: str) -> None:
    http = HttpTransport(f"http://{host}:1")
    with without_descriptors():
        came = await http.send(CALL)
    assert isinstance(came, NoRoom)
    outcome = read_answer(came, phase=Phase.ACTION, retriable=False, decode=None, now=0)
    assert isinstance(outcome, Unknown)
    assert (outcome.cause, outcome.counted) == (Cause.NOT_SENT, False)
    assert isinstance(await http.send(CALL), NotSent), "refused, or no such name: the participant's own trouble"
    await http.close()


async def test_a_kept_connection_needs_no_descriptor(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await raw.read(reader)
            writer.write(OK)

    raw = await serve(talk)
    async with transport(raw.url) as http:
        assert isinstance(await http.send(CALL), CallResponse)
        with without_descriptors():
            assert isinstance(await http.send(CALL), CallResponse)


async def test_headers_that_can_not_be_read_for_want_of_a_descriptor_are_no_attempt() -> None:
    class Token(UserDict[str, str]):
        @override
        def __iter__(self) -> Iterator[str]:
            Path(os.devnull).read_bytes()
            return super().__iter__()

    http = HttpTransport("http://127.0.0.1:1", Token({"authorization": "x"}))
    with without_descriptors():
        assert isinstance(await http.send(CALL), NoRoom)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (OSError(errno.EMFILE, "x"), True),
        (OSError(errno.ENFILE, "x"), True),
        (OSError(errno.ENOMEM, "x"), True),
        (OSError(errno.ENOBUFS, "x"), True),
        (MemoryError(), True),
        (RuntimeError("can't start new thread"), True),
        (socket.gaierror(socket.EAI_MEMORY, "x"), True),
        (socket.gaierror(socket.EAI_AGAIN, "x"), False),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), False),
        (OSError(errno.EHOSTUNREACH, "x"), False),
        (OSError("Multiple exceptions"), False),
        (TimeoutError(), False),
        (RuntimeError("closed"), False),
        (ValueError("x"), False),
    ],
)
def test_what_is_ours_and_what_is_the_participants(error: Exception, *, ours: bool) -> None:
    assert lacks_room(error) is ours


def test_several_addresses_that_failed_for_want_of_a_descriptor_are_ours() -> None:
    with without_descriptors():
        assert lacks_room(OSError("Multiple exceptions"))
