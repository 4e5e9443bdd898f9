"""`uv run python -m bench.starts`: runs started over HTTP per second, and what each costs the server.

A server in a process of its own on a fresh SQLite log, and so many connections here, each of which posts its next start
when the last was acknowledged. The client is a bare socket that reads no more than it must. The server's CPU time is
read from the system, all its threads; at the end the log's own count is held against what was acknowledged.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from amends import Call, Saga, sleep
from bench.measure import DidNothingLikeIt, percentile

CONNECTIONS = 64
STARTS = 10_000
WARM = 500
TICKS = os.sysconf("SC_CLK_TCK")

taken = Saga("taken", str)
"""A run that is acknowledged and then waits: what a start costs, and nothing else."""


@taken.neutral()
def wait(_: str) -> Call[None]:
    return sleep(timedelta(days=1))


nothing = Saga("nothing", str)
"""A run of one step that does nothing, to its end."""


@nothing.neutral()
async def idle(_: str) -> None:
    return None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.starts", description="starts over HTTP")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--log", default="sqlite", choices=["sqlite", "memory"])
    parser.add_argument("--saga", default=["taken", "nothing"], nargs="+", choices=["taken", "nothing"])
    given = parser.parse_args()
    print(f"{given.connections} connections, {given.starts} starts, {given.log}, load {os.getloadavg()[0]:.2f}")
    print(f"{'saga':<10}{'starts/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'server CPU us/start':>22}{'client CPU us':>15}")
    for _ in range(given.rounds):
        for saga in given.saga:
            print(measure(saga, given.log, given.connections, given.starts))


def measure(saga: str, log: str, connections: int, starts: int) -> str:
    """One round against a fresh server."""
    with tempfile.TemporaryDirectory(prefix="amends-bench-") as folder:
        url = f"sqlite:///{folder}/log.db" if log == "sqlite" else "memory:"
        command = [sys.executable, "-m", "amends.cli.main", "serve", f"bench.starts:{saga}", "--log", url]
        with subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0", "--json"], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        ) as server:
            try:
                assert server.stdout is not None
                host, _, port = json.loads(server.stdout.readline())["url"].removeprefix("http://").partition(":")
                return asyncio.run(_load(saga, server.pid, host, int(port), connections, starts))
            finally:
                server.send_signal(signal.SIGTERM)


async def _load(  # noqa: PLR0917 - what is measured
    saga: str, pid: int, host: str, port: int, connections: int, starts: int
) -> str:
    took: list[float] = []
    opened = [await asyncio.open_connection(host, port) for _ in range(connections)]

    async def rounds(numbers: list[int], prefix: str) -> None:
        left = iter(numbers)
        await asyncio.gather(*(_post(*each, saga, left, prefix, took) for each in opened))

    await rounds(list(range(WARM)), "w")
    took.clear()
    cpu, own, wall = _cpu_seconds(pid), time.process_time(), time.perf_counter()
    await rounds(list(range(starts)), "r")
    seconds = time.perf_counter() - wall
    cpu, own = _cpu_seconds(pid) - cpu, time.process_time() - own
    reader, writer = opened[0]
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    body = (await _answer(reader))[1].decode()
    counted = sum(float(line.split()[1]) for line in body.splitlines() if line.startswith("amends_runs{"))
    if counted != starts + WARM:
        msg = f"{starts + WARM} starts were acknowledged, the log has {counted:g} runs"
        raise DidNothingLikeIt(msg)
    for _, each in opened:
        each.close()
    return (
        f"{saga:<10}{starts / seconds:>10.0f}{percentile(took, 0.5) * 1e3:>9.1f}{percentile(took, 0.99) * 1e3:>9.1f}"
        f"{cpu / starts * 1e6:>22.0f}{own / starts * 1e6:>15.0f}"
    )


async def _post(  # noqa: PLR0917 - what is posted
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    saga: str,
    numbers: Iterator[int],
    prefix: str,
    took: list[float],
) -> None:
    clock = time.perf_counter
    for number in numbers:  # all connections share it
        body = b'{"saga":"%s","id":"%s-%d","input":"Lisbon"}' % (saga.encode(), prefix.encode(), number)
        began = clock()
        writer.write(
            b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        status, _ = await _answer(reader)
        took.append(clock() - began)
        if status != 201:
            msg = f"a start was answered {status}"
            raise DidNothingLikeIt(msg)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    return int(head[9:12]), await reader.readexactly(length)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
