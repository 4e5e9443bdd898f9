"""`amends top`: what goes on, live, over the whole screen."""

import asyncio
import re
import shutil
import sys
import termios
import tty
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from amends.cli.errors import BadUsage
from amends.cli.inspect import around_of, listed, stuck_causes
from amends.cli.options import spread
from amends.cli.output import on_terminal, paint
from amends.cli.source import LogUrl, ServerOptions, Source, checked, reach
from amends.cli.texts.tables import aligned, counted
from amends.cli.texts.times import clock
from amends.client.protocol import Again, Ask

if TYPE_CHECKING:
    from amends.cli.texts.listing import Listed
    from amends.cli.texts.story import Around
    from amends.server.stuck import CauseView

ROWS_MAX: Final = 60
STATES: Final = ("running", "compensating", "stuck", "completed", "compensated", "abandoned")
_COUNT: Final = re.compile(r'^amends_runs\{state="(\w+)"\} ([0-9.e+]+)$', re.MULTILINE)

ENTER: Final = "\x1b[?1049h\x1b[?25l"
LEAVE: Final = "\x1b[?25h\x1b[?1049l"
PAINT: Final = "\x1b[H\x1b[J"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is on the screen at one moment."""

    where: str
    around: "Around"
    counts: Mapping[str, int]
    causes: "Sequence[CauseView]"
    live: "Sequence[Listed]"


@spread
def top(
    *,
    server: ServerOptions,
    log: LogUrl = None,
    every: Annotated[float, typer.Option(min=0.2, metavar="SECONDS", help="How often it looks.")] = 1.0,
) -> None:
    """What goes on, live, over the whole screen. q leaves it."""
    if not on_terminal() or not sys.stdin.isatty():
        msg = "top needs a terminal. Into a pipe: amends ls --live --watch, or amends stuck --json."
        raise BadUsage(msg)
    asyncio.run(_run(server, log, every))


async def _run(server: ServerOptions, log: str | None, every: float) -> None:
    quitting = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with reach(server, log) as source:
        before = await snapshot(source)  # what is wrong with the address is said on the screen that was there
        with _screen():
            loop.add_reader(sys.stdin, _pressed, quitting)
            try:
                while not quitting.is_set():
                    size = shutil.get_terminal_size()
                    paint(PAINT, top_lines(before), rows=size.lines - 1, columns=size.columns)
                    await _either(quitting, every)
                    before = await snapshot(source)
            except asyncio.CancelledError:  # Ctrl-C
                return
            finally:
                loop.remove_reader(sys.stdin)


async def _either(quitting: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await quitting.wait()
    except TimeoutError:
        return


def _pressed(quitting: asyncio.Event) -> None:
    if sys.stdin.read(1).lower() in {"q", "\x03", "\x04", ""}:
        quitting.set()


@contextmanager
def _screen() -> Generator[None]:
    """The other screen, keys as they are pressed; whatever happens, the terminal is as it was."""
    kept = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    sys.stdout.write(ENTER)
    try:
        yield
    finally:
        sys.stdout.write(LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, kept)


async def snapshot(source: Source) -> Snapshot:
    """One look at everything."""
    metrics = checked(await source.ask(Ask("GET", "/metrics", again=Again.FINE))).body.decode()
    counts = {state: int(float(count)) for state, count in _COUNT.findall(metrics)}
    live = await listed(source, {"where": "state=running,compensating,stuck"}, ROWS_MAX)
    return Snapshot(source.name, await around_of(source), counts, await stuck_causes(source), live)


def top_lines(seen: Snapshot) -> list[str]:
    """The screen, from the top."""
    from amends.cli.texts.causes import causes_lines
    from amends.cli.texts.listing import listing, oldest_first

    now = seen.around.now
    lines = [f"amends   {seen.where}   {now.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC   (q leaves)", _counts(seen.counts)]
    if seen.around.participants:
        lines += ["", *_participants(seen)]
    lines += ["", *causes_lines(seen.causes, list(seen.around.participants.values()), now)]
    live = oldest_first(seen.live, now)
    lines += ["", f"{counted(len(live), 'run')} live, what needs a person first, then the oldest"]
    return lines + listing(live, seen.around) if live else lines


def _counts(counts: Mapping[str, int]) -> str:
    if not counts:
        return "no sums by state: the token is for some sagas, or the server has no metrics"
    shown = [f"{'STUCK' if each == 'stuck' else each} {counts.get(each, 0):,}" for each in STATES]
    return "   ".join(shown)


def _participants(seen: Snapshot) -> list[str]:
    now: datetime = seen.around.now
    rows = [("participant", "in flight", "waiting", "state")]
    for each in seen.around.participants.values():
        down = each.down_since
        state = "up" if down is None else f"is down since {clock(down, now)}: {each.detail or 'no answer'}"
        rows.append((each.name, f"{each.in_flight}/{each.at_once}", str(each.waiting), state))
    return list(aligned(rows))
