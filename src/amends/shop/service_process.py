"""A service of the shop as a child process: started, waited for, stopped, killed and started again at the same
address.
"""

import asyncio
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp

from amends.shop.catalogue import Catalogue

READY_SECONDS: Final = 30
"""Python and SQLAlchemy take a second to load; this is for a machine that is very busy."""

STOP_SECONDS: Final = 10
"""More than the service's own grace."""

POLL_SECONDS: Final = 0.05


class NotReady(Exception):
    """The service didn't come up; the message says what it printed."""


@dataclass(slots=True)
class ServiceProcess:
    """One service. `database` is a URL, `folder` takes its output (`<name>.out`), `options` go to `amends.shop.serve`.

    ```python
    async with ServiceProcess("inventory", f"sqlite:///{folder}/inventory.db", folder) as inventory:
        route = Inventory.at(inventory.saga)
    ```
    The child ends when this process does, however it does.
    """

    name: str
    database: str
    folder: Path
    options: Sequence[str] = ()
    catalogue: Catalogue = field(default_factory=Catalogue)
    port: int = 0
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where people read its books."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def saga(self) -> str:
        """Where its saga operations are: what a route wants."""
        return f"{self.url}/saga"

    @property
    def output(self) -> Path:
        """What it printed, over all its starts."""
        return self.folder / f"{self.name}.out"

    def command(self) -> list[str]:
        """The command line."""
        amounts = [f"--{each.name}={getattr(self.catalogue, each.name)}" for each in fields(Catalogue)]
        place = ["--database", self.database, "--port", str(self.port), "--while-stdin"]
        return [sys.executable, "-m", "amends.shop.serve", self.name, *place, *amounts, *self.options]

    async def start(self, *, wait: bool = True) -> None:
        """Start it, at the port it had before if it had one."""
        self.port = self.port or free_port()
        with self.output.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *self.command(), stdin=asyncio.subprocess.PIPE, stdout=output, stderr=output
            )
        if wait:
            await self.ready()

    async def ready(self) -> None:
        """Wait until it answers; `NotReady` if it ended instead, or takes more than `READY_SECONDS`."""
        try:
            async with asyncio.timeout(READY_SECONDS), aiohttp.ClientSession() as session:
                while not await _answers(session, f"{self.url}/healthz"):
                    if self.process is None or self.process.returncode is not None:
                        raise NotReady(f"{self.name} ended before it answered:\n{self._said()}")
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise NotReady(f"{self.name} doesn't answer after {READY_SECONDS} s:\n{self._said()}") from None

    async def stop(self) -> None:
        """Ask it to end and wait; kill it if it doesn't."""
        if self.process is None:
            return
        if self.process.returncode is None:
            self.process.terminate()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
        await self._gone()

    async def kill(self) -> None:
        """End it at once, as a power failure would: nothing is finished, nothing is flushed."""
        if self.process is None:
            return
        if self.process.returncode is None:
            self.process.kill()
        await self._gone()

    async def restart(self) -> None:
        """Start it again, at the same address and over the same database."""
        await self.stop()
        await self.start()

    async def _gone(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.process.wait()
        self.process = None

    def _said(self) -> str:
        return self.output.read_text("utf-8", "replace")[-2000:] if self.output.exists() else ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def free_port() -> int:
    """A free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
