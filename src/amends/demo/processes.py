"""The demo's four processes: three services, and the orchestrator that is killed and started again.

None outlives the demo: each watches its standard input and stops when it ends.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import aiohttp
from typing_extensions import override

from amends.demo import child as demo_child
from amends.demo.settings import HOST, ORCHESTRATOR, SERVICES, DemoSettings
from amends.shop import saga
from amends.shop.catalogue import Catalogue, catalogue_for
from amends.shop.service_process import NotReady, ServiceProcess

WATCH_SECONDS: Final = 0.2


@dataclass(slots=True)
class OrchestratorProcess(ServiceProcess):
    """`amends serve` with both of the shop's sagas; `database` is its log."""

    routes: Mapping[str, str] = field(default_factory=dict[str, str])
    workers: int = 1

    @override
    def command(self) -> list[str]:
        """The command line."""
        routes = [f"--route={name}={url}" for name, url in self.routes.items()]
        listen = f"--listen={HOST}:{self.port}"
        return [
            *(sys.executable, "-m", demo_child.__name__, "amends.cli.main", "serve", saga.__name__),
            *(f"--log={self.database}", listen, f"--workers={self.workers}", *routes),
        ]


class Processes:
    """All four. `stop` ends them politely, so that what is on its way arrives; leaving ends what is left at once."""

    def __init__(self, settings: DemoSettings) -> None:
        catalogue = catalogue_for(settings.orders)
        self.services = [_service(name, settings, catalogue) for name in SERVICES]
        self.orchestrator = OrchestratorProcess(
            ORCHESTRATOR,
            settings.log_for_workers,
            settings.folder,
            workers=settings.workers,
            port=settings.ports[ORCHESTRATOR],
            routes={each.name: each.saga for each in self.services},
        )
        self.kills = 0
        self._down_on_purpose = False

    @property
    def all(self) -> list[ServiceProcess]:
        """The orchestrator last."""
        return [*self.services, self.orchestrator]

    async def start(self) -> None:
        """Start them side by side and wait until all answer; `NotReady` says what the one printed that doesn't."""
        for each in self.all:
            await each.start(wait=False)
        for each in self.all:
            await each.ready()

    async def kill_orchestrator(self) -> None:
        """SIGKILL: nothing is finished, nothing is flushed."""
        self._down_on_purpose = True
        await self.orchestrator.kill()
        self.kills += 1

    async def live_workers(self) -> list[int]:
        """The process ids of the workers that share the log."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.orchestrator.url}/v1/workers") as answer:
            told = await answer.json()
        return [int(each["id"].partition("-")[0]) for each in told["workers"] if each["state"] == "live"]

    async def kill_worker(self) -> None:
        """SIGKILL to one of them; its supervisor starts another."""
        os.kill((await self.live_workers())[0], signal.SIGKILL)
        self.kills += 1

    async def stop_worker_for(self, seconds: float) -> None:
        """SIGSTOP to one of them, and SIGCONT when it has long been taken for gone."""
        worker = (await self.live_workers())[-1]
        os.kill(worker, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(worker, signal.SIGCONT)

    async def start_orchestrator(self) -> None:
        """Start it again, at the same address and over the same log."""
        await self.orchestrator.start()
        self._down_on_purpose = False

    async def watch(self) -> None:
        """Never returns; `NotReady` if one of them ends unasked."""
        while True:
            for each in self.all:
                if self._down_on_purpose and each is self.orchestrator:
                    continue
                if each.process is None or each.process.returncode is not None:
                    raise NotReady(f"the {each.name} ended by itself; it printed:\n{_said(each)}")
            await asyncio.sleep(WATCH_SECONDS)

    async def stop(self) -> None:
        """Ask all to end, and wait until what is on its way has arrived; a kill follows where that takes too long."""
        await self.orchestrator.stop()
        await asyncio.gather(*(each.stop() for each in self.services))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self.all:  # first all at once, for there may be no time for more
            if each.process is not None and each.process.returncode is None:
                each.process.kill()
        for each in self.all:
            await each.kill()


def _service(name: str, settings: DemoSettings, catalogue: Catalogue) -> ServiceProcess:
    options = [f"--faults={settings.faults}", f"--seed={settings.seed}", f"--work-ms={settings.work_ms}"]
    return ServiceProcess(
        name, settings.database(name), settings.folder, options, catalogue=catalogue, port=settings.ports[name]
    )


def _said(process: ServiceProcess) -> str:
    return process.output.read_text("utf-8", "replace")[-2000:] if process.output.exists() else ""
