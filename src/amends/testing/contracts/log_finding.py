"""The part of the suite for logs that is about questions: which runs there are, in pages, and how they stand."""

import os
from dataclasses import replace

import pytest

from amends.ports.log import Find, StoredRun, TransactionLog, WorkerState
from amends.testing.contracts.log_base import LogBase
from amends.testing.contracts.log_entries import ORDERS, TRIPS, append, must_read, row, start, write


@pytest.mark.asyncio
class FindingContract(LogBase):
    """See the module."""

    async def test_lists_are_paged_newest_first(self, log: TransactionLog) -> None:
        """By time of creation, then id: each run on one page, once."""
        await write(log, *(start(f"r{n:02}", at=1_000 + n // 3) for n in range(10)))
        seen: list[StoredRun] = []
        while page := await log.find(Find(limit=4, after=(seen[-1].created_at, seen[-1].run) if seen else None)):
            assert len(page) <= 4
            seen += page
        assert [run.run for run in seen] == [f"r{n:02}" for n in reversed(range(10))]
        assert not any(run.events for run in seen)

    @pytest.mark.parametrize(
        "question",
        [
            Find(states=["running"]),
            Find(saga="place-order", step="charge"),
            Find(tags={"customer": "ann"}),
            Find(tags={"shop": "1", "customer": "ann"}, states=["running", "stuck"]),
        ],
        ids=str,
    )
    async def test_pages_are_in_one_order_whatever_is_asked(self, log: TransactionLog, question: Find) -> None:
        """However the rows are found, and in whatever order they were written."""
        tags = {"customer": "ann", "shop": "1"}
        for number in (3, 1, 8, 0, 9, 2, 7, 5, 4, 6):
            at, shown = 1_000 + number // 3, row(current=b'["charge"]')
            await write(log, start(f"r{number}", at=at, tags=tags, shown=shown))
        seen: list[StoredRun] = []
        for size in (4, 4, 2, 0):
            after = (seen[-1].created_at, seen[-1].run) if seen else None
            page = await log.find(replace(question, limit=4, after=after))
            assert len(page) == size
            seen += page
        assert [run.run for run in seen] == [f"r{number}" for number in reversed(range(10))]

    async def test_runs_with_several_tags_are_found_by_all_of_them(self, log: TransactionLog) -> None:
        """Name and value of each, of this run: not of another that began at the same time."""
        for run, other in (("a", {"shop": "1"}), ("b", {"shop": "2"}), ("c", {"floor": "1"}), ("d", {})):
            await write(log, start(run, tags={"customer": "ann", **other}))
        found = await log.find(Find(tags={"customer": "ann", "shop": "1"}))
        assert [run.run for run in found] == ["a"]

    async def test_runs_are_found_by_what_is_asked(self, log: TransactionLog) -> None:
        """Each condition alone, and together."""
        mark = b'[{"step":"ship","phase":"action","reason":"spent","attempts":9,"since":5}]'
        await write(
            log,
            start("a", tags={"customer": "ann", "shop": "1"}, shown=row(current=b'["charge","reserve"]')),
            start("b", at=1_001, tags={"customer": "bob", "shop": "1"}, shown=row("stuck", stuck=mark)),
            start("c", at=1_002, saga=TRIPS, tags={"customer": "ann"}, shown=row("completed", ended_at=5)),
            start(
                "d", at=1_003, saga=replace(ORDERS, version=2), shown=row("stuck", stuck=mark, current=b'["charge"]')
            ),
        )

        async def found(question: Find) -> str:
            return "".join(run.run for run in await log.find(question))

        assert await found(Find()) == "dcba"
        assert await found(Find(states=["stuck"])) == "db"
        assert await found(Find(states=["running", "completed"])) == "ca"
        assert await found(Find(saga="place-order")) == "dba"
        assert await found(Find(saga="place-order", saga_version=1)) == "ba"
        assert await found(Find(tags={"customer": "ann"})) == "ca"
        assert await found(Find(tags={"customer": "ann", "shop": "1"})) == "a"
        assert await found(Find(tags={"customer": "1"})) == ""
        assert await found(Find(step="charge")) == "da"
        assert await found(Find(step="ship")) == "db"
        assert await found(Find(step="shi")) == ""
        assert await found(Find(states=["stuck"], saga="place-order", saga_version=2, step="ship")) == "d"
        assert await found(Find(states=["stuck"], step="ship", limit=1, after=(1_003, "d"))) == "b"

    async def test_a_step_left_open_or_stuck_is_found_in_ended_runs_as_well(self, log: TransactionLog) -> None:
        """A notice that wasn't delivered, a mark that was left when the run was abandoned."""
        mark = b'[{"step":"ship","phase":"action","reason":"spent","attempts":9,"since":5}]'
        ended = {
            "a": row("completed", ended_at=5, current=b'["notice"]'),
            "b": row("abandoned", ended_at=5, stuck=mark),
            "c": row("completed", ended_at=5),
            "d": row(current=b'["notice","ship"]'),
        }
        for run, shown in ended.items():
            await write(log, start(run, shown=shown))
        for states, step, found in (
            ([], "notice", "da"),
            ([], "ship", "db"),
            (["completed", "abandoned"], "notice", "a"),
            (["running", "abandoned"], "ship", "db"),
        ):
            runs = await log.find(Find(step=step, states=states))
            assert "".join(run.run for run in runs) == found

    async def test_what_no_run_can_have_is_asked_for_in_vain(self, log: TransactionLog) -> None:
        """A question that no row could answer is no error: what is asked for may come from any caller."""
        await write(log, start("r1", tags={"a": "b"}))
        odd = "b\0"
        asked = [Find(saga=odd), Find(step=odd), Find(tags={"a": odd}), Find(tags={odd: "b"}), Find(saga_version=2**40)]
        for question in asked:
            assert list(await log.find(question)) == []
        assert await log.read(odd) is None
        assert await log.read_row(odd) is None

    async def test_runs_are_counted_by_state(self, log: TransactionLog) -> None:
        """As the rows stand now."""
        await write(log, start("a"), start("b"), start("c"))
        await write(log, append("a", 1, shown=row("completed", ended_at=1)))
        assert dict(await log.count()) == {"running": 2, "completed": 1}

    async def test_live_runs_are_summed_up_by_graph_and_state(self, log: TransactionLog) -> None:
        """Those that have ended don't count; due are those without an owner; late are those past their deadline."""
        await write(
            log,
            start("a", at=9, deadline=20, shown=row(due_at=8)),
            start("b", at=5, owned=False, shown=row(due_at=1_001)),
            start("c", saga=TRIPS, at=7, shown=row(due_at=1_000), owned=False),
        )
        await write(log, start("d", at=1, shown=row("completed", ended_at=1), deadline=2))
        summed = {(each.saga.name, each.state, each.count, each.oldest) for each in await log.live()}
        assert summed == {(ORDERS.name, "running", 2, 5), (TRIPS.name, "running", 1, 7)}
        assert [await log.due(now) for now in (999, 1_000, 1_001)] == [0, 1, 2]
        assert [run.run for run in await log.find(Find(late_by=21))] == ["a"]
        assert list(await log.find(Find(late_by=20))) == []

    async def test_stuck_runs_are_summed_up_by_cause(self, log: TransactionLog) -> None:
        """Each once per cause, however many items have it; rows of older versions and unreadable ones, too."""
        spent = '{"step":"ship","phase":"action","reason":"spent","attempts":9,"since":5}'
        items = [f'{{"step":"pick/{n}","phase":"action","reason":"spent","attempts":9,"since":5}}' for n in "ab"]
        aside = '{"step":"","phase":"run","reason":"crash-loop","attempts":5,"since":5}'
        of_old = '{"step":null,"phase":null,"reason":"crash-loop","attempts":5,"since":5}'
        found = {"a": [spent], "b": [spent, *items], "c": [aside], "d": [of_old], "e": [], "f": ["7"]}
        await write(
            log,
            *(start(run, shown=row("stuck", stuck=f"[{','.join(each)}]".encode())) for run, each in found.items()),
            start("g", shown=row("stuck", stuck=b"{}"), saga=TRIPS),
            start("h", shown=row(stuck=f"[{spent}]".encode())),
        )
        summed = {(each.saga, each.step, each.phase, each.reason, each.count) for each in await log.stuck()}
        assert summed == {
            (ORDERS.name, "ship", "action", "spent", 2),
            (ORDERS.name, "pick", "action", "spent", 1),
            (ORDERS.name, "", "run", "crash-loop", 2),
            (ORDERS.name, "", "run", "unreadable", 2),
            (TRIPS.name, "", "run", "unreadable", 1),
        }

    async def test_late_runs_past_their_pivot_are_counted_by_saga(self, log: TransactionLog) -> None:
        """A pivot that is done, or a retriable that was begun; nothing else, and not in time, and not once it ended."""

        def step(kind: str, state: str) -> bytes:
            return f'[{{"name":"a","kind":"{kind}","state":"{state}","attempts":1,"error":null}}]'.encode()

        rows = {
            "a": (step("pivot", "done"), 20, None),
            "b": (step("retriable", "acting"), 20, None),
            "c": (step("pivot", "acting"), 20, None),
            "d": (step("retriable", "waiting"), 20, None),
            "e": (step("retriable", "skipped"), 20, None),
            "f": (step("compensable", "done"), 20, None),
            "g": (step("pivot", "done"), 21, None),
            "h": (step("pivot", "done"), None, None),
            "i": (step("pivot", "done"), 20, 30),
            "j": (b'[7,"pivot"]', 20, None),
            "k": (b"{}", 20, None),
        }
        for run, (steps, deadline, ended_at) in rows.items():
            await write(log, start(run, deadline=deadline, shown=replace(row(ended_at=ended_at), steps=steps)))
        assert dict(await log.late(21)) == {ORDERS.name: 2}
        assert dict(await log.late(20)) == {}

    async def test_a_row_that_holds_what_no_row_should_hides_no_other(self, log: TransactionLog) -> None:
        """In any column that a log or its statements look into."""
        odd = [b"{}", b"7", b'"text"', b"null", b"[7]", b'["a",{"step":7}]', b'[{"step":"ship"}]']
        await write(log, start("good", shown=row("stuck", current=b'["charge"]')))
        for number, text in enumerate(odd):
            await write(log, start(f"odd-{number}", shown=row("stuck", current=text, stuck=text), deadline=1))
        everything = {"good", *(f"odd-{number}" for number in range(len(odd)))}
        assert {run.run for run in await log.find(Find())} == everything
        assert {run.run for run in await log.find(Find(states=["stuck"]))} == everything
        assert [run.run for run in await log.find(Find(step="charge"))] == ["good"]
        assert sum(each.count for each in await log.live()) == len(everything)
        assert sum(each.count for each in await log.stuck()) >= len(everything)
        assert dict(await log.late(2)) == {}

    async def test_how_runs_stand_is_told_of_those_asked_for(self, log: TransactionLog) -> None:
        """Not of others, nor of those that aren't there."""
        await write(log, start("a"), start("b", shown=row("stuck")), start("c"))
        await write(log, append("a", 1, kinds=("One", "Two")))
        assert dict(await log.standing(["a", "b", "no"])) == {"a": (3, "running"), "b": (1, "stuck")}
        assert dict(await log.standing([])) == {}

    async def test_workers_say_what_they_have(self, log: TransactionLog) -> None:
        """Which sagas are loaded, how many runs are owned."""
        await write(log, start("a"), start("b", owned=False))
        await log.announce([ORDERS, TRIPS])
        (worker,) = [each for each in await log.workers() if each.state is WorkerState.LIVE]
        assert worker.id == (await must_read(log, "a")).owner
        assert (worker.pid, worker.runs, tuple(worker.sagas)) == (os.getpid(), 1, (ORDERS, TRIPS))
