"""An ASGI application called directly: what a server would hand it, and what it answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

import msgspec

Message = MutableMapping[str, Any]
Application = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

JSON = {"content-type": "application/json"}
STREAM_SECONDS = 20


@dataclass(slots=True)
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    came: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

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
        return await self.into(Answer(), method, path, body, headers)

    async def into(
        self,
        answer: Answer,
        method: str,
        path: str,
        body: Sequence[bytes] | AsyncIterator[bytes] = (),
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """As `call`, into an answer that somebody watches as it comes."""
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
            answer.came.set()

        finished: list[bool] = []
        await self.app(scope, receive, send)
        return answer


async def _each(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


class Stream(Answer):
    """An answer that is read while it comes."""

    def __init__(self, caller: Caller, path: str, headers: Mapping[str, str]) -> None:
        super().__init__()
        self._call = caller.into(self, "GET", path, headers=headers)
        self._task: asyncio.Task[Answer] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._call)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, part: bytes) -> None:
        """Until this has come."""
        async with asyncio.timeout(STREAM_SECONDS):
            while part not in self.body:
                self.came.clear()
                await self.came.wait()

    async def end(self) -> None:
        """Until nothing more comes."""
        assert self._task is not None
        async with asyncio.timeout(STREAM_SECONDS):
            await asyncio.shield(self._task)
