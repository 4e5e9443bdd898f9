"""The door for web servers: `POST <anything>/<operation>` as plain ASGI, so that it mounts anywhere and needs no
framework.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from amends.participant.request import Incoming
from amends.participant.response import Answer, problem

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

NOTHING_HERE: Final = problem(404, "unknown-operation", "calls are POST .../<operation>.")
NOT_POST: Final = problem(405, "method-not-allowed", "calls are POST .../<operation>.")


class HasIncoming(Protocol):
    """An admitted call, as far as a door must know it."""

    @property
    def incoming(self) -> Incoming:
        """Its headers, read."""
        ...


A = TypeVar("A", bound=HasIncoming)


class AsgiService(Protocol[A]):
    """What this door opens on: a `Service`."""

    def admit_remote(self, headers: Mapping[str, str], operation: str) -> A | Answer:
        """Judge a call from the network, its token included, before its body is read."""
        ...

    async def answer_call(self, admitted: A, body: bytes) -> Answer:
        """Answer it."""
        ...

    def close(self) -> None:
        """Let go of threads."""
        ...


def application(service: AsgiService[A]) -> AsgiApp:
    """An ASGI application of this service."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                answer = await _http(service, scope, receive)
                if answer is not None:
                    await _respond(send, answer)
            case "lifespan":
                await _lifespan(service, receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})
            case other:
                msg = f"amends serves http, not {other}"
                raise NotImplementedError(msg)

    return app


async def _http(service: AsgiService[A], scope: Scope, receive: Receive) -> Answer | None:
    if scope["method"] != "POST":
        return NOT_POST
    operation = str(scope["path"]).rpartition("/")[2]
    headers = read_once(
        (bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in scope["headers"]
    )
    if isinstance(headers, Answer):
        return headers
    admitted = service.admit_remote(headers, operation)
    if isinstance(admitted, Answer):
        return admitted
    limit = admitted.incoming.body_bytes_max
    body = await _body(receive, limit)
    if body is None:
        return None  # the caller is gone
    # A body that is too long is told so by the barrier's own check, from the one byte it is too long by.
    return await service.answer_call(admitted, body)


async def _body(receive: Receive, limit: int) -> bytes | None:
    """The body, or as much of it as shows that it is too long; None if the client left."""
    parts: list[bytes] = []
    size = 0
    while size <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = bytes(message.get("body", b""))
        parts.append(part)
        size += len(part)
        if not message.get("more_body", False):
            break
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _respond(send: Send, answer: Answer) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _lifespan(service: AsgiService[A], receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            service.close()
            await send({"type": "lifespan.shutdown.complete"})
            return


def read_once(headers: Iterable[tuple[str, str]]) -> Mapping[str, str] | Answer:
    """Headers by lower-case name. One that the barrier reads must not come twice: which is meant is unknown."""
    found: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        if lower in found and (lower == "idempotency-key" or lower.startswith("saga-")):
            return problem(400, "bad-call", f"the header {lower} comes more than once.")
        found[lower] = value
    return found
