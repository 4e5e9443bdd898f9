"""The services that are called: one process of its own, the same for everybody who is measured.

An HTTP/1.1 server on one asyncio protocol. It reads a request to its end and answers by its path, per contract (with
`Saga-Outcome`), from bytes made beforehand: no database, no barrier, no framework. So what is measured is the caller.
It counts what it answers; whoever measures compares that with what should have been called.

`python -m bench.participant` says its port on the first line of its output, then answers each line of its input with
what it has counted since the last one, and ends when its input does: it never outlives whoever started it.
"""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Final, Self

ROOT: Final = Path(__file__).parent.parent
HEAD_BYTES_MAX: Final = 65_536
BODY_BYTES_MAX: Final = 65_536
BACKLOG: Final = 1_024


def _answer(status: str, outcome: str, body: bytes, content_type: str = "application/json") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nSaga-Outcome: {outcome}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


_REFUSED: Final = b'{"type":"urn:amends:rejected","status":409,"detail":"no room left","code":"full"}'
_BOOKED: Final = _answer("200 OK", "succeeded", b'{"number":4711}')
_UNDONE: Final = _answer("200 OK", "succeeded", b"null")

ANSWERS: Final = {
    b"/book-flight": _BOOKED,
    b"/book-hotel": _BOOKED,
    b"/book-car": _BOOKED,
    b"/book-last-car": _answer("409 Conflict", "rejected", _REFUSED, "application/problem+json"),
    b"/undo-flight": _UNDONE,
    b"/undo-hotel": _UNDONE,
}
_UNKNOWN: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
_BAD: Final = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Answering(asyncio.Protocol):
    """One connection: requests one after the other, kept alive until the client closes it."""

    def __init__(self, counted: Counter[str]) -> None:
        self._counted = counted
        self._came = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._came = self._came + data if self._came else data
        while self._came:
            end = self._came.find(b"\r\n\r\n")
            if end < 0:
                if len(self._came) > HEAD_BYTES_MAX:
                    self._refuse()
                return
            length = _content_length(self._came[:end])
            if length is None or length > BODY_BYTES_MAX:
                self._refuse()
                return
            whole = end + 4 + length
            if len(self._came) < whole:
                return
            request, self._came = self._came[:end], self._came[whole:]
            self._say(request.split(b" ", 2)[1])

    def _say(self, path: bytes) -> None:
        assert self._transport is not None
        answer = ANSWERS.get(path, _UNKNOWN)
        self._counted[path.decode("ascii", "replace").removeprefix("/")] += 1
        self._transport.write(answer)

    def _refuse(self) -> None:
        assert self._transport is not None
        self._counted["unreadable"] += 1
        self._came = b""
        self._transport.write(_BAD)
        self._transport.close()


def _content_length(head: bytes) -> int | None:
    """What the head says of its body; `None` where that can't be read. Every request here has a body."""
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    digits = rest.split(b"\r\n", 1)[0].strip()
    return int(digits) if found and digits.isdigit() else None


async def serve() -> None:
    """Answer until standard input ends."""
    loop = asyncio.get_running_loop()
    counted: Counter[str] = Counter()
    server = await loop.create_server(lambda: Answering(counted), "127.0.0.1", 0, backlog=BACKLOG)
    asked = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    print(server.sockets[0].getsockname()[1], flush=True)
    while await asked.readline():
        print(json.dumps(counted), flush=True)
        counted.clear()
    server.close()


class ParticipantProcess:
    """The server above in a process of its own, for the time of a `with`. `ended` is what it exited with."""

    def __init__(self) -> None:
        self.ended: int | None = None

    def __enter__(self) -> Self:
        """Start it and learn its port."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.participant"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self._line()
        self.url = f"http://127.0.0.1:{int(line)}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close its input, which ends it."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.ended = self._process.returncode
        stdout.close()

    def counted(self) -> dict[str, int]:
        """How many requests it answered per path since it was asked last."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write("counted?\n")
        stdin.flush()
        counted: dict[str, int] = json.loads(self._line())
        return counted

    def _line(self) -> str:
        stdout = self._process.stdout
        assert stdout is not None
        line = stdout.readline()
        if not line:
            msg = f"the participant's process ended with {self._process.wait(timeout=10)}; what it said is above"
            raise RuntimeError(msg)
        return line


if __name__ == "__main__":
    asyncio.run(serve())
