"""A log elsewhere and the process that decides take turns; what that may not change is when somebody is told what."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import pytest

from amends.core.words.errors import LogBroken, LogUnavailable, LogUnclear
from amends.engine.group_commit import BATCH_BYTES_MAX, HALVED_MIN, HELD_SECONDS, GroupCommit
from amends.ports.log import Append, RunRow, Start, StoredEvent, TransactionLog, Written
from tests.fast.engine.support import virtually

ROW = RunRow("running", by_hand=False, due_at=0, current=b"[]", steps=b"[]", stuck=b"[]", ended_at=None)
EVENTS = (StoredEvent("Something", b"{}", 1, 0),)

Verdict = Written | LogUnavailable


def start(run: str) -> Start:
    return Start(run, "saga", 1, "digest", b"", None, {}, 0, run.encode(), EVENTS, ROW)


def append(run: str) -> Append:
    return Append(run, 1, 1, run.encode(), 0, EVENTS, ROW)


def visit(run: str) -> Append:
    return replace(append(run), epoch=None)


class Elsewhere:
    """A log whose answers come when the test says so; `noted` is everything that happens, in order."""

    is_elsewhere = True

    def __init__(self, *, takes: Callable[[Start | Append], bool] = lambda entry: True) -> None:
        self.held: set[str] = set()
        self.noted: list[str] = []
        self._answers: asyncio.Queue[LogUnavailable | None] = asyncio.Queue()
        self._takes = takes
        self.leaving: Callable[[], None] = lambda: None

    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        self.noted.append("leaves " + " ".join(entry.run for entry in batch))
        self.leaving()
        answer = await self._answers.get()
        if answer is not None:
            raise answer
        if not all(map(self._takes, batch)):
            raise ValueError("not for this log")
        return [Written.HELD if entry.run in self.held else Written.ACCEPTED for entry in batch]

    def answers(self, *answers: LogUnavailable | None) -> None:
        for each in answers:
            self._answers.put_nowait(each)


class Office:
    """A writer on such a log, and who puts entries in and is told about them."""

    def __init__(self, log: Elsewhere) -> None:
        self.log = log
        self.broke: list[LogBroken] = []
        self.writer = GroupCommit(cast("TransactionLog", log), self.broke.append)
        self.then: Callable[[str], object] = str  # what whoever was told does next
        self.writer.start()

    def put(self, *runs: str, entry: Callable[[str], Start | Append] = append) -> None:
        for run in runs:
            self.writer.put(entry(run), partial(self._told, run))

    def _told(self, run: str, verdict: Verdict) -> None:
        self.log.noted.append(f"{run} {verdict if isinstance(verdict, Written) else type(verdict).__name__}")
        self.then(run)

    async def until(self, said: str) -> None:
        async with asyncio.timeout(60):
            while said not in self.log.noted:  # noqa: ASYNC110 - nobody says so, and to wait costs nothing here
                await asyncio.sleep(0.001)


def names(count: int) -> list[str]:
    return [f"r{number}" for number in range(count)]


def test_the_next_batch_leaves_before_those_of_the_last_one_are_told() -> None:
    log = Elsewhere()

    async def test() -> None:
        office = Office(log)
        office.put("a", "b")
        await office.until("leaves a b")
        office.put("c")
        log.answers(None)
        await office.until("b accepted")
        log.answers(None)
        await office.writer.close()

    virtually(test)
    assert log.noted == ["leaves a b", "leaves c", "a accepted", "b accepted", "c accepted"]


def test_what_comes_in_one_lump_leaves_in_two_halves() -> None:
    log, runs = Elsewhere(), names(HALVED_MIN)
    first, second = runs[: HALVED_MIN // 2], runs[HALVED_MIN // 2 :]

    async def test() -> None:
        office = Office(log)
        office.put(*runs)
        log.answers(None, None)
        await office.writer.close()

    virtually(test)
    assert log.noted == [
        f"leaves {' '.join(first)}",
        f"leaves {' '.join(second)}",
        *(f"{run} accepted" for run in runs),
    ]


def test_a_few_leave_together() -> None:
    log, runs = Elsewhere(), names(HALVED_MIN - 1)

    async def test() -> None:
        office = Office(log)
        office.put(*runs)
        log.answers(None)
        await office.writer.close()

    virtually(test)
    assert log.noted[0] == f"leaves {' '.join(runs)}"


def test_a_run_counts_as_being_written_until_somebody_was_told() -> None:
    """Who looks for runs that are ours by the log, but unknown here, must not find one whose verdict is on its way."""
    log, seen = Elsewhere(), list[set[str]]()

    async def test() -> None:
        office = Office(log)
        office.put("a")
        await office.until("leaves a")
        office.put("b")
        log.leaving = lambda: seen.append(office.writer.runs)
        log.answers(None)
        await office.until("a accepted")
        seen.append(office.writer.runs)
        log.answers(None)
        await office.writer.close()
        seen.append(office.writer.runs)

    virtually(test)
    assert seen == [{"a", "b"}, {"b"}, set()]


def test_a_batch_that_fails_after_another_waits_alone_and_leaves_again() -> None:
    log, troubles = Elsewhere(), list[str | None]()

    async def test() -> None:
        office = Office(log)
        office.put("a")
        await office.until("leaves a")
        office.put("b")
        office.put("c", entry=start)
        log.answers(None, LogUnavailable("the server is gone"))
        await office.until("c LogUnavailable")
        troubles.append(office.writer.trouble)
        log.answers(None)
        await office.until("b accepted")
        troubles.append(office.writer.trouble)
        await office.writer.close()

    virtually(test)
    assert troubles == ["the server is gone", None]
    assert log.noted == ["leaves a", "leaves b c", "a accepted", "c LogUnavailable", "leaves b", "b accepted"]


def test_trouble_is_over_with_the_first_batch_that_is_written_however_busy_it_is() -> None:
    log, troubles = Elsewhere(), list[str | None]()

    async def test() -> None:
        office = Office(log)
        office.put("a")
        log.answers(LogUnclear("the connection is lost"))
        await office.until("leaves a")
        office.put("b")
        await office.until("leaves a b")
        troubles.append(office.writer.trouble)
        office.put("c")
        log.answers(None)
        await office.until("b accepted")
        troubles.append(office.writer.trouble)
        log.answers(None)
        await office.writer.close()

    virtually(test)
    assert troubles == ["the connection is lost", None]
    assert log.noted[-3:] == ["a accepted", "b accepted", "c accepted"]


def test_an_entry_the_log_refuses_to_take_leaves_the_others_alone() -> None:
    log = Elsewhere(takes=lambda entry: entry.run != "bad")

    async def test() -> None:
        office = Office(log)
        office.put("a")
        await office.until("leaves a")
        office.put("b", "bad", "c")
        log.answers(None)
        await office.until("a accepted")
        log.answers(None, None, None, None)
        await office.until("c accepted")
        await office.writer.close()

    virtually(test)
    assert log.noted == [
        "leaves a",
        "leaves b bad c",
        "a accepted",
        "leaves b",
        "b accepted",
        "leaves bad",
        "bad LogUnavailable",
        "leaves c",
        "c accepted",
    ]


def test_a_run_whose_row_somebody_holds_on_to_waits_by_itself() -> None:
    log = Elsewhere()
    log.held.add("a")

    async def test() -> None:
        office = Office(log)
        office.put("a", "b")
        log.answers(None)
        await office.until("b accepted")
        assert (office.writer.runs, office.writer.waiting, office.writer.trouble) == ({"a"}, 1, None)
        office.put("c")
        log.answers(None)
        await office.until("c accepted")
        log.answers(None)
        await office.until("leaves a")
        log.held.clear()
        log.answers(None)
        await office.until("a accepted")
        await office.writer.close()

    virtually(test)
    assert log.noted == ["leaves a b", "b accepted", "leaves c", "c accepted", "leaves a", "leaves a", "a accepted"]


@pytest.mark.parametrize("entry", [start, visit])
def test_who_only_visits_is_told_that_somebody_holds_on_to_a_row(entry: Callable[[str], Start | Append]) -> None:
    log = Elsewhere()
    log.held.add("a")

    async def test() -> None:
        office = Office(log)
        office.put("a", entry=entry)
        log.answers(None)
        await office.until("a LogUnavailable")
        assert office.writer.waiting == 0
        office.put("a", entry=entry)
        log.answers(LogUnclear("the connection is lost"), None)
        await office.until("a LogUnclear")
        await asyncio.sleep(HELD_SECONDS / 2)
        assert office.writer.waiting == 1, "it may be written already, so it is tried until that is known"
        log.held.clear()
        log.answers(None)
        await office.until("a accepted")
        await office.writer.close()

    virtually(test)


async def put_off(log: Elsewhere, run: str) -> Office:
    """An office whose one entry waits for whoever holds on to its row."""
    office = Office(log)
    office.put(run)
    log.answers(None)
    await office.until(f"leaves {run}")
    await asyncio.sleep(HELD_SECONDS / 2)  # of the loop's own time, which jumps
    return office


@pytest.mark.parametrize("is_free", [True, False])
def test_who_closes_tries_once_more_what_somebody_holds_on_to(*, is_free: bool) -> None:
    log = Elsewhere()
    log.held.add("a")

    async def test() -> None:
        office = await put_off(log, "a")
        if is_free:
            log.held.clear()
        log.answers(None)
        await office.writer.close()

    virtually(test)
    assert log.noted == ["leaves a", "leaves a", "a accepted" if is_free else "a LogUnavailable"]


@pytest.mark.parametrize("error", [LogUnavailable("gone"), LogBroken("not ours any more")])
def test_nobody_waits_for_ever_for_a_held_row_of_a_log_that_is_given_up(error: LogUnavailable) -> None:
    log = Elsewhere()
    log.held.add("a")

    async def test() -> None:
        office = await put_off(log, "a")
        office.put("b")
        await office.until("leaves b")
        closing = asyncio.create_task(office.writer.close())
        await asyncio.sleep(0)
        log.answers(error)
        await closing

    virtually(test)
    kind = type(error).__name__
    assert log.noted[-2:] == [f"b {kind}", f"a {kind}"]


def test_what_is_large_leaves_in_several_batches() -> None:
    log = Elsewhere()

    def large(run: str) -> Append:
        size = {"a": 1, "b": BATCH_BYTES_MAX // 2, "c": BATCH_BYTES_MAX, "d": 1}[run]
        return replace(append(run), events=[StoredEvent("Something", b" " * size, 1, 0)])

    async def test() -> None:
        office = Office(log)
        office.put("a", "b", "c", "d", entry=large)
        log.answers(None, None)
        await office.writer.close()

    virtually(test)
    assert log.noted[:2] == ["leaves a b c", "leaves d"]


@pytest.mark.parametrize("error", [LogUnavailable("gone"), LogUnclear("lost"), LogBroken("not ours any more")])
def test_who_closes_learns_what_became_of_everything(error: LogUnavailable) -> None:
    log = Elsewhere()

    async def test() -> None:
        office = Office(log)

        def one_more(run: str) -> None:
            if run == "a":
                office.put("c")

        office.put("a")
        await office.until("leaves a")
        office.put("b")
        office.then = one_more
        log.answers(None, error)
        await office.writer.close()

    virtually(test)
    kind = type(error).__name__
    assert log.noted == ["leaves a", "leaves b", "a accepted", f"b {kind}", f"c {kind}"]
