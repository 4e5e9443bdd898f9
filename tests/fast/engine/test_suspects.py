"""A run whose step ends its process at each attempt is set aside, and takes no other run along.

A process that dies is told as everywhere here: its log is opened a second time, and what the first still does is
refused.
"""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

from amends.core.saga.outcomes import Completed
from amends.core.saga.saga import Saga
from amends.core.words.retry import Policy
from amends.engine.claims import CLEARED_SECONDS
from amends.engine.quarantine import CLAIMS_MAX, SUSPECT_CLAIMS
from amends.logs.memory import MemoryLog, MemoryStore
from amends.orchestrator import Orchestrator
from tests.fast.engine.support import Clock, seconds, until, virtually

LIVES_MAX = 9
SLOW = 1_000 * CLEARED_SECONDS


class Deadly:
    """A saga whose step does what the run is named for: `poison` ends the process, `slow` takes long."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.deaths = 0
        self.healed = False
        self.tried: list[str] = []
        self.died = asyncio.Event()
        self.saga = saga = Saga("job", str)

        @saga.retriable(policy=Policy(timeout=timedelta(days=1)))
        async def work(what: str) -> str:
            self.tried.append(what)
            if what == "poison" and not self.healed:
                self.deaths += 1
                self.died.set()
                await asyncio.Event().wait()
            if what == "slow":
                await asyncio.sleep(SLOW)
            return what

    def state(self, run: str) -> str:
        return self.store.runs[run].row.state

    def over(self, *runs: str) -> bool:
        return all(self.state(each) in {"stuck", "completed"} for each in runs)

    async def live(self, processes: AsyncExitStack, *starts: str) -> Orchestrator:
        """Another process, which owns the log from here on."""
        self.died.clear()
        orchestrator = Orchestrator([self.saga], log=MemoryLog(self.store), clock=Clock(), grace=0)
        runs = await processes.enter_async_context(orchestrator)
        for each in starts:
            await runs.start(self.saga, each.partition("-")[0], id=each)
        return runs

    async def lives(self, processes: AsyncExitStack, *awaited: str) -> Orchestrator:
        """One process after the other, until all of these runs are over."""
        for _ in range(LIVES_MAX):
            runs = await self.live(processes)
            await until(lambda: self.died.is_set() or self.over(*awaited))
            if not self.died.is_set():
                return runs
        raise AssertionError(f"{self.deaths} deaths, and no end: {[(each, self.state(each)) for each in awaited]}")


def test_a_step_that_ends_its_process_is_set_aside_and_its_neighbours_end() -> None:
    async def test() -> None:
        deadly = Deadly()
        async with AsyncExitStack() as processes:
            await deadly.live(processes, "poison", "good-1", "good-2", "good-3")
            await deadly.died.wait()
            runs = await deadly.lives(processes, "poison", "good-1", "good-2", "good-3")
            assert deadly.state("poison") == "stuck"
            assert {deadly.state(f"good-{n}") for n in (1, 2, 3)} == {"completed"}
            assert deadly.deaths == CLAIMS_MAX
            deadly.healed = True
            await runs.retry("poison", reason="more memory")
            assert isinstance(await runs.get("poison").outcome(), Completed)

    virtually(test)


def test_a_person_who_asks_for_it_again_gives_it_as_many_chances_as_before() -> None:
    async def test() -> None:
        deadly = Deadly()
        async with AsyncExitStack() as processes:
            await deadly.live(processes, "poison")
            await deadly.died.wait()
            runs = await deadly.lives(processes, "poison")
            before = deadly.deaths
            await runs.retry("poison", reason="perhaps")
            await deadly.died.wait()
            await deadly.lives(processes, "poison")
            assert deadly.state("poison") == "stuck"
            assert deadly.deaths == 2 * before

    virtually(test)


def test_a_neighbour_that_works_for_long_is_not_set_aside_for_the_deaths_of_another() -> None:
    """It is at work, too, whenever the process dies: but it was held for a while without harm before."""

    async def test() -> None:
        deadly = Deadly()
        async with AsyncExitStack() as processes:
            await deadly.live(processes, "slow", "poison")
            await deadly.died.wait()
            began = seconds()
            runs = await deadly.lives(processes, "poison")
            assert deadly.state("poison") == "stuck"
            assert deadly.tried.count("slow") > SUSPECT_CLAIMS, "it was at work at several deaths"
            assert seconds() - began > CLEARED_SECONDS, "the poison waited for it"
            assert deadly.store.runs["slow"].row.claims < CLAIMS_MAX - 1
            assert isinstance(await runs.get("slow").outcome(), Completed)

    virtually(test)


def test_a_suspect_that_begins_an_attempt_stays_the_only_one() -> None:
    """That the attempt began is written, and is no news of how it goes on."""

    async def test() -> None:
        deadly = Deadly()
        async with AsyncExitStack() as processes:
            await deadly.live(processes, "slow-1", "slow-2")
            for life, tried in ((1, 4), (2, 5), (3, 6)):
                await until(lambda: len(deadly.tried) >= 2 and not deadly.died.is_set())
                await deadly.live(processes)
                await asyncio.sleep(CLEARED_SECONDS / 2)
                assert len(deadly.tried) == tried, f"life {life}"

    virtually(test)
