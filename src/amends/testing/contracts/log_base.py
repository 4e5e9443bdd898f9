"""What the suites for logs stand on: how a worker on the log is made, how it dies, and which worker comes after it."""

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from amends.ports.log import TransactionLog

Opener = Callable[[], TransactionLog]


class LogBase:
    """The fixtures. See `amends.testing.contracts.log`."""

    @pytest.fixture
    def opener(self) -> Opener:
        """Make workers on one log that is empty at first."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def log(self, opener: Opener) -> AsyncIterator[TransactionLog]:
        """An open log; a test may close it."""
        log = opener()
        await log.open()
        yield log
        await log.close()

    async def die(self, log: TransactionLog) -> None:
        """End this worker as a crash would: the log is told nothing, and finds it gone."""
        raise NotImplementedError

    async def reopened(self, log: TransactionLog, opener: Opener) -> TransactionLog:
        """The same data under the next worker, after the former one died."""
        await self.die(log)
        again = opener()
        await again.open()
        return again
