"""What every transaction log keeps: run this suite on yours.

A subclass gives the fixture `opener`, which makes a new, unopened worker on the same data each time it is called:

```python
class TestMyLog(LogContract):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda: MyLog(tmp_path / "my.log")
```

and says how a worker dies without a farewell (`die`). Only one worker is open at a time; the next one finds the former
gone.
"""

import asyncio
from dataclasses import replace

import pytest

from amends.core.words.errors import LogUnavailable
from amends.ports.log import Append, Find, RunRow, Start, StoredEvent, StoredRun, TransactionLog, Written
from amends.testing.contracts.log_base import Opener
from amends.testing.contracts.log_entries import ORDERS, TRIPS, append, must_read, row, start, write
from amends.testing.contracts.log_finding import FindingContract
from amends.testing.contracts.log_owners import OwnersContract

BIG_BYTES = 2**20
"""As large as a request or a reply may be."""


@pytest.mark.asyncio
class LogContract(OwnersContract, FindingContract):
    """The suite. See the module."""

    # -- starting

    async def test_a_run_is_read_as_it_was_written(self, log: TransactionLog) -> None:
        """Every field comes back, row and events."""
        shown = RunRow(
            state="stuck",
            by_hand=True,
            due_at=5_000,
            current=b'["charge"]',
            steps=b'[{"name":"charge","kind":"pivot","state":"unknown","attempts":3,"error":"timed out"}]',
            stuck=b'[{"step":"charge","phase":"action","reason":"outcome-unknown","attempts":3,"since":900}]',
            ended_at=7_000,
        )
        facts = (StoredEvent("RunStarted", b'{"input":{"a":1}}', 1, 900), StoredEvent("Marked", b"{}", 0, 901))
        entry = replace(start("a"), deadline=9_000, tags={"customer": "ann", "shop": "7"}, events=facts, row=shown)
        await write(log, entry)
        found = await must_read(log, "a")
        assert found == StoredRun(
            run="a",
            saga="place-order",
            saga_version=1,
            digest="d1",
            state="stuck",
            by_hand=True,
            version=2,
            owner=found.owner,
            epoch=1,
            due_at=5_000,
            claims=0,
            start_print=b"print of a",
            current=shown.current,
            steps=shown.steps,
            stuck=shown.stuck,
            deadline=9_000,
            tags={"customer": "ann", "shop": "7"},
            created_at=1_000,
            updated_at=1_000,
            ended_at=7_000,
            events=facts,
        )
        assert found.owner is not None
        assert await log.read_row("a") == replace(found, events=())

    async def test_an_append_writes_the_row_anew(self, log: TransactionLog) -> None:
        """What the append says is what the row shows."""
        await write(log, start("a", tags={"customer": "ann"}))
        await write(log, append("a", 1, shown=row("completed", due_at=None, ended_at=2_000), kinds=("One", "Two")))
        found = await must_read(log, "a")
        assert (found.state, found.version, found.updated_at, found.ended_at) == ("completed", 3, 2_000, 2_000)
        assert (found.created_at, found.tags, found.start_print) == (1_000, {"customer": "ann"}, b"print of a")

    @pytest.mark.parametrize("epoch", [1, None], ids=["the owner's", "a visitor's"])
    async def test_an_append_changes_all_that_the_row_shows(self, log: TransactionLog, epoch: int | None) -> None:
        """The run's state, whether an operator helped, its steps: an append says all of it anew, and nothing of it is
        left over.
        """
        shown = RunRow("stuck", True, 2_000, b'["x"]', b'[{"name":"x"}]', b'[{"step":"x"}]', 2_500)  # noqa: FBT003 - as the port has it
        await write(log, start("a"))
        await write(log, append("a", 1, epoch=epoch, at=2_000, shown=shown))
        found = await must_read(log, "a")
        assert (
            RunRow(found.state, found.by_hand, found.due_at, found.current, found.steps, found.stuck, found.ended_at)
            == shown
        )
        assert found.updated_at == 2_000

    @pytest.mark.parametrize(
        ("was", "says", "due_at"),
        [(9_000, 2_000, 2_000), (500, 9_000, 9_000), (9_000, 5_000, 5_000), (500, None, None), (None, 700, 700)],
    )
    async def test_an_owners_append_says_when_the_run_is_due(
        self, log: TransactionLog, was: int | None, says: int | None, due_at: int | None
    ) -> None:
        """Sooner or later than it was."""
        await write(log, start("a", shown=row(due_at=was)))
        await write(log, append("a", 1, at=2_000, shown=row(due_at=says)))
        assert (await must_read(log, "a")).due_at == due_at

    async def test_a_start_that_is_refused_leaves_no_tags(self, log: TransactionLog) -> None:
        """The run isn't found by what another wanted it to be found by, nor twice by what it has."""
        await write(log, start("a", tags={"customer": "ann"}))
        assert await log.append([start("a", number=7, tags={"customer": "bob"})]) == [Written.EXISTS]
        assert await log.append([start("a", tags={"customer": "ann"})]) == [Written.ACCEPTED]
        assert list(await log.find(Find(tags={"customer": "bob"}))) == []
        assert [run.run for run in await log.find(Find(tags={"customer": "ann"}))] == ["a"]

    async def test_starting_twice_is_starting_once(self, log: TransactionLog) -> None:
        """The same append is accepted again; another one finds the id taken, and neither changes anything."""
        await write(log, start("a"))
        before = await must_read(log, "a")
        other = replace(start("a", number=7, saga=TRIPS), start_print=b"other")
        assert await log.append([start("a")]) == [Written.ACCEPTED]
        assert await log.append([other]) == [Written.EXISTS]
        assert await must_read(log, "a") == before

    async def test_a_start_repeated_after_the_run_went_on_is_accepted(self, log: TransactionLog) -> None:
        """Its answer was lost, and a visitor was quicker than the repeat."""
        await write(log, start("a"))
        await write(log, append("a", 1, epoch=None))
        assert await log.append([start("a")]) == [Written.ACCEPTED]
        assert (await must_read(log, "a")).version == 2

    async def test_a_run_can_be_started_for_others(self, log: TransactionLog) -> None:
        """Without an owner it waits to be claimed."""
        await write(log, start("a", owned=False, shown=row(due_at=1_000)))
        assert (await must_read(log, "a")).owner is None
        claimed = await log.claim([ORDERS], now=1_000, limit=10)
        assert [(run.run, run.epoch, run.claims) for run in claimed] == [("a", 2, 0)]

    async def test_an_id_is_never_free_again(self, log: TransactionLog, opener: Opener) -> None:
        """Not after the end, not after reopening, not after a purge."""
        await write(log, start("a"))
        await write(log, append("a", 1, shown=row("completed", ended_at=2_000), release=True))
        assert await log.append([start("a", number=8)]) == [Written.EXISTS]
        log = await self.reopened(log, opener)
        assert await log.append([start("a", number=8)]) == [Written.EXISTS]
        assert await log.purge(ended_before=3_000, limit=10) == 1
        assert await log.append([start("a", number=8)]) == [Written.EXISTS]
        await log.close()

    # -- appending

    async def test_events_are_in_the_order_of_their_appends(self, log: TransactionLog) -> None:
        """And can be read from any version on."""
        await write(log, start("a"), start("other"))
        await write(log, append("a", 1, kinds=("B", "C"), number=2), append("other", 1, kinds=("X", "Y", "Z")))
        await write(log, append("a", 3, kinds=("D",), number=3))
        assert [event.kind for event in (await must_read(log, "a")).events] == ["RunStarted", "B", "C", "D"]
        assert [event.kind for event in await log.read_events("a", after=2)] == ["C", "D"]
        assert list(await log.read_events("a", after=4)) == []

    async def test_an_append_to_another_version_is_refused(self, log: TransactionLog) -> None:
        """Another process wrote meanwhile: the owner is told to decide again."""
        await write(log, start("a"))
        await write(log, append("a", 1, epoch=None, number=2))
        before = await must_read(log, "a")
        assert await log.append([append("a", 1, number=3)]) == [Written.MOVED_ON]
        assert await log.append([append("a", 5, number=3)]) == [Written.MOVED_ON]
        assert await log.append([append("a", 1, epoch=None, number=3)]) == [Written.MOVED_ON]
        assert await must_read(log, "a") == before

    async def test_an_append_under_another_epoch_is_refused(self, log: TransactionLog) -> None:
        """Neither an older nor a newer one will do."""
        await write(log, start("a"))
        before = await must_read(log, "a")
        assert await log.append([append("a", 1, epoch=0)]) == [Written.NOT_YOURS]
        assert await log.append([append("a", 1, epoch=2)]) == [Written.NOT_YOURS]
        assert await must_read(log, "a") == before

    async def test_an_append_to_a_run_of_another_owner_is_refused(self, log: TransactionLog, opener: Opener) -> None:
        """The right epoch and version aren't enough; after the claim, the former epoch isn't either."""
        await write(log, start("a"))
        log = await self.reopened(log, opener)
        assert await log.append([append("a", 1)]) == [Written.NOT_YOURS]
        (claimed,) = await log.claim([ORDERS], now=0, limit=10)
        assert await log.append([append("a", 1, epoch=1)]) == [Written.NOT_YOURS]
        assert await log.append([append("a", 1, epoch=claimed.epoch)]) == [Written.ACCEPTED]
        await log.close()

    async def test_an_append_to_a_run_that_was_let_go_is_refused(self, log: TransactionLog) -> None:
        """Without an owner only visitors write."""
        await write(log, start("a"))
        assert await log.release("a", epoch=1, version=1, due_at=None)
        assert await log.append([append("a", 1)]) == [Written.NOT_YOURS]
        await write(log, append("a", 1, epoch=None))

    async def test_an_append_to_no_run(self, log: TransactionLog) -> None:
        """There is no such run, and there is none afterwards."""
        assert await log.append([append("a", 0), append("b", 1, epoch=None)]) == [Written.NO_SUCH_RUN] * 2
        assert await log.read("a") is None
        assert await log.read_row("b") is None
        assert list(await log.read_events("a", after=0)) == []

    async def test_the_same_append_again_is_accepted_and_changes_nothing(self, log: TransactionLog) -> None:
        """Also when a visitor has written since, or it let go of the run."""
        await write(log, start("a"), start("b"))
        first = append("a", 1, kinds=("One", "Two"), number=2)
        last = append("b", 1, release=True, shown=row("completed", ended_at=2_000), number=3)
        await write(log, first, last)
        await write(log, append("a", 3, epoch=None, number=4))
        before = [await must_read(log, run) for run in "ab"]
        assert await log.append([first, last]) == [Written.ACCEPTED] * 2
        assert [await must_read(log, run) for run in "ab"] == before

    async def test_the_same_append_again_is_recognised_after_adoption(
        self, log: TransactionLog, opener: Opener
    ) -> None:
        """It did commit, so it is no lie to say so, whichever worker owns the run by now."""
        await write(log, start("a"))
        await write(log, append("a", 1, number=2))
        log = await self.reopened(log, opener)
        await log.claim([ORDERS], now=0, limit=10)
        assert await log.append([append("a", 1, number=2)]) == [Written.ACCEPTED]
        assert (await must_read(log, "a")).version == 2
        await log.close()

    async def test_a_refused_entry_leaves_the_others_of_its_batch_alone(self, log: TransactionLog) -> None:
        """One verdict each, in order."""
        await write(log, start("a"), start("b"), start("c"))
        await write(log, start("f"))
        judged: list[tuple[Start | Append, Written]] = [
            (append("a", 1, number=5), Written.ACCEPTED),
            (append("b", 9, number=5), Written.MOVED_ON),
            (append("no", 1, number=5), Written.NO_SUCH_RUN),
            (start("d", number=5), Written.ACCEPTED),
            (append("c", 1, epoch=4, number=5), Written.NOT_YOURS),
            (start("f", number=5), Written.EXISTS),
            (start("e", number=5), Written.ACCEPTED),
        ]
        assert list(await log.append([entry for entry, _ in judged])) == [verdict for _, verdict in judged]
        found = [await must_read(log, run) for run in "abcdef"]
        assert [run.version for run in found] == [2, 1, 1, 1, 1, 1]
        assert [len(run.events) for run in found] == [2, 1, 1, 1, 1, 1]

    async def test_an_empty_batch_is_nothing(self, log: TransactionLog) -> None:
        """No entries, no verdicts."""
        assert list(await log.append([])) == []

    async def test_of_many_visitors_at_once_one_wins(self, log: TransactionLog) -> None:
        """One version, one winner; the others decide again."""
        await write(log, start("a"))
        tried = [log.append([append("a", 1, epoch=None, number=n)]) for n in range(10, 30)]
        verdicts = [verdict for (verdict,) in await asyncio.gather(*tried)]
        assert sorted(verdicts) == [Written.ACCEPTED] + [Written.MOVED_ON] * 19
        assert (await must_read(log, "a")).version == 2

    async def test_bodies_come_back_byte_for_byte(self, log: TransactionLog) -> None:
        """However large, in whatever letters, with whatever spaces."""
        bodies = [
            b'"' + b"x" * BIG_BYTES + b'"',
            '{"name":"Жанна 🦀 \\u0000", "nul":"\x00"}'.encode(),
            b'{ "b" : 1,\n "a":1.50 }',
            b"",
        ]
        facts = tuple(StoredEvent("Kept", body, 1, 1) for body in bodies)
        tags = {"Größe": "12 ½", "quote'\"": "%_\\"}
        await write(log, replace(start("a"), events=facts, tags=tags, start_print=bytes(range(32))))
        found = await must_read(log, "a")
        assert [event.body for event in found.events] == bodies
        assert found.tags == tags
        assert found.start_print == bytes(range(32))
        assert [run.run for run in await log.find(Find(tags=tags))] == ["a"]

    # -- visitors

    @pytest.mark.parametrize(
        ("was", "says", "due_at"),
        [(None, None, 2_000), (500, None, 500), (9_000, None, 2_000), (9_000, 700, 700), (None, 9_000, 2_000)],
    )
    async def test_a_visit_makes_the_run_due_at_once(
        self, log: TransactionLog, was: int | None, says: int | None, due_at: int
    ) -> None:
        """The earliest of what it was, what the row says, and now."""
        await write(log, start("a", shown=row(due_at=was)), start("b", owned=False, shown=row(due_at=was)))
        for run in ("a", "b"):
            await write(log, append(run, 1, epoch=None, at=2_000, shown=row("running", due_at=says)))
            assert (await must_read(log, run)).due_at == due_at

    async def test_a_visit_to_a_run_that_ended_wakes_nobody(self, log: TransactionLog) -> None:
        """Unless the visit says that something is owed."""
        await write(log, start("a"), start("b"))
        ended = row("compensated", ended_at=2_000)
        await write(log, append("a", 1, shown=ended, release=True), append("b", 1, shown=ended, release=True))
        await write(
            log, append("a", 2, epoch=None, shown=ended), append("b", 2, epoch=None, shown=replace(ended, due_at=2_500))
        )
        assert (await must_read(log, "a")).due_at is None
        assert (await must_read(log, "b")).due_at == 2_500

    async def test_a_visit_that_ends_a_run_is_seen_by_its_owner(self, log: TransactionLog) -> None:
        """It has the run in memory, and lets go of it only when it knows."""
        await write(log, start("a"))
        await write(log, append("a", 1, epoch=None, at=2_000, shown=row("compensated", ended_at=2_000)))
        assert list(await log.nudged(now=2_000)) == [("a", 2)]

    async def test_a_visit_leaves_the_owner_and_its_epoch(self, log: TransactionLog) -> None:
        """And nudges it: the run is due, under a higher version than the owner knows."""
        await write(log, start("a"), start("b"), start("c", shown=row(due_at=9_000)))
        before = await must_read(log, "a")
        assert list(await log.nudged(now=5_000)) == []
        await write(log, append("a", 1, epoch=None, release=True))
        after = await must_read(log, "a")
        assert (after.owner, after.epoch) == (before.owner, before.epoch)
        assert list(await log.nudged(now=5_000)) == [("a", 2)]
        await write(log, append("a", 2, number=3))
        assert list(await log.nudged(now=5_000)) == []

    async def test_nudges_are_for_runs_of_ours(self, log: TransactionLog, opener: Opener) -> None:
        """Not for runs without an owner, or with one that is gone."""
        await write(log, start("a", shown=row(due_at=1)), start("b", owned=False, shown=row(due_at=1)))
        assert list(await log.nudged(now=5_000)) == [("a", 1)]
        log = await self.reopened(log, opener)
        assert list(await log.nudged(now=5_000)) == []
        await log.close()

    async def test_nudges_are_for_what_is_due_by_now(self, log: TransactionLog) -> None:
        """The moment itself counts, in no order that is promised."""
        for run, due_at in (("a", 30), ("b", 10), ("c", None), ("d", 31)):
            await write(log, start(run, shown=row(due_at=due_at)))
        assert {run for run, _ in await log.nudged(now=30)} == {"a", "b"}

    # -- what is kept once

    async def test_a_setting_is_made_once(self, log: TransactionLog, opener: Opener) -> None:
        """The first caller makes it; all get the same."""
        values = await asyncio.gather(*(log.setting("secret", bytes([n, 0, 255])) for n in range(8)))
        assert len(set(values)) == 1
        assert await log.setting("other", b"") == b""
        log = await self.reopened(log, opener)
        assert await log.setting("secret", b"late") == values[0]
        await log.close()

    async def test_another_graph_for_the_same_version_is_a_conflict(self, log: TransactionLog, opener: Opener) -> None:
        """The first one stays, and is given back; beside it another is kept only if that is said."""
        changed = replace(ORDERS, digest="changed")
        assert await log.define(ORDERS, b'{"steps": ["\xc3\xa4"]}') is None
        assert await log.define(TRIPS, b"{}") is None
        assert await log.define(replace(ORDERS, version=2), b"[]") is None
        log = await self.reopened(log, opener)
        assert await log.define(ORDERS, b"not kept again") is None
        assert await log.define(changed, b"other") == b'{"steps": ["\xc3\xa4"]}'
        assert await log.graph(changed) is None
        assert await log.graph(ORDERS) == b'{"steps": ["\xc3\xa4"]}'
        assert await log.define(changed, b"other", beside=True) is None
        assert await log.define(changed, b"other") is None
        assert await log.define(ORDERS, b"first") is None
        assert await log.graph(changed) == b"other"
        await log.close()

    async def test_a_graph_is_that_of_one_name_version_and_digest(self, log: TransactionLog) -> None:
        """Known under another name or version it isn't known; of several others the newest is given back."""
        await log.define(ORDERS, b"first")
        await log.define(TRIPS, b"trip")
        await log.define(replace(ORDERS, version=3, digest="d3"), b"third")
        await log.define(replace(ORDERS, version=2, digest="d9"), b"second")
        for unknown in (replace(TRIPS, name="no"), replace(TRIPS, version=9), replace(TRIPS, digest="no")):
            assert await log.graph(unknown) is None
        for other in (replace(ORDERS, digest="d3"), replace(TRIPS, digest="d9")):
            assert await log.define(other, b"x") in {b"first", b"trip"}, "its digest is known, but not of it"
        assert await log.define(replace(ORDERS, digest="d5", version=3), b"x") == b"third"
        assert await log.define(replace(ORDERS, digest="d6"), b"newer", beside=True) is None
        assert await log.define(replace(ORDERS, digest="d7"), b"x") == b"newer"

    # -- ends

    async def test_what_was_accepted_is_there_when_the_log_is_opened_again(
        self, log: TransactionLog, opener: Opener
    ) -> None:
        """Rows and events alike."""
        await write(log, *(start(f"r{n}", tags={"n": str(n)}) for n in range(20)))
        await write(log, *(append(f"r{n}", 1, kinds=("One", "Two")) for n in range(20)))
        before = [await must_read(log, f"r{n}") for n in range(20)]
        log = await self.reopened(log, opener)
        assert [await must_read(log, f"r{n}") for n in range(20)] == before
        await log.close()

    async def test_a_purge_forgets_what_ended_long_ago(self, log: TransactionLog) -> None:
        """Not what ended since, is owned, is owed something, or goes on."""
        old = row("compensated", current=b'["x"]', ended_at=1_000)
        await write(
            log,
            start("a", owned=False, shown=old, tags={"customer": "ann"}),
            start("b", owned=False, shown=old),
            start("young", owned=False, shown=replace(old, ended_at=5_000)),
            start("owned", shown=old),
            start("owed", owned=False, shown=replace(old, due_at=9_000)),
            start("goes-on", owned=False),
        )
        kept = [await must_read(log, run) for run in ("young", "owned", "owed", "goes-on")]
        assert await log.purge(ended_before=5_000, limit=1) == 1
        assert await log.purge(ended_before=5_000, limit=10) == 1
        assert await log.purge(ended_before=5_000, limit=10) == 0
        assert [await must_read(log, run.run) for run in kept] == kept
        purged = await must_read(log, "a")
        assert (purged.start_print, purged.saga, purged.state, purged.ended_at) == (
            b"print of a",
            "place-order",
            "compensated",
            1_000,
        )
        assert (list(purged.events), dict(purged.tags), purged.current) == ([], {}, b"[]")
        assert list(await log.find(Find(tags={"customer": "ann"}))) == []
        assert await log.append([append("a", 1, epoch=None)]) == [Written.NO_SUCH_RUN]

    async def test_a_purge_may_be_of_one_state_alone(self, log: TransactionLog) -> None:
        """What ended otherwise stays, however old it is; what goes on stays in any case."""
        states = ("completed", "compensated", "abandoned", "completed")
        for number, state in enumerate(states):
            await write(log, start(f"r{number}", owned=False, shown=row(state, ended_at=1_000 + number)))
        await write(log, start("goes-on", owned=False))
        assert await log.purge(ended_before=5_000, limit=10, state="stuck") == 0
        assert await log.purge(ended_before=5_000, limit=1, state="completed") == 1
        assert await log.purge(ended_before=5_000, limit=10, state="completed") == 1
        assert await log.purge(ended_before=1_001, limit=10, state="compensated") == 0
        left = [run for run in ("r0", "r1", "r2", "r3", "goes-on") if (await must_read(log, run)).events]
        assert left == ["r1", "r2", "goes-on"]

    async def test_a_closed_log_does_nothing(self, log: TransactionLog) -> None:
        """And says so; closing it again is no mistake."""
        await write(log, start("a"))
        await log.close()
        await log.close()
        for refused in (
            log.append([start("b")]),
            log.read("a"),
            log.claim([ORDERS], 0, 1),
            log.find(Find()),
            log.setting("x", b""),
        ):
            with pytest.raises(LogUnavailable):
                await refused
