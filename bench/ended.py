"""`uv run python -m bench.ended`: what a million runs that have ended cost those that go on, on PostgreSQL.

The same runs are measured on an empty log and on one that holds so many ended runs, and so are the questions that
people and workers ask. The ended runs are written by the database itself (`generate_series`), as the engine leaves
them: made by the engine they would take a quarter of an hour. Then half of them is purged, and the runs are measured
once more.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Final

from amends import Orchestrator
from amends.core.saga.outcomes import Completed
from amends.logs.postgres import schema
from amends.logs.postgres.log import PostgresLog
from amends.ports.log import Find
from amends.testing.postgres_server import PostgresServer, ask
from bench.measure import SETTINGS, DidNothingLikeIt
from bench.sagas import TRIP, nothing

ENDED: Final = 1_000_000
RUNS: Final = 3_000
IN_FLIGHT: Final = 32
TIMES: Final = 50
PURGED_AT_ONCE: Final = 1_000

MAKE: Final = """
INSERT INTO amends.runs (id, saga, saga_version, digest, state, by_hand, version, owner, epoch, due_at, start_print,
                         current, steps, stuck, tags, created_at, updated_at, ended_at)
SELECT 'old-' || n, saga, saga_version, digest, CASE WHEN n % 100 = 0 THEN 'compensated' ELSE state END, false, version,
       NULL, 1, NULL, sha256(n::text::bytea), current, steps, stuck, json_build_object('customer', 'c' || n % 10000),
       created_at - n * 1000000::bigint, updated_at, ended_at - n * 1000000::bigint
FROM amends.runs, generate_series(1, {ended}) AS n WHERE id = 'pattern';
INSERT INTO amends.run_tags (name, value, saga, created_at, run)
SELECT 'customer', tags ->> 'customer', saga, created_at, id FROM amends.runs WHERE id LIKE 'old-%';
INSERT INTO amends.events (run, version, kind, body, epoch, append_id, at)
SELECT 'old-' || n, version, kind, body, epoch, append_id, at
FROM generate_series(1, {ended}) AS n, amends.events WHERE run = 'pattern';
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.ended", description="what ended runs cost")
    parser.add_argument("--ended", type=int, default=ENDED)
    parser.add_argument("--runs", type=int, default=RUNS)
    given = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="amends-bench-") as folder,
        PostgresServer(Path(folder), settings=SETTINGS) as server,
    ):
        asyncio.run(measure(server.create("empty"), server.create("full"), given.ended, given.runs))


async def measure(empty: str, full: str, ended: int, runs: int) -> None:
    """An empty log, then a full one, then one that is purged by half; both databases are there, without tables."""
    for url in (empty, full):
        ask(url, schema.script())
    await _run(full, 1, name="pattern")
    began = time.perf_counter()
    ask(full, MAKE.format(ended=ended))
    ask(full, "VACUUM ANALYZE")
    print(f"{ended} ended runs written by the database in {time.perf_counter() - began:.0f} s: {_size(full, ended)}")
    for round_ in range(2):
        for url in (empty, full) if round_ == 0 else (full, empty):
            name = "full" if url == full else "empty"
            print(f"{name:<7}{await _run(url, runs)}   load {os.getloadavg()[0]:.2f}", flush=True)
    await _ask_questions(empty, full)
    print(await _purged(full, ended // 2))
    ask(full, "VACUUM ANALYZE")
    print(f"{'purged':<7}{await _run(full, runs)}   load {os.getloadavg()[0]:.2f}")


def _size(url: str, ended: int) -> str:
    parts = ("runs", "events", "run_tags")
    sizes = {each: int(ask(url, f"select pg_total_relation_size('amends.{each}')")) for each in parts}
    shown = ", ".join(f"{each} {size / 2**20:,.0f} MiB" for each, size in sizes.items())
    return f"{shown}; {sum(sizes.values()) / ended:,.0f} bytes a run"


async def _run(url: str, runs: int, *, name: str | None = None) -> str:
    """So many runs of three local steps, in a closed loop."""
    numbers = iter(range(runs))
    before = int(ask(url, "select count(*) from amends.runs where ended_at is not null"))
    async with Orchestrator([nothing], log=url) as orchestrator:

        async def worker() -> None:
            for _ in numbers:
                outcome = await (await orchestrator.start(nothing, TRIP, id=name)).outcome()
                if not isinstance(outcome, Completed):
                    raise DidNothingLikeIt(str(outcome))

        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker() for _ in range(min(IN_FLIGHT, runs))))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if int(ask(url, "select count(*) from amends.runs where ended_at is not null")) != before + runs:
        raise DidNothingLikeIt(f"not every one of {runs} runs has ended")
    return f"{runs / wall:>8,.0f} runs/s{cpu / runs * 1e6:>8,.0f} us of CPU per run"


async def _ask_questions(*urls: str) -> None:
    """How long each takes, in milliseconds, on every log."""
    async with AsyncExitStack() as stack:
        logs = [PostgresLog(url) for url in urls]
        for log in logs:
            await log.open()
            stack.push_async_callback(log.close)
        for name, question in QUESTIONS.items():
            took: list[str] = []
            for log in logs:
                times: list[float] = []
                for _ in range(TIMES):
                    began = time.perf_counter()
                    await question(log)
                    times.append(time.perf_counter() - began)
                took.append(f"{median(times) * 1e3:>8.2f} ms")
            print(f"{name:<46}{''.join(took)}", flush=True)


Question = Callable[[PostgresLog], Awaitable[object]]

QUESTIONS: Final[dict[str, Question]] = {
    "what is stuck": lambda log: log.find(Find(states=["stuck"])),
    "what goes on": lambda log: log.live(),
    "what is due, and whose owner is gone (a claim)": lambda log: log.claim([], now=0, limit=200),
    "when is something due": lambda log: log.next_due(),
    "the newest hundred runs": lambda log: log.find(Find()),
    "the newest hundred of a saga with a tag": lambda log: log.find(Find(saga="nothing", tags={"customer": "c77"})),
    "one run with its history": lambda log: log.read("old-77"),
}


async def _purged(url: str, runs: int) -> str:
    log = PostgresLog(url)
    await log.open()
    gone, began = 0, time.perf_counter()
    while gone < runs:
        found = await log.purge(2**62, min(PURGED_AT_ONCE, runs - gone))
        if not found:
            raise DidNothingLikeIt(f"{gone} of {runs} runs could be purged")
        gone += found
    took = time.perf_counter() - began
    await log.close()
    return f"{gone} purged in {took:.1f} s, {PURGED_AT_ONCE} at a time: {gone / took:,.0f} a second"


if __name__ == "__main__":
    main()
