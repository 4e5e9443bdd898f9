"""An ASGI application called directly: what a server would hand it, and what it answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import msgspec

Message = MutableMapping[str, Any]
Application = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

JSON = {"content-type": "application/json"}


@dataclass(slots=True)
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""

    def json(self) -> dict[str, Any]:
        return msgspec.json.decode(self.body, type=dict[str, Any])


@dataclass(slots=True)
class Caller:
    """Calls one application. `hang_up` makes the caller of the call under way be gone."""

    app: Application
    hang_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.call("GET", path, headers=headers)

    async def start(self, value: object, query: str = "") -> Answer:
        return await self.call("POST", f"/v1/runs{query}", [msgspec.json.encode(value)], JSON)

    async def ask(self, path: str, value: object | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """POST a value."""
        return await self.call("POST", path, [msgspec.json.encode(value)], {**JSON, **(headers or {})})

    async def post(self, body: bytes, headers: Mapping[str, str] = JSON) -> Answer:
        return await self.call("POST", "/v1/runs", [body], headers)

    async def call(
        self,
        method: str,
        path: str,
        body: Sequence[bytes] | AsyncIterator[bytes] = (),
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        answer = Answer()
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [
                (name.lower().encode(), value.encode())
                for name, value in {"host": "127.0.0.1:8700", **(headers or {})}.items()
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8700),
        }
        chunks = body if isinstance(body, AsyncIterator) else _each(body)

        async def receive() -> Message:
            async for chunk in chunks:
                return {"type": "http.request", "body": chunk, "more_body": True}
            if not finished:
                finished.append(True)
                return {"type": "http.request", "body": b"", "more_body": False}
            await self.hang_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                answer.body += message.get("body", b"")

        finished: list[bool] = []
        await self.app(scope, receive, send)
        return answer


async def _each(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
