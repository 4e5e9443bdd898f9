"""`amends serve` as a process: started, asked over HTTP, stopped, killed and started again at the same address."""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec

SECONDS: Final = 30
"""For a machine that is very busy; nothing here waits for it in a good run."""

POLL_SECONDS: Final = 0.02


@dataclass(slots=True)
class Serving:
    """One process. Leaving it kills what still runs."""

    folder: Path
    sagas: Sequence[str]
    options: Sequence[str] = ()
    listen: str = "127.0.0.1:0"
    url: str = ""
    process: asyncio.subprocess.Process | None = None
    http: aiohttp.ClientSession = field(default_factory=aiohttp.ClientSession)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.returncode is None:
            await self.kill()
        await self.http.close()

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *command("serve", *self.sagas, "--listen", self.listen, "--json", *self.options),
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None
        async with asyncio.timeout(SECONDS):
            line = await self.process.stdout.readline()
        if not line:
            _, told = await self.process.communicate()
            raise AssertionError(told.decode())
        self.url = msgspec.json.decode(line)["url"]
        self.listen = self.url.partition("://")[2]

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def stop(self) -> tuple[int, str]:
        """Ask it to stop; its exit code and what it said on standard error."""
        return await self._end(signal.SIGTERM)

    async def _end(self, how: signal.Signals) -> tuple[int, str]:
        assert self.process is not None
        self.process.send_signal(how)
        async with asyncio.timeout(SECONDS):
            _, told = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, told.decode()

    async def post(self, saga: str, value: object, run: str, *, wait: float = 0) -> tuple[int, dict[str, Any]]:
        body = {"saga": saga, "input": value, "id": run}
        async with self.http.post(f"{self.url}/v1/runs?wait={wait}", json=body) as answer:
            return answer.status, _object(await answer.read())

    async def get(self, run: str, *, wait: float = 0) -> dict[str, Any]:
        async with self.http.get(f"{self.url}/v1/runs/{run}?wait={wait}") as answer:
            return _object(await answer.read())

    async def until(self, run: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(SECONDS):
            while True:
                body = await self.get(run)
                if holds(body):
                    return body
                await asyncio.sleep(POLL_SECONDS)


def _object(body: bytes) -> dict[str, Any]:
    return msgspec.json.decode(body, type=dict[str, Any])


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "amends.cli.main", *arguments]


async def until(holds: Callable[[], bool]) -> None:
    """Poll something outside of this process, which can't tell us by itself."""
    async with asyncio.timeout(SECONDS):
        while True:
            if holds():
                return
            await asyncio.sleep(POLL_SECONDS)


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port: int = made.getsockname()[1]
        return port
