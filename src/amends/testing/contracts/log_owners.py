"""The part of the suite for logs that is about owners: claiming runs, and letting go of them."""

from dataclasses import replace

import pytest

from amends.ports.log import Exonerating, Find, TransactionLog
from amends.testing.contracts.log_base import LogBase, Opener
from amends.testing.contracts.log_entries import ORDERS, TRIPS, append, must_read, row, start, write


@pytest.mark.asyncio
class OwnersContract(LogBase):
    """See the module."""

    async def test_runs_of_a_worker_that_is_gone_are_claimed(self, log: TransactionLog, opener: Opener) -> None:
        """Due or not, with their events and a higher epoch, once; each such claim is counted."""
        await write(log, start("a"), start("b", shown=row(due_at=99_000)))
        former = (await must_read(log, "a")).owner
        log = await self.reopened(log, opener)
        claimed = await log.claim([ORDERS], now=2_000, limit=10)
        assert {(run.run, run.epoch, run.version, run.claims) for run in claimed} == {("a", 2, 1, 1), ("b", 2, 1, 1)}
        assert [[event.kind for event in run.events] for run in claimed] == [["RunStarted"]] * 2
        assert former not in {run.owner for run in claimed}
        assert list(claimed) == [await must_read(log, run.run) for run in claimed]
        assert list(await log.claim([ORDERS], now=2_000, limit=10)) == []
        log = await self.reopened(log, opener)
        assert {(run.epoch, run.claims) for run in await log.claim([ORDERS], now=2_000, limit=10)} == {(3, 2)}
        await log.close()

    @pytest.mark.parametrize("together", [False, True])
    async def test_progress_alone_ends_the_count_of_claims(
        self, log: TransactionLog, opener: Opener, *, together: bool
    ) -> None:
        """Written alone or in a batch. An attempt that began may be what the owner dies of."""
        runs, version = ("ab" if together else "a"), 1
        await write(log, *map(start, runs))
        for writer in (None, 3):
            log = await self.reopened(log, opener)
            await log.claim([ORDERS], now=0, limit=10)
            for progress, left in ((False, 1), (True, 0)):
                entries = [append(run, version, epoch=writer, progress=progress, number=version + 1) for run in runs]
                await write(log, *entries)
                assert {(await must_read(log, run)).claims for run in runs} == {left}
                version += 1
        await log.close()

    async def test_a_suspect_whose_owner_lived_is_counted_anew_but_stays_a_suspect(
        self, log: TransactionLog, opener: Opener
    ) -> None:
        """Only under the epoch in which it was claimed, and only by a log that can say so."""
        if not isinstance(log, Exonerating):
            pytest.skip("each death counts against each suspect here")

        async def after(log: TransactionLog, run: str, epoch: int) -> list[int]:
            assert isinstance(log, Exonerating)
            await log.exonerate(run, epoch)
            return [(await must_read(log, each)).claims for each in "ab"]

        await write(log, start("a"), start("b"))
        current: TransactionLog = log
        for epoch in (2, 3, 4):
            current = await self.reopened(current, opener)
            assert {run.epoch for run in await current.claim([ORDERS], now=0, limit=10)} == {epoch}
        assert await after(current, "a", 3) == [3, 3]
        assert await after(current, "a", 4) == [1, 3]
        assert await after(current, "nobody's", 4) == [1, 3]
        assert await after(current, "a", 4) == [1, 3]
        current = await self.reopened(current, opener)
        assert await after(current, "b", 4) == [1, 3]
        await current.close()

    async def test_only_what_is_due_is_claimed_most_overdue_first(self, log: TransactionLog) -> None:
        """Up to the limit; runs that have an owner stay with it."""
        for run, due_at in (("late", 100), ("later", 300), ("latest", 200), ("soon", 9_000), ("never", None)):
            await write(log, start(run, owned=False, shown=row(due_at=due_at)))
        await write(log, start("ours", shown=row(due_at=1)))
        assert await log.next_due() == 100
        assert [run.run for run in await log.claim([ORDERS], now=300, limit=2)] == ["late", "latest"]
        assert await log.next_due() == 300
        assert [run.run for run in await log.claim([ORDERS], now=300, limit=2)] == ["later"]
        assert await log.next_due() == 9_000
        assert list(await log.claim([ORDERS], now=8_999, limit=2)) == []

    async def test_what_is_most_overdue_is_claimed_first_whichever_saga_it_is_of(self, log: TransactionLog) -> None:
        """Of all that are known, and at once due means due."""
        sagas = (ORDERS, TRIPS, replace(ORDERS, version=2), replace(ORDERS, digest="d9"))
        for due_at in range(12):
            await write(log, start(f"r{due_at}", saga=sagas[due_at % 4], owned=False, shown=row(due_at=due_at)))
        known = [sagas[3], sagas[1], sagas[0]]
        assert await log.next_due(known) == 0
        assert [run.run for run in await log.claim(known, now=9, limit=4)] == ["r0", "r1", "r3", "r4"]
        assert await log.next_due(known) == 5
        assert [run.run for run in await log.claim(known, now=9, limit=9)] == ["r5", "r7", "r8", "r9"]
        assert await log.next_due(known) == 11
        assert await log.next_due() == 2

    async def test_orphans_that_are_due_come_before_those_that_wait(self, log: TransactionLog, opener: Opener) -> None:
        """Without a due time: last."""
        await write(log, start("waits"), start("second", shown=row(due_at=200)), start("first", shown=row(due_at=100)))
        await write(log, start("nobody's", owned=False, shown=row(due_at=150)))
        log = await self.reopened(log, opener)
        claimed = await log.claim([ORDERS], now=1_000, limit=10)
        assert [run.run for run in claimed] == ["first", "nobody's", "second", "waits"]
        await log.close()

    async def test_only_known_sagas_are_claimed(self, log: TransactionLog, opener: Opener) -> None:
        """Name, version and digest must all be loaded."""
        await write(log, start("a"), start("b", saga=TRIPS), start("c", saga=replace(ORDERS, version=2)))
        await write(log, start("d", saga=replace(ORDERS, digest="d9")))
        await write(log, start("e", saga=TRIPS, owned=False, shown=row(due_at=1)))
        log = await self.reopened(log, opener)
        assert list(await log.claim([], now=9_000, limit=10)) == []
        assert await log.next_due() == 1
        assert [await log.next_due([saga]) for saga in (ORDERS, TRIPS)] == [None, 1]
        assert await log.next_due([]) is None
        assert [run.run for run in await log.claim([ORDERS], now=9_000, limit=10)] == ["a"]
        assert {run.run for run in await log.claim([ORDERS, TRIPS], now=9_000, limit=10)} == {"b", "e"}
        await log.close()

    async def test_a_run_let_go_can_be_claimed_when_it_is_due(self, log: TransactionLog) -> None:
        """By the same worker too, under a new epoch; that is no takeover, so it isn't counted."""
        await write(log, start("a"))
        assert await log.release("a", epoch=1, version=1, due_at=3_000)
        assert (await must_read(log, "a")).owner is None
        assert await log.next_due() == 3_000
        assert list(await log.claim([ORDERS], now=2_999, limit=10)) == []
        assert [(run.epoch, run.claims) for run in await log.claim([ORDERS], now=3_000, limit=10)] == [(2, 0)]

    async def test_an_append_can_let_go(self, log: TransactionLog) -> None:
        """In the same act."""
        await write(log, start("a"), start("b"))
        await write(log, append("a", 1, shown=row("completed", ended_at=2_000), release=True))
        await write(log, append("b", 1, shown=row(due_at=3_000), release=True))
        assert [(await must_read(log, run)).owner for run in "ab"] == [None, None]
        assert [run.run for run in await log.claim([ORDERS], now=9_000, limit=10)] == ["b"]

    async def test_letting_go_is_refused_after_a_visit(self, log: TransactionLog) -> None:
        """Or the visit would be slept through."""
        await write(log, start("a"))
        await write(log, append("a", 1, epoch=None))
        before = await must_read(log, "a")
        assert not await log.release("a", epoch=1, version=1, due_at=None)
        assert not await log.release("a", epoch=2, version=2, due_at=None)
        assert not await log.release("b", epoch=1, version=1, due_at=None)
        assert await must_read(log, "a") == before
        assert await log.release("a", epoch=1, version=2, due_at=None)
        assert not await log.release("a", epoch=1, version=2, due_at=None)

    async def test_closing_hands_every_run_over(self, log: TransactionLog, opener: Opener) -> None:
        """Others claim what is due at once; no run is suspected, however often that happens."""
        await write(log, start("a", shown=row(due_at=100)), start("later", shown=row(due_at=9_000)), start("waits"))
        for epoch in (2, 3):
            await log.close()
            log = opener()
            await log.open()
            assert {(await must_read(log, run)).owner for run in ("a", "later", "waits")} == {None}
            claimed = await log.claim([ORDERS], now=1_000, limit=10)
            assert [(run.run, run.epoch, run.claims) for run in claimed] == [("a", epoch, 0)]
        await log.close()

    async def test_letting_go_ends_the_count_of_claims(self, log: TransactionLog, opener: Opener) -> None:
        """Its owner lived through it."""
        await write(log, start("a"))
        log = await self.reopened(log, opener)
        (claimed,) = await log.claim([ORDERS], now=0, limit=10)
        assert claimed.claims == 1
        assert await log.release("a", epoch=claimed.epoch, version=1, due_at=None)
        assert (await must_read(log, "a")).claims == 0
        await log.close()

    async def test_closing_ends_the_count_of_claims(self, log: TransactionLog, opener: Opener) -> None:
        """In good order no worker was harmed."""
        await write(log, start("a"))
        log = await self.reopened(log, opener)
        assert [run.claims for run in await log.claim([ORDERS], now=0, limit=10)] == [1]
        await log.close()
        log = opener()
        await log.open()
        found = await must_read(log, "a")
        assert (found.owner, found.claims) == (None, 0)
        await log.close()

    async def test_of_runs_taken_over_before_only_so_many_are_claimed(
        self, log: TransactionLog, opener: Opener
    ) -> None:
        """The others as ever: one that kills its owner must not take them along."""
        await write(log, *(start(run, shown=row(due_at=number)) for number, run in enumerate(("a", "b", "c"))))
        log = await self.reopened(log, opener)
        assert len(await log.claim([ORDERS], now=9_000, limit=10, suspects=0)) == 3
        await write(log, append("b", 1, epoch=2), start("d", number=2))
        log = await self.reopened(log, opener)
        assert [run.run for run in await log.claim([ORDERS], now=9_000, limit=10, suspects=0)] == ["b", "d"]
        assert [run.run for run in await log.claim([ORDERS], now=9_000, limit=10, suspects=1)] == ["a"]
        log = await self.reopened(log, opener)
        assert [run.run for run in await log.claim([ORDERS], now=9_000, limit=10, suspects=1)] == ["c"]
        assert {run.run for run in await log.claim([ORDERS], now=9_000, limit=10, suspects=2)} == {"b", "d"}
        assert [(run.run, run.claims) for run in await log.claim([ORDERS], now=9_000, limit=10)] == [("a", 3)]
        await log.close()

    async def test_nothing_is_due_in_an_empty_log(self, log: TransactionLog) -> None:
        """Nor found, nor counted."""
        assert await log.next_due() is None
        assert await log.next_due([ORDERS]) is None
        assert list(await log.claim([ORDERS], now=9_000, limit=10)) == []
        assert list(await log.find(Find())) == []
        assert dict(await log.count()) == {}
