"""`uv run python -m bench.adoption`: how soon the runs of a killed worker are done by the one that survives it.

A server of its own, and two workers that live beside each other. One starts so many runs, whose last call never comes
back (`--left 1`; with 3 it is the first), and is killed as `kill -9` does. The other one, which was idle, finds that
the lease is over, claims the runs and drives them to their end, calling the participants over HTTP. The clock is the
one of the machine, which the database shows in `ended_at`; at the end the log's own count is held against the runs
that were started.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from amends import Orchestrator
from amends.core.run.answers import Came
from amends.logs.postgres import schema
from amends.ports.transport import Outgoing, Transport
from amends.testing.postgres_server import PostgresServer, ask
from bench.measure import SETTINGS, DidNothingLikeIt
from bench.participant import ParticipantProcess
from bench.sagas import TRIP, Agency, trip

RUNS: Final = 2_000
LEASE_SECONDS: Final = 2.0
STEPS: Final = ("flight", "hotel", "car")
PATIENCE_SECONDS: Final = 120.0
WARM: Final = 64
ROOT: Final = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Adopted:
    """Seconds from the kill: to the end of the lease, to the first run that was done, and to the last. CPU of the
    survivor, all its threads.
    """

    runs: int
    left: int
    lease: float
    over: float
    first: float
    last: float
    cpu_seconds: float
    load: float

    def __str__(self) -> str:
        """One line for people."""
        first, last = self.first - self.over, self.last - self.over
        return (
            f"{self.runs} runs with {self.left} of {len(STEPS)} calls left, lease {self.lease:g} s, over "
            f"{self.over:.2f} s after the kill: first done {first:+.2f} s, all {last:+.2f} s, so within lease "
            f"{self.last - self.lease:+.2f} s; {self.cpu_seconds:.2f} s of the survivor's CPU, load {self.load:.2f}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.adoption", description="the runs of a killed worker")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--left", type=int, nargs="+", default=[1, 3], choices=range(1, len(STEPS) + 1))
    parser.add_argument("--lease", type=float, default=LEASE_SECONDS, help="seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mortal", nargs=2, metavar=("LOG", "PARTICIPANT"), help="be the worker that is killed")
    given = parser.parse_args(arguments)
    if given.mortal:
        log, participant = given.mortal
        asyncio.run(_die_at_work(log, participant, given.runs, given.left[0]))
        return
    for _ in range(given.rounds):
        for left in given.left:
            print(measure(given.runs, left, given.lease), flush=True)


def measure(runs: int, left: int, lease: float) -> Adopted:
    """One kill."""
    with (
        tempfile.TemporaryDirectory(prefix="amends-bench-") as folder,
        PostgresServer(Path(folder), settings=SETTINGS) as server,
        ParticipantProcess() as participant,
    ):
        url = server.create("log")
        ask(url, schema.script())
        adopted = asyncio.run(_adopt(url, participant.url, runs, left, lease))
        ended = ask(url, "select state, count(*) from amends.runs where id like 'run-%' group by state")
        taken_over = ask(url, "select count(*) from amends.runs where id like 'run-%' and epoch = 2")
        if (ended, taken_over) != (f"completed|{runs}", str(runs)):
            raise DidNothingLikeIt(f"{runs} runs were to be taken over and completed, but: {ended}, {taken_over}")
        return adopted


async def _adopt(url: str, participant: str, runs: int, left: int, lease: float) -> Adopted:
    log = f"{url}?lease_seconds={lease}"
    routes = [Agency.at(participant, at_once=64)]
    async with Orchestrator([trip], log=log, routes=routes) as survivor:
        for outcome in [(await survivor.start(trip, TRIP)).outcome() for _ in range(WARM)]:
            await outcome
        command = ["-m", "bench.adoption", "--runs", str(runs), "--left", str(left), "--mortal", log, participant]
        mortal = await asyncio.create_subprocess_exec(
            *(sys.executable, *command), cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        assert mortal.stdout is not None
        if await mortal.stdout.readline() != b"at work\n":
            raise DidNothingLikeIt("the worker that is to be killed didn't come up")
        cpu = time.process_time()
        mortal.send_signal(signal.SIGKILL)
        killed = time.time()
        await mortal.wait()
        await _all_done(survivor)
        cpu = time.process_time() - cpu
    ended = ask(url, "select min(ended_at) / 1e6, max(ended_at) / 1e6 from amends.runs where id like 'run-%'")
    dead = ask(
        url, "select pid, max(extract(epoch from expires_at)) from amends.workers where state = 'dead' group by pid"
    )
    leases = dict(line.split("|") for line in dead.splitlines())  # a busy machine may cost the survivor one as well
    over = leases[str(mortal.pid)]
    first, last = (float(each) - killed for each in ended.split("|"))
    return Adopted(runs, left, lease, float(over) - killed, first, last, cpu, os.getloadavg()[0])


async def _all_done(survivor: Orchestrator) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await survivor.engine.log.live():  # noqa: ASYNC110 - another process's runs: nobody says so
            await asyncio.sleep(0.1)


# -- the one that is killed


class Holding:
    """`ports.transport.Transport`: a step's calls never come back."""

    def __init__(self, through: Transport, step: str) -> None:
        self._through = through
        self._step = step
        self.held = 0
        self.changed = asyncio.Event()

    async def send(self, call: Outgoing) -> Came:
        """Answer nothing to this step, and everything else."""
        if call.step != self._step:
            return await self._through.send(call)
        self.held += 1
        self.changed.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def close(self) -> None:
        """As the transport."""
        await self._through.close()


async def _die_at_work(log: str, participant: str, runs: int, left: int) -> None:
    ways: list[Holding] = []

    def around(transport: Transport) -> Transport:
        ways.append(Holding(transport, STEPS[-left]))
        return ways[-1]

    routes = [Agency.at(participant, at_once=runs)]
    async with Orchestrator([trip], log=log, routes=routes, around=around, runs_max=runs) as mortal:
        await asyncio.gather(*(mortal.start(trip, TRIP, id=f"run-{number}") for number in range(runs)))
        while (held := sum(way.held for way in ways)) < runs:
            ways[0].changed.clear()
            await ways[0].changed.wait()
        assert held == runs
        print("at work", flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    main()
