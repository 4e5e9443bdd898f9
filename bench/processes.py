"""`uv run python -m bench.processes`: one, two and four processes on one PostgreSQL, with steps that only wait.

Each process keeps so many runs in flight, whose three steps do nothing but wait, so that what is measured is not how
many cores there are but what the log takes. Without any cost a process would do `in flight / (3 * wait)` runs a second.
How near it comes to that, what a run costs the processes and the server in CPU, and how many commits it takes: more
processes share fewer runs per commit each.

At the end the log's own count is held against what the processes say they did.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from amends import Orchestrator, Saga
from amends.logs.postgres import schema
from amends.testing.postgres_server import PostgresServer, ask
from bench.measure import SETTINGS, DidNothingLikeIt

PROCESSES: Final = (1, 2, 4)
IN_FLIGHT: Final = 64
WAIT_SECONDS: Final = 0.1
SECONDS: Final = 8.0
WARM_SECONDS: Final = 2.0
STEPS: Final = 3
ROOT: Final = Path(__file__).parent.parent
TICKS: Final = os.sysconf("SC_CLK_TCK")
COLUMNS: Final = (
    f"{'processes':>9}{'in flight':>11}{'runs/s':>9}{'of what waiting allows':>24}{'CPU us/run':>12}"
    f"{'server CPU us/run':>19}{'runs/commit':>13}{'load':>7}"
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What so many processes did together."""

    processes: int
    in_flight: int
    runs_per_second: float
    of_allowed: float
    cpu_us: float
    server_cpu_us: float
    runs_per_commit: float
    load: float

    def __str__(self) -> str:
        """One line of the table."""
        return (
            f"{self.processes:>9}{self.in_flight:>11}{self.runs_per_second:>9,.0f}{self.of_allowed:>24.0%}"
            f"{self.cpu_us:>12,.0f}{self.server_cpu_us:>19,.0f}{self.runs_per_commit:>13.2f}{self.load:>7.2f}"
        )


def saga_that_waits(seconds: float) -> Saga[str]:
    """Three steps, one after the other, each of which waits."""
    waits = Saga("waits", str)

    @waits.neutral()
    async def one(_: str) -> int:
        await asyncio.sleep(seconds)
        return 1

    @waits.neutral(one)
    async def two(_: str, before: int) -> int:
        await asyncio.sleep(seconds)
        return before + 1

    @waits.neutral(two)
    async def three(_: str, before: int) -> int:
        await asyncio.sleep(seconds)
        return before + 1

    return waits


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.processes", description="many processes on one database")
    parser.add_argument("--processes", type=int, nargs="+", default=PROCESSES)
    parser.add_argument("--in-flight", type=int, default=IN_FLIGHT, help="runs, per process")
    parser.add_argument("--wait", type=float, default=WAIT_SECONDS, help="seconds that a step takes")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that are measured, after some to warm up")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--worker", metavar="LOG", help="be one of the processes")
    given = parser.parse_args(arguments)
    if given.worker:
        asyncio.run(_work(given.worker, given.in_flight, given.wait))
        return
    print(COLUMNS)
    for _ in range(given.rounds):
        for processes in given.processes:
            print(asyncio.run(measure(processes, given.in_flight, given.wait, given.seconds)), flush=True)


async def measure(
    processes: int, in_flight: int, wait: float, seconds: float, *, warm: float = WARM_SECONDS
) -> Measured:
    """So many processes on a fresh log."""
    with tempfile.TemporaryDirectory(prefix="amends-bench-") as folder:
        server = PostgresServer(Path(folder), settings=SETTINGS)
        with server:
            url = server.create("log")
            ask(url, schema.script())
            workers = [await _start(url, in_flight, wait) for _ in range(processes)]
            await asyncio.sleep(warm)
            before = [await _told(each) for each in workers]
            server_before, commits_before, began = _server_cpu(server), _commits(url), time.perf_counter()
            await asyncio.sleep(seconds)
            after = [await _told(each) for each in workers]
            lasted = time.perf_counter() - began
            server_cpu, commits = _server_cpu(server) - server_before, _commits(url) - commits_before
            for each in workers:
                assert each.stdin is not None
                each.stdin.close()
            claimed = sum([(await _last(each))["done"] for each in workers])
            found = ask(url, "select state, count(*) from amends.runs group by state")
            if found != f"completed|{claimed}":
                raise DidNothingLikeIt(f"the processes did {claimed} runs, and the log has {found}")
    runs = sum(then["done"] - now["done"] for now, then in zip(before, after, strict=True))
    cpu = sum(then["cpu"] - now["cpu"] for now, then in zip(before, after, strict=True))
    return Measured(
        processes,
        in_flight,
        runs / lasted,
        runs / lasted / (processes * in_flight / (STEPS * wait)),
        cpu / runs * 1e6,
        server_cpu / runs * 1e6,
        runs / commits,
        os.getloadavg()[0],
    )


async def _start(url: str, in_flight: int, wait: float) -> asyncio.subprocess.Process:
    command = ("-m", "bench.processes", "--worker", url, "--in-flight", str(in_flight), "--wait", str(wait))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    if await process.stdout.readline() != b"at work\n":
        raise DidNothingLikeIt("a process didn't come up")
    return process


async def _told(process: asyncio.subprocess.Process) -> dict[str, float]:
    """What it has done so far."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"?\n")
    told: dict[str, float] = json.loads(await process.stdout.readline())
    return told


async def _last(process: asyncio.subprocess.Process) -> dict[str, int]:
    assert process.stdout is not None
    told: dict[str, int] = json.loads(await process.stdout.readline())
    await process.wait()
    return told


def _commits(url: str) -> int:
    return int(ask(url, "select xact_commit from pg_stat_database where datname = current_database()"))


def _server_cpu(server: PostgresServer) -> float:
    """Seconds of all the server's processes, those that have ended included."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, fields = stat.parent.name, stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if pid == str(server.pid):
            total += sum(map(int, fields[11:15]))
        elif fields[1] == str(server.pid):
            total += sum(map(int, fields[11:13]))
    return total / TICKS


# -- one of the processes


async def _work(log: str, in_flight: int, wait: float) -> None:
    """Run, and tell how many when asked; at the end of the input finish what was begun, and tell once more."""
    waits = saga_that_waits(wait)
    done, over = 0, False

    async def worker(runs: Orchestrator) -> None:
        nonlocal done
        while not over:
            await (await runs.start(waits, "x")).outcome()
            done += 1

    async with Orchestrator([waits], log=log) as runs:
        working = [asyncio.create_task(worker(runs)) for _ in range(in_flight)]
        print("at work", flush=True)
        said = await _lines()
        while await said():
            print(json.dumps({"done": done, "cpu": time.process_time()}), flush=True)
        over = True
        await asyncio.gather(*working)
    print(json.dumps({"done": done}), flush=True)


async def _lines() -> Callable[[], "asyncio.Future[bytes]"]:
    """Lines of the standard input; an empty one at its end."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return lambda: asyncio.ensure_future(reader.readline())


if __name__ == "__main__":
    main()
