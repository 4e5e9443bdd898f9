"""Lives of one orchestrator, each a process of its own: born by a fork of a process that has everything imported and
nothing started, so that a life costs no more than what it does.

Run as a program this is that process: it reads one `Life` per line, forks it, waits for its end and tells how it was.
It has no thread and no event loop, ever; a life has both.
"""

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from amends.orchestrator import Orchestrator, load_definitions
from tests.real.crash.mortal import Death, Fate, MortalLog, MortalTransport, OnTheWire, write_line
from tests.real.crash.sagas import CASES, Order, Shop

RUN: Final = "r-1"
LIFE_SECONDS: Final = 30.0
"""A life takes some milliseconds; one that takes this long hangs."""

ROOT: Final = Path(__file__).parents[3]


class Life(msgspec.Struct, kw_only=True):
    """What a process is to do: drive the case's run to its end; first of all, or meanwhile, deliver what is on the
    wire. `folder` is where it works, and all it knows: it goes on from a copy as from the original.
    """

    folder: str
    case: str
    place: str = ""
    time: int = 0
    drive: bool = True
    deliver: bool = False


# -- a life, in a process of its own


async def live(life: Life) -> None:
    """Open the log, start the run unless it is acknowledged, and see it to its end."""
    folder, case = Path(life.folder), CASES[life.case]
    fate = Fate(Death(life.place, life.time) if life.place else None)
    shop = Shop(folder, fate.passing)
    delivering = asyncio.create_task(deliver(shop, folder)) if life.deliver else None
    if life.drive:
        async with (
            asyncio.timeout(LIFE_SECONDS),
            Orchestrator(
                [case.saga],
                log=MortalLog(folder / "log.db", fate),
                routes=shop.routes(),
                around=lambda transport: MortalTransport(transport, fate, folder),
            ) as runs,
        ):
            if "started" not in said(folder):
                started = await runs.start(case.saga, Order("local.db", case.lacks), id=RUN)
                assert started.id == RUN
                write_line(folder / "said", b"started")
            outcome = await runs.get(RUN).outcome()
            write_line(folder / "said", f"ended {outcome}".encode())
    if delivering is not None:
        await delivering
    shop.close()


async def deliver(shop: Shop, folder: Path) -> None:
    """What is on the wire arrives. Nobody hears the answer."""
    wire = msgspec.json.decode((folder / "wire").read_bytes(), type=OnTheWire)
    answer = await shop.services[wire.participant].handle(wire.headers, wire.operation, wire.body)
    write_line(folder / "said", f"arrived {answer.status} {answer.headers.get('saga-outcome', '')}".encode())


def said(folder: Path) -> list[str]:
    """What the lives so far have told the world."""
    path = folder / "said"
    return path.read_text().splitlines() if path.exists() else []


# -- the process that forks


def bear(life: Life) -> int:
    """Fork; how it ended: its exit code, or the signal that killed it as a negative number."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        os.chdir(life.folder)
        asyncio.run(live(life))
        code = 0
    except BaseException:  # noqa: BLE001 - told to whoever waits, whatever it was
        write_line(Path(life.folder) / "errors", traceback.format_exc().encode())
    os._exit(code)


def main() -> None:
    for case in CASES.values():
        load_definitions([case.saga])  # once here, for what types are is remembered
    gc.collect()
    gc.freeze()  # what was imported stays shared
    for line in sys.stdin:
        sys.stdout.write(f"{bear(msgspec.json.decode(line, type=Life))}\n")
        sys.stdout.flush()


# -- where the tests ask for lives


class Mother:
    """The process above, from outside."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def bear(self, life: Life) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(life).decode() + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the forking process is gone"
        return int(line)


@contextmanager
def mother() -> Generator[Mother]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.real.crash.lives"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Mother(process)
        finally:
            with contextlib.suppress(BrokenPipeError):
                assert process.stdin is not None
                process.stdin.close()
            process.wait(timeout=LIFE_SECONDS + 10)


if __name__ == "__main__":
    main()
