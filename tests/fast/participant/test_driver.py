"""Steps on an inbox, blocking and awaited: each is performed once, and each error is told as what it means.

Every test runs both loops. They are two texts of one thing, so whatever holds of one must hold of the other.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace

import pytest
from typing_extensions import override

from amends.inboxes.memory import AsyncMemoryTransaction, MemoryData, MemoryInbox, MemoryTransaction
from amends.participant.driver import Unfit, drive, drive_async, walk, walk_async
from amends.participant.effects import Asking, Done, Ended, Program, Verdict
from amends.participant.response import Answer, plain
from amends.ports.inbox import (
    Busy,
    Delete,
    Insert,
    Lock,
    NotSerializable,
    Read,
    ReadPurgedThrough,
    Release,
    RollBack,
    Row,
    RowState,
    Savepoint,
    Step,
    TableMissing,
    Update,
    Work,
)

ROW = Row("run-1", "reserve", RowState.ACTING)
DONE = Done(b"null")

Doing = Callable[[MemoryData, Row | None], Ended]


class DriverError(Exception):
    """What a database's driver raises: the inbox knows what it means."""


@dataclass
class Inbox:
    """A `MemoryInbox` that breaks on demand, blocking or awaited."""

    inner: MemoryInbox = field(default_factory=MemoryInbox)
    commit_error: Exception | None = None
    meaning: Busy | NotSerializable | TableMissing | None = None
    """Of a `DriverError`."""
    tampered: bool = False
    opened: int = 0

    @contextmanager
    def open(self) -> Generator[MemoryTransaction]:
        self.opened += 1
        with self.inner.open() as tx:
            yield Transaction(self, tx)

    @asynccontextmanager
    async def open_async(self) -> AsyncGenerator[AsyncMemoryTransaction]:
        with self.open() as tx:
            yield AsyncMemoryTransaction(tx)

    def join(self, handle: MemoryData, /) -> MemoryTransaction:
        return self.inner.join(handle)

    def join_async(self, handle: MemoryData, /) -> AsyncMemoryTransaction:
        return self.inner.join_async(handle)

    def classify(self, error: Exception, /) -> Busy | NotSerializable | TableMissing | None:
        return self.meaning if isinstance(error, DriverError) else None


class Transaction(MemoryTransaction):
    def __init__(self, outer: Inbox, inner: MemoryTransaction) -> None:
        super().__init__(outer.inner, inner._content)
        self.outer = outer

    @property
    @override
    def tampered(self) -> bool:
        return self.outer.tampered

    @override
    def commit(self) -> None:
        if self.outer.commit_error is not None:
            raise self.outer.commit_error
        super().commit()


Driving = Callable[[Inbox, Callable[[], Program], Doing], Answer]


def blocking(inbox: Inbox, begin: Callable[[], Program], doing: Doing) -> Answer:
    return drive(inbox, begin, doing, "payments, hold")


def awaited(inbox: Inbox, begin: Callable[[], Program], doing: Doing) -> Answer:
    async def doing_async(handle: MemoryData, row: Row | None) -> Ended:
        return doing(handle, row)

    return asyncio.run(drive_async(inbox, begin, doing_async, "payments, hold"))


@pytest.fixture(params=[blocking, awaited])
def driving(request: pytest.FixtureRequest) -> Driving:
    driving: Driving = request.param
    return driving


def acts(*, commit: bool = True, answer: Answer | None = None) -> Callable[[], Program]:
    """A program that inserts a row, has the work done, and is for a success."""

    def program() -> Program:
        yield Insert(ROW)
        yield Savepoint()
        yield Work(None)
        yield Release()
        return Verdict(answer or plain(200), "succeeded" if answer is None else None, commit=commit)

    return program


def raising(error: Exception) -> Doing:
    def doing(_handle: MemoryData, _row: Row | None) -> Ended:
        raise error

    return doing


def writes(handle: MemoryData, _row: Row | None) -> Ended:
    handle["written"] = True
    return DONE


def said(answer: Answer) -> tuple[int, str, str | None, str]:
    assert "saga-outcome" not in answer.headers, "what isn't known says nothing about the outcome"
    body = json.loads(answer.body)
    assert body["status"] == answer.status
    return answer.status, str(body["type"]).removeprefix("urn:amends:"), body.get("code"), str(body["detail"])


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, bool]]:
    """Logger, text, and whether the error itself is with it."""
    assert all(record.levelno == logging.ERROR for record in caplog.records)
    return [(record.name, record.getMessage(), record.exc_info is not None) for record in caplog.records]


# -- what is committed


def test_what_the_verdict_commits_stays_and_what_it_does_not_is_gone(
    driving: Driving, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox()
    assert driving(inbox, acts(commit=False), writes) == plain(200).with_outcome("succeeded")
    assert inbox.inner.data == {}
    assert driving(inbox, acts(), writes) == plain(200).with_outcome("succeeded")
    assert inbox.inner.data == {"written": True}
    assert (inbox.opened, logged(caplog)) == (2, [])


@pytest.mark.parametrize(("status", "logs"), [(499, False), (500, True), (503, True)])
def test_a_verdict_that_blames_the_service_is_logged(
    driving: Driving, caplog: pytest.LogCaptureFixture, status: int, logs: bool
) -> None:
    answer = plain(status, b"why")
    assert driving(Inbox(), acts(answer=answer), writes) == answer
    assert logged(caplog) == ([("amends.participant", "payments, hold: why", False)] if logs else [])


# -- what errors mean


def test_what_could_not_be_ordered_is_run_again_as_a_whole_and_three_times_at_most(driving: Driving) -> None:
    inbox, runs = Inbox(meaning=NotSerializable("40001")), list[int]()

    def disordered(times: int) -> Doing:
        def doing(handle: MemoryData, row: Row | None) -> Ended:
            runs.append(len(runs))
            if len(runs) <= times:
                raise DriverError
            return writes(handle, row)

        return doing

    assert driving(inbox, acts(), disordered(2)).status == 200
    assert (len(runs), inbox.opened, inbox.inner.data) == (3, 3, {"written": True})
    inbox, runs[:] = Inbox(meaning=NotSerializable("40001")), []
    assert said(driving(inbox, acts(), disordered(3))) == (
        503,
        "not-serializable",
        None,
        "payments, hold: the database refused to order it 3 times.",
    )
    assert (len(runs), inbox.opened, inbox.inner.data) == (3, 3, {})


def test_a_busy_database_is_a_reason_to_come_back_in_a_second(
    driving: Driving, caplog: pytest.LogCaptureFixture
) -> None:
    answer = driving(Inbox(meaning=Busy("a twin has the row")), acts(), raising(DriverError()))
    assert said(answer) == (409, "in-progress", "in-progress", "a twin has the row")
    assert answer.headers["retry-after"] == "1"
    assert logged(caplog) == []


def test_a_missing_table_is_told_and_logged(driving: Driving, caplog: pytest.LogCaptureFixture) -> None:
    answer = driving(Inbox(meaning=TableMissing("no table: make it")), acts(), raising(DriverError()))
    assert said(answer) == (503, "barrier-missing", "barrier-missing", "payments, hold: no table: make it")
    assert logged(caplog) == [("amends.participant", "payments, hold: no table: make it", False)]


def test_a_request_that_does_not_fit_is_the_callers_mistake(driving: Driving, caplog: pytest.LogCaptureFixture) -> None:
    answer = driving(Inbox(), acts(), raising(Unfit("expected int - at $.cents")))
    assert said(answer) == (
        400,
        "request-invalid",
        "request-invalid",
        "payments, hold: expected int - at $.cents",
    )
    assert logged(caplog) == []


def test_a_failed_commit_is_not_told_as_a_failed_handler(driving: Driving, caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox(commit_error=OSError("disk full"))
    assert said(driving(inbox, acts(), writes)) == (
        503,
        "commit-unclear",
        None,
        "payments, hold: the commit failed, or its answer was lost.",
    )
    text = "payments, hold: the commit failed; whether it holds can't be told"
    assert logged(caplog) == [("amends.participant", text, True)]
    assert inbox.inner.data == {}
    assert inbox.opened == 1, "it may be committed: running it again here would be a guess"


def test_a_commit_that_only_waited_too_long_is_unclear_all_the_same(driving: Driving) -> None:
    inbox = Inbox(commit_error=DriverError(), meaning=NotSerializable("40001"))
    assert said(driving(inbox, acts(), writes))[1] == "commit-unclear"


def test_what_an_error_says_stays_in_the_log(driving: Driving, caplog: pytest.LogCaptureFixture) -> None:
    answer = driving(Inbox(), acts(), raising(ValueError("4111 1111 1111 1111")))
    assert said(answer) == (503, "failed", None, "payments, hold failed with ValueError; nothing was kept.")
    assert logged(caplog) == [("amends.participant", "payments, hold failed; everything was rolled back", True)]
    assert "4111" in str(caplog.records[0].exc_info)


def test_an_error_of_a_handler_that_ended_the_transaction_names_its_line(
    driving: Driving, caplog: pytest.LogCaptureFixture
) -> None:
    inbox, error = Inbox(tampered=True), RuntimeError("no transaction is open")

    def ends(handle: MemoryData, _row: Row | None) -> Ended:
        handle["written"] = True
        raise error

    line = ends.__code__.co_firstlineno + 2
    status, name, code, detail = said(driving(inbox, acts(), ends))
    assert (status, name, code) == (500, "handler-committed", "handler-committed")
    assert detail == (
        f"payments, hold ended the transaction itself ({__file__}:{line}), so the effect and the barrier's row could "
        f"part. Remove the commit or rollback: the barrier commits. Nothing was written."
    )
    assert logged(caplog) == [("amends.participant", detail, True)]
    assert inbox.inner.data == {}


@pytest.mark.parametrize("folder", ["lib/site-packages/driver", "amends/participant", "amends/inboxes"])
def test_a_line_of_a_library_or_of_ours_is_not_blamed(driving: Driving, folder: str) -> None:
    scope: dict[str, Callable[[], object]] = {}
    exec(compile("def fails(): raise RuntimeError", f"/somewhere/{folder}/x.py", "exec"), scope)  # noqa: S102 - its name counts

    def ends(_handle: MemoryData, _row: Row | None) -> Ended:
        scope["fails"]()
        raise AssertionError

    assert f"({__file__}:{ends.__code__.co_firstlineno + 1})" in said(driving(Inbox(tampered=True), acts(), ends))[3]


def test_where_no_line_of_the_service_is_to_blame_none_is_named() -> None:
    scope: dict[str, Doing] = {}
    code = "def ends(handle, row): raise RuntimeError"
    exec(compile(code, "/x/amends/inboxes/x.py", "exec"), scope)  # noqa: S102 - as above
    detail = said(blocking(Inbox(tampered=True), acts(), scope["ends"]))[3]
    assert detail.startswith("payments, hold ended the transaction itself, so the effect")


# -- the two loops


class Noted(MemoryTransaction):
    """Answers each step with something of its own and notes it."""

    def __init__(self) -> None:
        inbox = MemoryInbox()
        with inbox.open() as tx:
            super().__init__(inbox, tx._content)
        self.done: list[tuple[object, ...]] = []

    @override
    def insert(self, row: Row) -> bool:
        self.done.append(("insert", row))
        return True

    @override
    def lock(self, run: str, step: str) -> Row | None:
        self.done.append(("lock", run, step))
        return replace(ROW, epoch=1)

    @override
    def read(self, run: str, step: str) -> Row | None:
        self.done.append(("read", run, step))
        return replace(ROW, epoch=2)

    @override
    def update(self, row: Row) -> None:
        self.done.append(("update", row))

    @override
    def delete(self, run: str, step: str) -> None:
        self.done.append(("delete", run, step))

    @override
    def purged_through(self) -> int:
        self.done.append(("purged_through",))
        return 7

    @override
    def savepoint(self) -> None:
        self.done.append(("savepoint",))

    @override
    def release(self) -> bool:
        self.done.append(("release",))
        return False

    @override
    def roll_back(self) -> bool:
        self.done.append(("roll_back",))
        return True


@pytest.mark.parametrize(
    ("step", "given", "done"),
    [
        (Insert(ROW), True, ("insert", ROW)),
        (Lock("a", "b"), replace(ROW, epoch=1), ("lock", "a", "b")),
        (Read("a", "b"), replace(ROW, epoch=2), ("read", "a", "b")),
        (Update(ROW), None, ("update", ROW)),
        (Delete("a", "b"), None, ("delete", "a", "b")),
        (ReadPurgedThrough(), 7, ("purged_through",)),
        (Savepoint(), None, ("savepoint",)),
        (Work(ROW), DONE, ("work", ROW)),
        (Release(), False, ("release",)),
        (RollBack(), True, ("roll_back",)),
    ],
)
def test_each_step_is_performed_once_and_what_it_gives_goes_back(
    step: Step, given: object, done: tuple[object, ...]
) -> None:
    def asking() -> Asking[object]:
        return (yield step)

    tx = Noted()

    def doing(handle: MemoryData, row: Row | None) -> Ended:
        assert handle is tx.handle
        tx.done.append(("work", row))
        return DONE

    async def doing_async(handle: MemoryData, row: Row | None) -> Ended:
        return doing(handle, row)

    assert walk(tx, asking(), doing) == given
    assert asyncio.run(walk_async(AsyncMemoryTransaction(tx), asking(), doing_async)) == given
    assert tx.done == [done, done]
