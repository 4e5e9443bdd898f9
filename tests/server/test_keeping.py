"""What ended long ago is forgotten where the settings say so; what hasn't ended, or ended lately, stays."""

import asyncio

from typing_extensions import override

from amends import Orchestrator
from amends.config.settings import Settings
from amends.core.retry import MICROSECONDS
from amends.logs.memory import MemoryLog
from amends.ports.clock import SystemClock
from amends.server.keeping import SLICE, Keeping
from tests.server.processes import SECONDS
from tests.server.sagas import quick, waits


class Later(SystemClock):
    """An hour on."""

    @override
    def now(self) -> int:
        return super().now() + 3_600 * MICROSECONDS


class Purged(MemoryLog):
    """Tells when nothing more was found."""

    def __init__(self) -> None:
        super().__init__()
        self.looked = asyncio.Event()
        self.asked = 0

    @override
    async def purge(self, ended_before: int, limit: int) -> int:
        found = await super().purge(ended_before, limit)
        self.asked += 1
        if found < limit:
            self.looked.set()
        return found


async def kept(keep_seconds: float | None) -> tuple[list[str], int]:
    """The runs whose history is still there, and how often the log was asked to forget."""
    log = Purged()
    async with Orchestrator([quick, waits], log=log) as runs:
        await runs.start(waits, 1_000, id="waits")
        for number in range(SLICE + 5):
            await (await runs.start(quick, "yes", id=f"q-{number}")).outcome()
        async with Keeping(log, keep_seconds, Later()):
            if keep_seconds is not None:
                async with asyncio.timeout(SECONDS):
                    await log.looked.wait()
        rows = [await log.read(run) for run in ("waits", "q-0", f"q-{SLICE + 4}")]
    return [row.run for row in rows if row is not None and row.events], log.asked


async def test_what_ended_long_ago_is_forgotten_slice_by_slice() -> None:
    assert await kept(1_800) == (["waits"], 2)


async def test_what_ended_lately_is_kept() -> None:
    assert await kept(7_200) == (["waits", "q-0", f"q-{SLICE + 4}"], 1)


async def test_nothing_is_forgotten_unless_somebody_says_so() -> None:
    assert await kept(Settings().privacy.keep) == (["waits", "q-0", f"q-{SLICE + 4}"], 0)
