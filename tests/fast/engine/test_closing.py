"""Closing waits for no code of a step for longer than it was given, and says what is at work still."""

# pyright: reportPrivateUsage=false

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
from typing_extensions import override

from amends.core.saga.operation import blocking
from amends.core.saga.outcomes import Completed
from amends.core.saga.saga import Saga
from amends.core.words.errors import LogInUse
from amends.core.words.retry import Policy
from amends.engine.worker import CANCEL_SECONDS
from amends.logs.memory import MemoryLog, MemoryStore
from amends.orchestrator import Orchestrator, open_log
from amends.ports.log import Append, SagaKey, Start, StoredRun, WorkerLease, Written
from tests.fast.engine.support import Clock, Pretend, busy, opened, order_saga, seconds, until, virtually

GRACE = 7.0
PATIENT = Policy(timeout=timedelta(days=1))


class Deaf:
    """A saga with a step that goes on though it was cancelled."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.tried = 0
        self.heard = asyncio.Event()
        self.saga = saga = Saga("job", str)

        @saga.retriable(policy=PATIENT)
        async def work(what: str) -> str:
            self.tried += 1
            while not self.heard.is_set():
                try:
                    await self.heard.wait()
                except asyncio.CancelledError:
                    self.cancelled += 1
            return what


def test_a_step_that_bears_no_cancellation_holds_up_no_closing(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        deaf, store = Deaf(), MemoryStore()
        runs = Orchestrator([deaf.saga], log=MemoryLog(store), clock=Clock(), grace=GRACE)
        async with runs:
            await runs.start(deaf.saga, "a", id="r1")
            await until(lambda: deaf.tried == 1)
            began = seconds()
        assert GRACE <= seconds() - began <= GRACE + 2 * CANCEL_SECONDS
        assert deaf.cancelled == 1
        assert runs.outlasted == ["r1:work:action"]
        assert "r1:work:action" in next(each for each in caplog.messages if "still at work" in each)
        assert store.runs["r1"].row.owner is None, "handed over"
        deaf.heard.set()
        async with Orchestrator([deaf.saga], log=MemoryLog(store), clock=Clock()) as again:
            assert isinstance(await again.get("r1").outcome(), Completed)
        assert deaf.tried == 2

    with caplog.at_level(logging.WARNING):
        virtually(test)


def test_closing_names_nothing_where_nothing_is_at_work(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        saga = order_saga()
        shop = Pretend(lambda _: asyncio.sleep(10_000))  # type: ignore[arg-type,return-value] # never answers
        async with opened([saga], shop=shop) as runs:
            await runs.start(saga, "a")
            await until(lambda: shop.in_flight == 1)
        assert not runs.outlasted
        assert not shop.in_flight

    with caplog.at_level(logging.WARNING):
        virtually(test)
    assert not [each for each in caplog.messages if "still at work" in each]


async def test_a_log_is_nobody_elses_while_a_thread_of_a_step_is_at_work(tmp_path: Path) -> None:
    """Else another process would make the same call beside it."""
    saga, go, over, tried = Saga("job", str), Event(), [Event(), Event()], 0
    at_work: list[int] = []

    @saga.retriable(policy=PATIENT)
    @blocking
    def work(what: str) -> str:
        nonlocal tried
        tried += 1
        at_work.append(tried)
        assert len(at_work) == 1, "one at a time"
        over[tried - 1].set()
        go.wait(30)
        at_work.clear()
        return what

    url = f"sqlite:///{tmp_path}/log.db"
    log = open_log(url)
    first = Orchestrator([saga], log=log, grace=0)
    async with first:
        await first.start(saga, "a", id="r1")
        await asyncio.to_thread(over[0].wait, 30)
    assert first.outlasted == ["r1:work:action"]
    assert at_work, "it is closed, and the thread works on"
    for other in (url, log, url):
        with pytest.raises(LogInUse):
            async with Orchestrator([saga], log=other):
                pass
    go.set()
    async with asyncio.timeout(30):
        while True:
            try:
                async with Orchestrator([saga], log=url) as again:
                    assert isinstance(await again.get("r1").outcome(), Completed)
                break
            except LogInUse:
                await asyncio.sleep(0.001)
    assert tried == 2


class Leased(MemoryLog):
    """A log with a lease: this process may be declared gone, and is another worker then. Answers can be kept back."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        super().__init__(store)
        self.gone = False
        self.times_gone = 0
        self.keeps_back = ""
        self.kept_back = 0
        self.answer = asyncio.Event()

    @property
    @override
    def lease(self) -> WorkerLease:
        return self

    seconds = 3.0
    look_in = None

    async def renew(self) -> int | None:
        return None if self.gone else Clock().now()

    async def look(self) -> None:
        raise NotImplementedError

    async def begin_anew(self) -> None:
        await asyncio.sleep(1)
        self.times_gone += 1
        self.gone = False
        self._worker = self.store.live = f"anew-{self.times_gone}"

    def listen(self, heard: Callable[[], None]) -> None:
        """Nobody says anything here."""

    async def let_go_of_strays(self, held: Callable[[], Collection[str]], now: int) -> Sequence[str]:
        strays = [
            kept.row for run, kept in self.store.runs.items() if kept.row.owner == self._worker and run not in held()
        ]
        for row in strays:
            await self.release(row.run, row.epoch, row.version, now)
        return [row.run for row in strays]

    async def _keep_back(self, what: str) -> None:
        if self.keeps_back == what:
            self.keeps_back = ""
            self.kept_back += 1
            await self.answer.wait()

    @override
    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        verdicts = await super().append(batch)
        if any(isinstance(each, Start) for each in batch):
            await self._keep_back("start")
        return verdicts

    @override
    async def claim(
        self, known: Sequence[SagaKey], now: int, limit: int, *, suspects: int | None = None
    ) -> Sequence[StoredRun]:
        claimed = await super().claim(known, now, limit, suspects=suspects)
        if claimed:
            await self._keep_back("claim")
        return claimed


@pytest.mark.parametrize(("begins", "ends"), [("as one", "as another"), ("as one", "as none"), ("as none", "as none")])
def test_a_start_that_is_answered_after_the_worker_was_declared_gone_is_not_driven_by_it(
    begins: str, ends: str
) -> None:
    """It may be owned by the worker that is gone, and another one may have it by now. `as none`: while this process is
    no worker at all.
    """

    async def test() -> None:
        saga, log, shop = order_saga(), Leased(), Pretend()
        async with opened([saga], log, shop=shop) as runs:
            lease = runs.engine._lease
            assert lease is not None
            log.keeps_back = "start"
            log.gone = begins == "as none"
            await until(lambda: (lease.tenure is None) == (begins == "as none"))
            starting = asyncio.create_task(runs.start(saga, "a", id="r1"))
            await until(lambda: log.kept_back == 1)
            log.gone = not log.times_gone
            await until(lambda: lease.tenure is None if ends == "as none" else bool(log.times_gone))
            log.answer.set()
            run = await starting
            assert isinstance(await run.outcome(), Completed)
        assert log.times_gone == 1
        assert {each.epoch for each in shop.sent} == {2}

    virtually(test)


def test_a_claim_that_is_answered_after_the_worker_was_declared_gone_is_not_driven_by_it() -> None:
    async def test() -> None:
        saga, store = order_saga(), MemoryStore()
        async with opened([saga], MemoryLog(store), shop=Pretend(lambda _: busy("600"))) as runs:
            await runs.start(saga, "a", id="r1")
        log, shop = Leased(store), Pretend()
        log.keeps_back = "claim"
        async with opened([saga], log, shop=shop) as runs:
            await until(lambda: log.kept_back == 1)
            former = store.runs["r1"].row.epoch
            log.gone = True
            await until(lambda: bool(log.times_gone))
            log.answer.set()
            assert isinstance(await runs.get("r1").outcome(), Completed)
        assert {each.epoch for each in shop.sent} == {former + 1}

    virtually(test)
