"""What ended long ago is forgotten where the settings say so; what hasn't ended, or ended lately, stays."""

import asyncio
from collections.abc import Mapping

import pytest
from typing_extensions import override

from amends import Orchestrator
from amends.config.settings import Settings
from amends.core.words.retry import MICROSECONDS
from amends.logs.memory import MemoryLog
from amends.ports.clock import SystemClock
from amends.server.retention import SLICE, Keeping
from tests.fast.server.processes import SECONDS
from tests.fast.server.sagas import quick, waits


class Later(SystemClock):
    """An hour on."""

    @override
    def now(self) -> int:
        return super().now() + 3_600 * MICROSECONDS


class Purged(MemoryLog):
    """Tells when nothing more was found in any of so many states."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.looked = asyncio.Event()
        self.asked = 0
        self._left = states

    @override
    async def purge(self, ended_before: int, limit: int, state: str | None = None) -> int:
        found = await super().purge(ended_before, limit, state)
        self.asked += 1
        self._left -= found < limit
        if not self._left:
            self.looked.set()
        return found


async def kept(keep: Mapping[str, float]) -> tuple[list[str], int]:
    """The runs whose history is still there, and how often the log was asked to forget."""
    log = Purged(len(keep))
    async with Orchestrator([quick, waits], log=log) as runs:
        await runs.start(waits, 1_000, id="waits")
        await (await runs.start(quick, "no", id="turned-back")).outcome()
        for number in range(SLICE + 5):
            await (await runs.start(quick, "yes", id=f"q-{number}")).outcome()
        async with Keeping(log, keep, Later()):
            if keep:
                async with asyncio.timeout(SECONDS):
                    await log.looked.wait()
        rows = [await log.read(run) for run in ("waits", "turned-back", "q-0", f"q-{SLICE + 4}")]
    return [row.run for row in rows if row is not None and row.events], log.asked


async def test_what_ended_long_ago_is_forgotten_slice_by_slice() -> None:
    assert await kept({"completed": 1_800}) == (["waits", "turned-back"], 2)


async def test_what_is_deleted_is_said_before_the_first_of_it_goes(caplog: pytest.LogCaptureFixture) -> None:
    await kept({"completed": 1_800, "compensated": 7_200})
    (said,) = [each.getMessage() for each in caplog.records if "purged" in each.getMessage()]
    assert said == f"ended runs are purged after: completed 30m, compensated 2h; {SLICE + 5} runs are due now"


async def test_each_end_has_its_own_time() -> None:
    assert await kept({"completed": 7_200, "compensated": 1_800}) == (["waits", "q-0", f"q-{SLICE + 4}"], 2)


async def test_what_ended_lately_is_kept() -> None:
    assert await kept({"completed": 7_200}) == (["waits", "turned-back", "q-0", f"q-{SLICE + 4}"], 1)


async def test_nothing_is_forgotten_unless_somebody_says_so() -> None:
    assert await kept(Settings().privacy.keep) == (["waits", "turned-back", "q-0", f"q-{SLICE + 4}"], 0)
