"""A process that gets no more threads. uvloop looks names up on threads of its own; asyncio on Python's."""

import threading

import pytest

from amends.core.answers import NoRoom
from amends.testing.contracts.transport import CALL
from amends.transports.http import HttpTransport


async def test_no_thread_to_look_a_name_up_is_no_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    http = HttpTransport("http://localhost:1")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        assert isinstance(await http.send(CALL), NoRoom)
