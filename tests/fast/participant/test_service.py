"""The service around the barrier: registration, decoding, errors of the database and threads."""

import asyncio
import json
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typing_extensions import override

from amends.core.saga.operation import Participant, Undo, operation
from amends.core.words.errors import CannotCompensate, DefinitionInvalid, Rejected
from amends.inboxes.memory import AsyncMemoryTransaction, MemoryData, MemoryInbox
from amends.inboxes.sqlite import SqliteInbox
from amends.participant.service import Service
from amends.ports.inbox import AsyncTransaction, Busy, NotSerializable, Row, TableMissing
from amends.wire.this_call import CallInfo, this_call
from tests.fast.participant.payments import BODY, UNDO, Held, Hold, Payments, Untouched, headers, paying, problem, word

# -- headers: refused before the database is touched


@pytest.mark.parametrize(
    "wrong",
    [
        {"Idempotency_Key": ""},
        {"Idempotency_Key": "order-42"},
        {"Idempotency_Key": '"order-42:hold:undo"'},
        {"Idempotency_Key": '"-42:hold:action"'},
        {"Idempotency_Key": '"order-42:ho ld:action"'},
        {"Idempotency_Key": '"order-42:hold:action'},
        {"Saga_Phase": "compensation"},
        {"Saga_Kind": "neutral"},
        {"Saga_Kind": ""},
        {"Saga_Since": "yesterday"},
        {"Saga_Since": "2026-01-01T00:00:00"},
        {"Saga_Since": "0001-01-01T00:00:00+23:59"},
        {"Saga_Since": ""},
        {"Saga_Epoch": "-1"},
        {"Saga_Epoch": "9" * 19},
        {"Saga_Epoch": "\N{SUPERSCRIPT TWO}"},
        {"Saga_Seal": "undone"},
    ],
)
async def test_a_call_with_wrong_headers_is_refused_without_an_outcome(wrong: dict[str, str]) -> None:
    answer = await paying(Untouched()).handle(headers(**wrong), "hold", BODY)
    assert (answer.status, word(answer), problem(answer)) == (400, None, "bad-call")


@pytest.mark.parametrize(
    ("phase", "operation_name", "more"),
    [
        ("action", "unhold", {}),
        ("compensation", "hold", {}),
        ("seal", "unhold", {}),
        ("seal", "hold", {"Saga_Kind": "retriable"}),
        ("seal", "hold", {"Saga_Seal": "gone"}),
    ],
)
async def test_a_phase_that_is_not_served_there_is_refused(
    phase: str, operation_name: str, more: dict[str, str]
) -> None:
    answer = await paying(Untouched()).handle(headers(phase, **more), operation_name, BODY)
    assert (answer.status, word(answer), problem(answer)) == (400, None, "bad-call")


async def test_an_unknown_operation_is_no_answer_of_the_barrier() -> None:
    answer = await paying(Untouched()).handle(headers(), "capture", BODY)
    assert (answer.status, word(answer), problem(answer)) == (404, None, "unknown-operation")


async def test_the_key_may_be_bare_and_header_names_may_have_any_case() -> None:
    given = {name.upper(): value.strip('"') for name, value in headers().items()}
    assert (await paying().handle(given, "hold", BODY)).status == 200


async def test_what_people_read_may_be_garbage() -> None:
    answer = await paying().handle(headers(Saga_Attempt="many", Saga_Deadline="soon"), "hold", BODY)
    assert answer.status == 200


async def test_the_handler_knows_its_call() -> None:
    service: Service[MemoryData] = Service(Payments, MemoryInbox())
    seen: list[CallInfo] = []

    @service.action(Payments.hold)
    async def hold(request: Hold, tx: MemoryData) -> Held:
        seen.append(this_call())
        return Held("1")

    assert callable(hold)
    more = {
        "Saga_Attempt": "3",
        "Saga_Epoch": "7",
        "Saga_Deadline": "2030-01-01T00:00:00Z",
        "Saga_Callback": "http://x",
    }
    await service.handle(headers(**more), "hold", BODY)
    (call,) = seen
    assert (call.key, call.attempt, call.epoch, call.callback) == ("order-42:hold:action", 3, 7, "http://x")
    assert call.deadline == datetime(2030, 1, 1, tzinfo=UTC)
    with pytest.raises(LookupError):
        this_call()


# -- what handlers are given


async def test_an_undo_is_given_what_was_stored_here_rather_than_what_it_was_told() -> None:
    service: Service[MemoryData] = Service(Payments, MemoryInbox())
    undone: list[Undo[Hold, Held]] = []

    @service.action(Payments.hold)
    async def hold(request: Hold, tx: MemoryData) -> Held:
        return Held("stored")

    @service.compensation(Payments.hold)
    async def unhold(undo: Undo[Hold, Held], tx: MemoryData) -> None:
        undone.append(undo)

    assert callable(hold)
    assert callable(unhold)
    await service.handle(headers(), "hold", BODY)
    await service.handle(headers("compensation"), "unhold", UNDO)
    assert undone == [Undo(Hold(4200), Held("stored"), reply_known=True, reason="no")]


async def test_an_operation_that_another_step_names_as_its_undo_gets_that_steps_reply() -> None:
    service: Service[MemoryData] = Service(Payments, MemoryInbox())
    undone: list[Undo[Hold, Held]] = []

    @service.action(Payments.hold)
    async def hold(request: Hold, tx: MemoryData) -> Held:
        return Held("held")

    @service.compensation(Payments.refund)
    async def refund(undo: Undo[Hold, Held], tx: MemoryData) -> None:
        undone.append(undo)

    assert callable(hold)
    assert callable(refund)
    await service.handle(headers(), "hold", BODY)
    answer = await service.handle(headers("compensation"), "refund", UNDO.replace(b"4200", b"100"))
    assert word(answer) == "succeeded"
    assert undone == [Undo(Hold(100), Held("held"), reply_known=True, reason="no")]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"request":1}', b"\xff", b"[" * 100_000])
async def test_an_undo_that_does_not_decode_is_refused_and_can_be_sent_again(body: bytes) -> None:
    service = paying()
    await service.handle(headers(), "hold", BODY)
    answer = await service.handle(headers("compensation"), "unhold", body)
    assert (answer.status, word(answer), problem(answer)) == (400, None, "request-invalid")
    assert word(await service.handle(headers("compensation"), "unhold", UNDO)) == "succeeded"


async def test_an_undo_of_nothing_needs_no_understanding() -> None:
    assert word(await paying().handle(headers("compensation"), "unhold", b"what?")) == "noop"


async def test_an_action_can_not_say_that_it_can_not_be_undone() -> None:
    service: Service[MemoryData] = Service(Payments, MemoryInbox())

    @service.action(Payments.hold)
    async def hold(request: Hold, tx: MemoryData) -> Held:
        raise CannotCompensate("what?")

    assert callable(hold)
    answer = await service.handle(headers(), "hold", BODY)
    assert (answer.status, word(answer)) == (503, None)


async def test_an_operation_without_a_reply_answers_null() -> None:
    service: Service[MemoryData] = Service(Payments, MemoryInbox())

    @service.action(Payments.capture)
    async def capture(request: Hold, tx: MemoryData) -> None:
        return

    assert callable(capture)
    answer = await service.handle(headers(), "capture", BODY)
    assert (answer.status, answer.body) == (200, b"null")


async def test_a_no_with_lone_surrogates_is_still_an_answer() -> None:
    service: Service[MemoryData] = Service(Payments, MemoryInbox())

    @service.action(Payments.hold)
    async def hold(request: Hold, tx: MemoryData) -> Held:
        raise Rejected("\udcff" * 3)

    assert callable(hold)
    answer = await service.handle(headers(), "hold", BODY)
    assert json.loads(answer.body)["detail"] == "???"


# -- mistakes at registration


def test_mistakes_are_found_when_a_handler_is_registered(tmp_path: Path) -> None:
    class Other(Participant):
        hold = operation(Hold, Held)

    async def hold(request: Hold, tx: object) -> Held:
        return Held("")

    def plain(request: Hold, tx: object) -> Held:
        return Held("")

    blocks = SqliteInbox(tmp_path / "a.db")
    with pytest.raises(DefinitionInvalid, match=r"Service\(Payments\): hold is async, but SqliteInbox blocks"):
        Service(Payments, blocks).action(Payments.hold)(hold)
    blocks.close()
    service = paying()
    with pytest.raises(DefinitionInvalid, match="hold is already served by hold"):
        service.action(Payments.hold)(plain)
    with pytest.raises(DefinitionInvalid, match="is not one of its operations"):
        service.action(Other.hold)(hold)


def test_a_plain_handler_is_refused_by_an_inbox_that_is_awaited() -> None:
    def plain(request: Hold, tx: MemoryData) -> Held:
        return Held("")

    service: Service[MemoryData] = Service(Payments, OnlyAwaited(MemoryInbox()))
    with pytest.raises(DefinitionInvalid, match="plain is a plain def, but OnlyAwaited is awaited"):
        service.action(Payments.hold)(plain)
    with pytest.raises(DefinitionInvalid, match="serve it with asgi"):
        service.wsgi()


class OnlyAwaited:
    """Another's inbox, and one that can break."""

    def __init__(
        self, inner: MemoryInbox, errors: list[Exception] | None = None, commit: Exception | None = None
    ) -> None:
        self.inner = inner
        self.errors = [] if errors is None else errors
        self.commit = commit
        self.committed = 0

    @asynccontextmanager
    async def open_async(self) -> AsyncGenerator[AsyncTransaction[MemoryData], None]:
        async with self.inner.open_async() as tx:
            yield Breaking(self, tx)

    def join_async(self, handle: MemoryData, /) -> AsyncTransaction[MemoryData]:
        return self.inner.join_async(handle)

    def classify(self, error: Exception, /) -> Busy | NotSerializable | TableMissing | None:
        return error if isinstance(error, Busy | NotSerializable | TableMissing) else None


class Breaking(AsyncMemoryTransaction):
    def __init__(self, outer: OnlyAwaited, inner: AsyncMemoryTransaction) -> None:
        super().__init__(inner._inner)
        self.outer = outer

    @override
    async def insert(self, row: Row) -> bool:
        inserted = await super().insert(row)
        if self.outer.errors:
            raise self.outer.errors.pop(0)
        return inserted

    @override
    async def commit(self) -> None:
        if self.outer.commit is not None:
            raise self.outer.commit
        await super().commit()
        self.outer.committed += 1


def serving(inbox: OnlyAwaited) -> tuple[Service[MemoryData], list[int]]:
    service: Service[MemoryData] = Service(Payments, inbox)
    ran: list[int] = []

    @service.action(Payments.hold)
    async def hold(request: Hold, tx: MemoryData) -> Held:
        ran.append(request.cents)
        tx["held"] = request.cents
        return Held("1")

    assert callable(hold)
    return service, ran


# -- errors of the database


async def test_a_failed_commit_says_nothing_about_the_outcome() -> None:
    inbox = OnlyAwaited(MemoryInbox(), commit=OSError("disk full"))
    service, ran = serving(inbox)
    answer = await service.handle(headers(), "hold", BODY)
    assert (answer.status, word(answer), problem(answer)) == (503, None, "commit-unclear")
    assert ran == [4200]
    assert inbox.inner.data == {}


async def test_a_commit_that_sqlite_refuses_says_nothing_and_keeps_nothing(tmp_path: Path) -> None:
    inbox = SqliteInbox(tmp_path / "a.db")
    with inbox.transaction() as db:
        db.execute("create table account (id integer primary key)")
        db.execute("create table hold (account references account (id) deferrable initially deferred)")
    service: Service[sqlite3.Connection] = Service(Payments, inbox)

    @service.action(Payments.hold)
    def hold(request: Hold, db: sqlite3.Connection) -> Held:
        db.execute("insert into hold values (?)", (request.cents,))
        return Held("1")

    assert callable(hold)
    inbox._connection.execute("pragma foreign_keys = on")  # pyright: ignore[reportPrivateUsage] - the fault
    answer = await service.handle(headers(), "hold", BODY)
    assert (answer.status, word(answer), problem(answer)) == (503, None, "commit-unclear")
    with inbox.open() as tx:
        assert tx.read("order-42", "hold") is None
        assert tx.handle.execute("select count(*) from hold").fetchone() == (0,)
        tx.handle.execute("insert into account values (4200)")
        tx.commit()
    assert word(await service.handle(headers(), "hold", BODY)) == "succeeded"
    service.close()
    inbox.close()


async def test_a_request_that_could_not_be_ordered_is_run_again_as_a_whole() -> None:
    inbox = OnlyAwaited(MemoryInbox(), errors=[NotSerializable("40001"), NotSerializable("40001")])
    service, ran = serving(inbox)
    assert word(await service.handle(headers(), "hold", BODY)) == "succeeded"
    assert (inbox.errors, ran) == ([], [4200])


async def test_a_request_that_can_not_be_ordered_is_given_up_after_three_runs() -> None:
    inbox = OnlyAwaited(MemoryInbox(), errors=[NotSerializable("40001") for _ in range(4)])
    service, ran = serving(inbox)
    answer = await service.handle(headers(), "hold", BODY)
    assert (answer.status, word(answer), problem(answer)) == (503, None, "not-serializable")
    assert (len(inbox.errors), ran) == (1, [])


async def test_a_row_that_comes_and_goes_is_left_to_a_later_attempt() -> None:
    class Ghost(OnlyAwaited):
        @override
        @asynccontextmanager
        async def open_async(self) -> AsyncGenerator[AsyncTransaction[MemoryData], None]:
            async with self.inner.open_async() as tx:
                yield GhostRow(self, tx)

    class GhostRow(Breaking):
        @override
        async def insert(self, row: Row) -> bool:
            inserts.append(row.step)
            return False

    inserts: list[str] = []
    service, ran = serving(Ghost(MemoryInbox()))
    answer = await service.handle(headers(), "hold", BODY)
    assert (answer.status, problem(answer), answer.headers["retry-after"]) == (409, "in-progress", "1")
    assert (len(inserts), ran) == (4, [])


async def test_a_handlers_own_deadlock_is_a_reason_to_come_back() -> None:
    service: Service[MemoryData] = Service(Payments, OnlyAwaited(MemoryInbox()))

    @service.action(Payments.hold)
    async def hold(request: Hold, tx: MemoryData) -> Held:
        raise Busy("deadlock")

    assert callable(hold)
    answer = await service.handle(headers(), "hold", BODY)
    assert (answer.status, word(answer), problem(answer)) == (409, None, "in-progress")


async def test_the_outcome_is_on_the_answer_only_after_the_commit_returned() -> None:
    inbox = OnlyAwaited(MemoryInbox())
    service, _ = serving(inbox)
    await service.handle(headers(), "hold", BODY)
    assert inbox.committed == 1
    await service.handle(headers(), "hold", BODY)
    assert inbox.committed == 1, "a replay writes nothing"


async def test_a_second_process_that_holds_sqlite_is_waited_for_and_then_reported(tmp_path: Path) -> None:
    inbox = SqliteInbox(tmp_path / "a.db", lock_wait_seconds=0.05)
    service: Service[sqlite3.Connection] = Service(Payments, inbox)

    @service.action(Payments.hold)
    def hold(request: Hold, db: sqlite3.Connection) -> Held:
        return Held("1")

    assert callable(hold)
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("begin immediate")
    answer = await service.handle(headers(), "hold", BODY)
    assert (answer.status, problem(answer)) == (409, "in-progress")
    other.execute("rollback")
    assert word(await service.handle(headers(), "hold", BODY)) == "succeeded"
    other.close()
    service.close()
    inbox.close()


async def test_sqlite_handlers_may_not_commit_by_any_road(tmp_path: Path) -> None:
    inbox = SqliteInbox(tmp_path / "a.db")
    service: Service[sqlite3.Connection] = Service(Payments, inbox)
    roads: list[Callable[[sqlite3.Connection], object]] = [
        lambda db: db.commit(),
        lambda db: db.execute("COMMIT"),
        lambda db: db.execute("end transaction"),
        lambda db: db.executescript("create table sly (x)"),
        lambda db: db.__exit__(None, None, None),
        lambda db: db.execute("release amends_handler"),
    ]
    roads_taken = iter(roads)

    @service.action(Payments.hold)
    def hold(request: Hold, db: sqlite3.Connection) -> Held:
        db.execute("insert into thing values (1)")
        next(roads_taken)(db)
        return Held("1")

    assert callable(hold)
    with inbox.transaction() as db:
        db.execute("create table thing (x)")
    for _ in roads:
        answer = await service.handle(headers(), "hold", BODY)
        assert (answer.status, word(answer), problem(answer)) == (500, None, "handler-committed")
        assert inbox._connection.execute("select count(*) from thing").fetchone() == (0,)  # pyright: ignore[reportPrivateUsage]
    service.close()
    inbox.close()


# -- threads


async def test_handlers_that_block_do_not_hold_up_the_loop_and_see_its_context() -> None:
    service: Service[MemoryData] = Service(Payments, MemoryInbox(), threads=1)
    entered, opened, threads = threading.Event(), threading.Event(), set[str]()

    @service.action(Payments.hold)
    def hold(request: Hold, tx: MemoryData) -> Held:
        entered.set()
        assert opened.wait(20)
        threads.add(threading.current_thread().name)
        return Held(this_call().key)

    assert callable(hold)
    call = asyncio.create_task(service.handle(headers(), "hold", BODY))
    assert await asyncio.to_thread(entered.wait, 20)
    opened.set()  # only a loop that is free gets here
    assert (await call).status == 200
    assert threads == {"amends-payments_0"}
    service.close()


async def test_too_many_waiting_calls_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amends.participant.service.WAITING_MAX", 1)
    service: Service[MemoryData] = Service(Payments, MemoryInbox(), threads=1)
    opened = threading.Event()

    @service.action(Payments.hold)
    def hold(request: Hold, tx: MemoryData) -> Held:
        assert opened.wait(20)
        return Held("1")

    assert callable(hold)
    first = asyncio.create_task(service.handle(headers(), "hold", BODY))
    await asyncio.sleep(0)
    refused = await service.handle(headers(run="order-43"), "hold", BODY)
    opened.set()
    assert (refused.status, word(refused), refused.headers["retry-after"]) == (503, None, "1")
    assert (await first).status == 200
    service.close()
