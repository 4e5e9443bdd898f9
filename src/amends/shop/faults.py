"""Faults on purpose: what networks and servers do to calls, as a middleware around a service's saga operations.

Whether a fault is fired, and which, is a function of (seed, key, attempt) alone, never of time: the same seed breaks
the same calls again. After `FAULTY_ATTEMPTS` attempts a key is left in peace, so that every run can end. Each fault
is recorded before it is fired.

Every kind is one the caller can't tell from another by itself: "no answer" may mean that nothing happened, that
everything happened, or that it is still going to happen.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

FAULTY_ATTEMPTS: Final = 4
"""From the fifth attempt of a key on nothing is fired; a step has eight attempts unless told otherwise."""

BODY_MAX_BYTES: Final = 4 << 20
"""More than any request may have; the service refuses it."""


class CallFault(StrEnum):
    """What goes wrong. `before` and `after` say whether the work is done when it does."""

    ERROR_BEFORE = "error-before"
    """A 500, and nothing was done."""
    ERROR_AFTER = "error-after"
    """A 500, though everything was done."""
    HANG_BEFORE = "hang-before"
    """No answer while the caller waits; the work is done afterwards, when it may have turned back already."""
    HANG_AFTER = "hang-after"
    """The work is done; no answer while the caller waits."""
    DROP_BEFORE = "drop-before"
    """The connection breaks, and nothing was done."""
    DROP_AFTER = "drop-after"
    """The connection breaks, though everything was done."""
    CUT_ANSWER = "cut-answer"
    """The work is done; the connection breaks in the middle of the answer."""
    TWICE_AT_ONCE = "twice-at-once"
    """Two copies of the request arrive at the same moment; the answer is whichever is ready first."""
    TWICE_IN_TURN = "twice-in-turn"
    """Two copies arrive one after the other; the second one's answer is given."""
    LATE_COPY = "late-copy"
    """All is well; a copy of the request arrives some time later."""


PROFILES: Final[Mapping[str, float]] = {"none": 0.0, "some": 0.1, "many": 0.35}
"""How likely an attempt is to be hit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which calls are hit, and how long a hang is. `kinds` narrows what may go wrong."""

    seed: int = 0
    rate: float = 0.0
    hang_seconds: float = 3.0
    kinds: tuple[CallFault, ...] = tuple(CallFault)

    def draw(self, key: str, attempt: int) -> CallFault | None:
        """The fault of this attempt of this key, if it has one."""
        if attempt > FAULTY_ATTEMPTS:
            return None
        drawn = sha256(f"{self.seed} {key} {attempt}".encode()).digest()
        if int.from_bytes(drawn[:8], "big") >= self.rate * 2**64:
            return None
        return self.kinds[int.from_bytes(drawn[8:16], "big") % len(self.kinds)]


@dataclass(frozen=True, slots=True)
class Fired:
    """A fault that is about to happen."""

    kind: CallFault
    key: str
    attempt: int


Break = Callable[[Scope], None]
"""Breaks the connection a request came by."""


def cannot_break(scope: Scope) -> None:
    """Where there is no connection to break, say so instead of doing something else."""
    raise ConnectionResetError(f"{scope['path']}: the connection broke on purpose")


class FaultMiddleware:
    """The middleware. `note` is awaited with every fault before it is fired; `break_connection` does what it says."""

    def __init__(
        self,
        app: ASGIApp,
        plan: Plan,
        note: Callable[[Fired], Awaitable[None]],
        break_connection: Break = cannot_break,
    ) -> None:
        self.app = app
        self.plan = plan
        self.note = note
        self.break_connection = break_connection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the call through, or hit it."""
        key, attempt = call_of(scope)
        kind = self.plan.draw(key, attempt) if key else None
        if kind is None:
            await self.app(scope, receive, send)
            return
        body = await _body(receive)
        if body is None:
            return
        await self.note(Fired(kind, key, attempt))
        request = _Request(self.app, scope, body)
        if await self._fire(kind, request, send):
            self.break_connection(scope)
            while (await receive())[
                "type"
            ] != "http.disconnect":  # the server learns of it with the next turn of the loop
                pass

    async def _fire(self, kind: CallFault, request: "_Request", send: Send) -> bool:
        """Do what is done before the connection breaks; whether it breaks then."""
        match kind:
            case CallFault.ERROR_BEFORE:
                await _server_error(send)
            case CallFault.ERROR_AFTER:
                await request.handle()
                await _server_error(send)
            case CallFault.HANG_BEFORE:
                await asyncio.sleep(self.plan.hang_seconds)
                await _answer(await request.handle(), send)
            case CallFault.HANG_AFTER:
                answer = await request.handle()
                await asyncio.sleep(self.plan.hang_seconds)
                await _answer(answer, send)
            case CallFault.DROP_BEFORE:
                return True
            case CallFault.DROP_AFTER:
                await request.handle()
                return True
            case CallFault.CUT_ANSWER:
                await _cut(await request.handle(), send)
                return True
            case CallFault.TWICE_AT_ONCE:
                copies = [asyncio.create_task(request.handle()) for _ in range(2)]
                done, _ = await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
                await _answer(done.pop().result(), send)
                await asyncio.gather(*copies)
            case CallFault.TWICE_IN_TURN:
                await request.handle()
                await _answer(await request.handle(), send)
            case CallFault.LATE_COPY:
                await _answer(await request.handle(), send)
                await asyncio.sleep(self.plan.hang_seconds)
                await request.handle()
        return False


def call_of(scope: Scope) -> tuple[str, int]:
    """The idempotency key of a call and which attempt it is; `""` where it isn't a saga's."""
    if scope["type"] != "http":
        return "", 0
    headers: dict[bytes, bytes] = dict(scope["headers"])
    key = headers.get(b"idempotency-key", b"").decode("latin-1").strip().strip('"')
    attempt = headers.get(b"saga-attempt", b"1").decode("latin-1")
    return key, int(attempt) if attempt.isdecimal() else 1


class _Request:
    """A request that can be handled more than once."""

    def __init__(self, app: ASGIApp, scope: Scope, body: bytes) -> None:
        self.app = app
        self.scope = scope
        self.body = body

    async def handle(self) -> list[Message]:
        """Have the service handle a copy of it; what it would have answered."""
        arriving: list[Message] = [{"type": "http.request", "body": self.body, "more_body": False}]
        answer: list[Message] = []

        async def receive() -> Message:
            return arriving.pop() if arriving else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            answer.append(message)

        await self.app(dict(self.scope), receive, send)
        return answer


async def _body(receive: Receive) -> bytes | None:
    """The whole body; `None` if the caller was gone before it was read. Half a request must not be carried out."""
    parts = bytearray()
    more = True
    while more and len(parts) <= BODY_MAX_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(parts)


async def _answer(answer: list[Message], send: Send) -> None:
    for message in answer:
        await send(message)


async def _server_error(send: Send) -> None:
    await send({"type": "http.response.start", "status": 500, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"broken on purpose\n"})


async def _cut(answer: list[Message], send: Send) -> None:
    """The head of the answer, promising a byte more than ever comes."""
    start = answer[0]
    size = sum(len(message.get("body", b"")) for message in answer) + 1
    headers = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
    await send({**start, "headers": [*headers, (b"content-length", str(size).encode())]})
    await send({"type": "http.response.body", "body": b"{", "more_body": True})
