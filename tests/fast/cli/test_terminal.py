"""On a terminal: colours, the end of the line, a question before many runs are moved, a screen that is given back."""

import asyncio
import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from amends import Completed, Stuck
from tests.fast.cli.commands import amends
from tests.fast.cli.place_order import LOST, Says, basket, order, place_order, stage
from tests.fast.server.processes import SECONDS, command


@dataclass(slots=True)
class Terminal:
    """A command with a terminal of its own: what it painted so far, keys for it."""

    process: asyncio.subprocess.Process
    master: int
    painted: str = ""
    more: asyncio.Event = field(default_factory=asyncio.Event)

    def read(self) -> None:
        try:
            self.painted += os.read(self.master, 65_536).decode()
        except OSError:  # the other end was closed: how Linux says that the command has ended
            asyncio.get_running_loop().remove_reader(self.master)
        self.more.set()

    async def until(self, holds: Callable[[str], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not holds(self.painted):
                self.more.clear()
                await self.more.wait()

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())


@asynccontextmanager
async def terminal(folder: Path, *arguments: str, columns: int = 100, rows: int = 30) -> AsyncGenerator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}}
    process = await asyncio.create_subprocess_exec(
        *command(*arguments),
        cwd=folder,
        env={**environment, "TERM": "xterm-256color"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    opened = Terminal(process, master)
    asyncio.get_running_loop().add_reader(master, opened.read)
    try:
        yield opened
        async with asyncio.timeout(SECONDS):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)


async def test_top_paints_the_whole_screen_and_gives_it_back(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.runs.start(basket, 10, id="basket-1")
        on.participants.tell("schedule", LOST)
        await on.runs.start(place_order, order("order-51"), id="order-51")
        assert isinstance(await on.runs.get("order-51").outcome(), Stuck)
        async with terminal(tmp_path, "top", "--server", on.url, "--every", "0.2", columns=80) as screen:
            await screen.until(lambda painted: painted.count("basket-1") > 1)
            screen.type("q")
        assert screen.process.returncode == 0
        assert screen.painted.startswith("\x1b[?1049h")
        assert screen.painted.endswith("\x1b[?25h\x1b[?1049l")
        assert "STUCK\x1b[0m 1" in screen.painted
        frame = screen.painted.split("\x1b[H\x1b[J")[2]
        plain = [_plain(line) for line in frame.split("\r\n")]
        assert max(map(len, plain)) <= 80
        assert any(line.startswith("order-51   place-order v1   STUCK") for line in plain)
        assert any(line.startswith("inventory     0/64") for line in plain)


def _plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line)


async def test_many_runs_are_moved_only_after_a_yes(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.participants.tell("schedule", LOST)
        await on.runs.start(place_order, order("order-51"), id="order-51")
        assert isinstance(await on.runs.get("order-51").outcome(), Stuck)
        on.participants.tell("schedule", Says())
        retry = ("retry", "--where", "step=ship", "--reason", "route fixed", "--server", on.url)
        async with terminal(tmp_path, *retry) as asked:
            await asked.until(lambda painted: "Go? [y/N]" in painted)
            assert "1 run matches, 1 is past its pivot: it can only go forward." in asked.painted
            asked.type("\n")
        assert asked.process.returncode == 0
        assert isinstance(await on.runs.get("order-51").outcome(), Stuck)
        async with terminal(tmp_path, *retry) as asked:
            await asked.until(lambda painted: "Go? [y/N]" in painted)
            asked.type("y\n")
        assert "1 asked. Follow: amends ls --where 'step=ship' --watch" in asked.painted
        assert isinstance(await on.runs.get("order-51").outcome(), Completed)


async def test_colours_are_for_terminals_alone(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.participants.tell("schedule", LOST)
        await on.runs.start(place_order, order("order-51"), id="order-51")
        assert isinstance(await on.runs.get("order-51").outcome(), Stuck)
        async with terminal(tmp_path, "stuck", "--server", on.url, columns=60) as shown:
            pass
        assert shown.process.returncode == 1
        lines = [_plain(line) for line in shown.painted.split("\r\n")]
        assert max(map(len, lines)) <= 60
        assert any(line.endswith("\N{HORIZONTAL ELLIPSIS}") for line in lines), "a table is cut where the terminal ends"
        piped = await asyncio.to_thread(amends, tmp_path, "stuck", "--server", on.url)
        assert "\x1b" not in piped.out
        assert "shipping/schedule" in piped.out


def test_a_screen_needs_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = amends(tmp_path, "top")
    assert told.code == 2
    assert "top needs a terminal" in told.err
