"""What is shown while the demo runs: a live picture on a terminal, plain lines anywhere else."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Final, Protocol, Self

import aiohttp
import msgspec
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

LOOK_SECONDS: Final = 0.25
"""How often the picture is drawn anew."""

LINE_SECONDS: Final = 2.0
"""How often a plain line says how far it is."""

STATES: Final = ("completed", "compensated", "stuck")


@dataclass(slots=True)
class DemoScene:
    """What the picture shows: the demo keeps it up to date, the picture only looks."""

    orders: int
    acknowledged: int = 0
    ended: Mapping[str, int] = field(default_factory=dict[str, int])
    asked_again: int = 0
    faults: dict[str, int] = field(default_factory=dict[str, int])
    orchestrator: str = "starting"

    def __str__(self) -> str:
        states = ", ".join(f"{self.ended.get(state, 0)} {state}" for state in STATES)
        return (
            f"{self.acknowledged} of {self.orders} orders acknowledged, {sum(self.ended.values())} ended: {states}; "
            f"{_faults(sum(self.faults.values()))} fired"
        )


def _faults(count: int) -> str:
    return f"{count} fault{'' if count == 1 else 's'}"


class Picture(Protocol):
    """Enter it, and it follows the scene by itself; `say` adds a line that stays."""

    def say(self, line: str) -> None:
        """A phase begins, or something happened that should be read."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def picture_of(scene: DemoScene, console: Console) -> Picture:
    """A live one on a terminal, lines elsewhere."""
    return LivePicture(scene, console) if console.is_terminal else PlainPicture(scene, console)


class PlainPicture:
    """Lines with the seconds since the start, for pipes and logs."""

    def __init__(self, scene: DemoScene, console: Console) -> None:
        self._scene = scene
        self._console = console
        self._began = monotonic()
        self._task: asyncio.Task[None] | None = None

    def say(self, line: str) -> None:
        """The line, with its time."""
        self._console.print(
            f"{monotonic() - self._began:6.1f} s  {line}", markup=False, highlight=False, soft_wrap=True
        )

    async def _follow(self) -> None:
        last = ""
        while True:
            await asyncio.sleep(LINE_SECONDS)
            said = str(self._scene)
            if self._scene.acknowledged and said != last:
                self.say(f"  {said}")
                last = said

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()


class LivePicture:
    """A bar and a table that change in place, under the lines that stay."""

    def __init__(self, scene: DemoScene, console: Console) -> None:
        self._scene = scene
        self._plain = PlainPicture(scene, console)
        self._live = Live(
            console=console, get_renderable=self._draw, refresh_per_second=1 / LOOK_SECONDS, transient=True
        )

    def say(self, line: str) -> None:
        """The line, with its time."""
        self._plain.say(line)

    def _draw(self) -> RenderableType:
        scene = self._scene
        ended = sum(scene.ended.values())
        drawn = Table.grid(padding=(0, 2))
        drawn.add_row(
            "orders", ProgressBar(total=scene.orders, completed=ended, width=40), f"{ended} of {scene.orders}"
        )
        counts = Text("  ").join(
            Text(f"{scene.ended.get(state, 0)} {state}", style=style)
            for state, style in zip(STATES, ("green", "yellow", "red"), strict=True)
        )
        drawn.add_row("", counts, f"{scene.acknowledged} acknowledged")
        up = scene.orchestrator == "up"
        drawn.add_row(
            "orchestrator",
            Text(scene.orchestrator, style="" if up else "bold red"),
            f"asked again {scene.asked_again}x",
        )
        for service, count in scene.faults.items():
            drawn.add_row(service, Text(f"{_faults(count)} fired", style="magenta" if count else "dim"), "")
        return drawn

    async def __aenter__(self) -> Self:
        self._live.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


async def follow_faults(services: Mapping[str, str], scene: DemoScene) -> None:
    """Never returns: asks the services how many faults they have fired, for the picture only."""
    scene.faults = dict.fromkeys(services, 0)
    timeout = aiohttp.ClientTimeout(total=2)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        while True:
            for name, url in services.items():
                try:
                    async with http.get(f"{url}/faults") as answer:
                        scene.faults[name] = msgspec.json.decode(await answer.read(), type=_Faults).fired
                except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError):
                    continue  # a service that is busy is asked again soon
            await asyncio.sleep(2 * LOOK_SECONDS)


class _Faults(msgspec.Struct):
    fired: int
