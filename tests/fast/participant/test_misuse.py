"""What a service says where it is asked for what its inbox, its handler or its participant can't do; and its upkeep."""

# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

import asyncio
import inspect
import io
import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from typing_extensions import override

from amends.core.saga.operation import Participant, Rest, Undo, operation
from amends.core.words.errors import DefinitionInvalid, Later, Rejected
from amends.core.words.keys import BadKey, Phase
from amends.core.words.limits import REPLY_BYTES_MAX, REQUEST_BYTES_MAX
from amends.inboxes.memory import MemoryData, MemoryInbox, MemoryTransaction
from amends.participant.handlers import is_async, name_of_handler
from amends.participant.request import ENVELOPE_BYTES
from amends.participant.response import Answer
from amends.participant.service import Service, _no_work_async
from amends.ports.inbox import Row, RowState
from amends.wire.this_call import call_info
from tests.fast.participant.payments import BODY, UNDO, Held, Hold, Payments, Untouched, headers, paying, problem, word
from tests.fast.participant.test_service import OnlyAwaited


class OnlyBlocks:
    """A `MemoryInbox` without what can be awaited."""

    def __init__(self, inner: MemoryInbox) -> None:
        self.open, self.join, self.classify = inner.open, inner.join, inner.classify


def blocking(inbox: MemoryInbox | OnlyBlocks | None = None) -> Service[MemoryData]:
    service: Service[MemoryData] = Service(Payments, inbox or MemoryInbox())

    @service.action(Payments.hold)
    def hold(request: Hold, tx: MemoryData) -> Held:
        tx["held"] = request.cents
        return Held("1")

    assert callable(hold)
    return service


# -- the two kinds of inboxes


async def test_what_an_inbox_can_not_do_is_named_with_the_way_that_it_can() -> None:
    awaited: Service[MemoryData] = Service(Payments, OnlyAwaited(MemoryInbox()))
    with pytest.raises(TypeError, match=r"OnlyAwaited is awaited: await answer_async\(\) instead"):
        awaited.answer({}, "run-1:hold:action", Held("1"))
    with pytest.raises(TypeError, match=r"OnlyAwaited is awaited: await purge_async\(\) instead"):
        awaited.purge()
    blocks: Service[MemoryData] = Service(Payments, OnlyBlocks(MemoryInbox()))
    with pytest.raises(TypeError, match=r"OnlyBlocks blocks: call answer\(\) instead"):
        await blocks.answer_async({}, "run-1:hold:action", Held("1"))
    with pytest.raises(TypeError, match=r"OnlyBlocks blocks: call purge\(\) instead"):
        await blocks.purge_async()


def test_a_door_that_blocks_refuses_a_handler_that_is_awaited() -> None:
    with pytest.raises(TypeError, match=r"hold is async: serve payments with asgi\(\) or await handle\(\)"):
        paying().handle_blocking(headers(), "hold", BODY)


def test_a_call_is_answered_on_the_calling_thread() -> None:
    service = blocking(OnlyBlocks(MemoryInbox()))
    assert word(service.handle_blocking(headers(), "hold", BODY)) == "succeeded"
    assert problem(service.handle_blocking({}, "hold", BODY)) == "bad-call"
    service.close()
    service.close()


def test_an_undo_that_is_a_plain_request_of_an_api_is_not_served_here() -> None:
    class Api(Participant):
        charge = operation(Hold, Held, compensation=Rest("DELETE /charges/{reply.id}"), rest=Rest("PUT /charges"))

    service: Service[MemoryData] = Service(Api, MemoryInbox())
    with pytest.raises(DefinitionInvalid, match="its compensation is a Rest; that isn't served here"):
        service.compensation(Api.charge)


# -- sizes


@pytest.mark.parametrize("awaits", [False, True])
@pytest.mark.parametrize("phase", ["action", "compensation", "probe", "seal"])
async def test_a_body_may_have_its_limit_and_not_a_byte_more(phase: str, awaits: bool) -> None:
    limit = REQUEST_BYTES_MAX
    if phase == "compensation":
        limit = REQUEST_BYTES_MAX + REPLY_BYTES_MAX + ENVELOPE_BYTES
        assert limit == 2 * (1 << 20) + 4096
    name = "unhold" if phase == "compensation" else "hold"
    body = (UNDO if phase == "compensation" else BODY).ljust(limit)
    service = paying() if awaits else blocking()
    if not awaits:

        def unhold(undo: Undo[Hold, Held], tx: MemoryData) -> None:
            del tx["held"]

        service.compensation(Payments.hold)(unhold)
    too_large = await service.handle(headers(phase), name, body + b" ")
    assert (too_large.status, word(too_large), problem(too_large)) == (413, None, "too-large")
    assert f"{limit} bytes" in json.loads(too_large.body)["detail"]
    assert (await service.handle(headers(phase), name, body)).status == 200
    service.close()


@pytest.mark.parametrize(("size", "status"), [(REPLY_BYTES_MAX, 200), (REPLY_BYTES_MAX + 1, 409)])
async def test_a_reply_may_have_its_limit_and_not_a_byte_more(size: int, status: int) -> None:
    service: Service[MemoryData] = Service(Payments, MemoryInbox())

    @service.action(Payments.hold)
    async def hold(request: Hold, tx: MemoryData) -> Held:
        return Held("x" * (size - len('{"id":""}')))

    assert callable(hold)
    answer = await service.handle(headers(), "hold", BODY)
    assert answer.status == status
    if status == 409:
        assert f"the reply has {size} bytes" in json.loads(answer.body)["detail"]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Bare(Rejected):
    def __init__(self) -> None:  # the base's isn't called, so there is neither code nor detail
        pass


@pytest.mark.parametrize(
    ("no", "detail"),
    [
        (Rejected(ValueError("full")), "full"),  # type: ignore[arg-type] # untyped code
        (Rejected(Unprintable(), code=Unprintable()), "its text can't be read"),  # type: ignore[arg-type] # untyped code
        (Bare(), "Bare"),
    ],
    ids=["exception", "unprintable", "bare"],
)
async def test_a_no_is_remembered_whatever_the_handler_put_into_it(no: Rejected, detail: str) -> None:
    service: Service[MemoryData] = Service(Payments, MemoryInbox())

    @service.action(Payments.hold)
    async def hold(request: Hold, tx: MemoryData) -> Held:
        raise no

    assert callable(hold)
    answer = await service.handle(headers(), "hold", BODY)
    assert (answer.status, word(answer), json.loads(answer.body)["detail"]) == (409, "rejected", detail)
    assert await service.handle(headers(), "hold", BODY) == answer


@pytest.mark.parametrize("more", [0, 1])
async def test_a_later_reply_may_have_its_limit_and_not_a_byte_more(more: int) -> None:
    inbox = MemoryInbox()
    service: Service[MemoryData] = Service(Payments, inbox)

    @service.action(Payments.hold)
    async def hold(request: Hold, tx: MemoryData) -> Held:
        raise Later

    assert callable(hold)
    assert word(await service.handle(headers(), "hold", BODY)) == "pending"
    reply = Held("x" * (REPLY_BYTES_MAX + more - len('{"id":""}')))
    with inbox.open() as tx:
        if more:
            with pytest.raises(Exception, match=f"order-42, hold has {REPLY_BYTES_MAX + 1} bytes"):
                service.answer(tx.handle, "order-42:hold:action", reply)
        else:
            assert service.answer(tx.handle, "order-42:hold:action", reply).status == 200


# -- handlers


def later() -> Any:  # noqa: ANN401 - whatever can be awaited
    return asyncio.sleep(0)


class Awaitable:
    def __await__(self) -> Any:  # noqa: ANN401 - as above
        yield


@pytest.mark.parametrize("returned", [later, Awaitable])
async def test_a_plain_handler_that_returns_something_to_await_is_an_error(returned: Any) -> None:  # noqa: ANN401 - as above
    service: Service[MemoryData] = Service(Payments, MemoryInbox())

    def hold(request: Hold, tx: MemoryData) -> Held:
        waits: Held = returned()
        return waits

    service.action(Payments.hold)(hold)
    answer = await service.handle(headers(), "hold", BODY)
    assert (answer.status, word(answer), problem(answer)) == (503, None, "failed")
    assert "TypeError" in json.loads(answer.body)["detail"]
    service.close()


async def test_what_was_returned_unawaited_is_closed_and_the_handler_named() -> None:
    service: Service[MemoryData] = Service(Payments, MemoryInbox())
    kept: list[Any] = []

    def hold(request: Hold, tx: MemoryData) -> Held:
        kept.append(later())
        unawaited: Held = kept[0]
        return unawaited

    service.action(Payments.hold)(hold)
    answer = await service.handle(headers(), "hold", BODY)
    assert json.loads(answer.body)["detail"] == "payments, hold failed with TypeError; nothing was kept."
    assert inspect.getcoroutinestate(kept[0]) == inspect.CORO_CLOSED
    service.close()


async def test_an_undo_reads_the_reply_as_the_operation_that_made_it_says() -> None:
    class Mixed(Participant):
        hold = operation(Hold, Held, compensation="cancel")
        cancel = operation(Hold, int)

    service: Service[MemoryData] = Service(Mixed, MemoryInbox())
    undone: list[object] = []

    async def hold(request: Hold, tx: MemoryData) -> Held:
        return Held("made")

    async def cancel(undo: Undo[Hold, int], tx: MemoryData) -> None:
        undone.append(undo.reply)

    service.action(Mixed.hold)(hold)
    service.compensation(Mixed.cancel)(cancel)
    assert word(await service.handle(headers(), "hold", BODY)) == "succeeded"
    assert word(await service.handle(headers("compensation"), "cancel", UNDO)) == "succeeded"
    assert undone == [Held("made")]


def test_a_handler_in_disguise_is_seen_as_what_it_is() -> None:
    class Object:
        async def __call__(self, request: Hold, tx: MemoryData) -> Held:
            return Held("1")

    class Plain:
        def __call__(self, request: Hold, tx: MemoryData) -> Held:
            return Held("1")

    async def awaited(request: Hold, tx: MemoryData) -> Held:
        return Held("1")

    def wrapper(request: Hold, tx: MemoryData) -> object:
        return awaited(request, tx)

    wrapper.__wrapped__ = awaited  # type: ignore[attr-defined] # as functools.wraps does
    assert [is_async(each) for each in (Object(), Plain(), awaited, wrapper)] == [True, False, True, True]
    assert [name_of_handler(each) for each in (Object(), awaited)] == ["Object", "awaited"]


@pytest.mark.parametrize(
    ("told", "reason", "known"),
    [
        (b'"reply":{"id":"told"},"reply_known":true,"reason":"no"', "no", True),
        (b'"reply":{"id":"told"},"reply_known":false,"reason":7', "", False),
        (b'"reply":{"id":"told"}', "", False),
        (b'"reply_known":true', "", True),
    ],
)
async def test_an_undo_of_work_without_a_reply_is_told_what_the_body_says(
    told: bytes, reason: str, known: bool
) -> None:
    inbox = MemoryInbox()
    service: Service[MemoryData] = Service(Payments, inbox)
    undone: list[Undo[Hold, Held]] = []

    @service.action(Payments.hold)
    async def hold(request: Hold, tx: MemoryData) -> Held:
        raise Later

    @service.compensation(Payments.hold)
    async def unhold(undo: Undo[Hold, Held], tx: MemoryData) -> None:
        undone.append(undo)

    assert callable(hold)
    assert callable(unhold)
    await service.handle(headers(), "hold", BODY)
    body = b'{"request":{"cents":1},' + told + b"}"
    assert word(await service.handle(headers("compensation"), "unhold", body)) == "succeeded"
    reply = Held("told") if b"told" in told else None
    assert undone == [Undo(Hold(1), reply, reply_known=known, reason=reason)]


async def test_pending_work_of_an_operation_that_is_gone_can_still_be_answered() -> None:
    inbox = MemoryInbox()
    row = Row("order-42", "hold", RowState.PENDING, operation="long-gone")
    for each in (row, Row("order-43", "hold", RowState.PENDING)):
        with inbox.open() as tx:
            tx.insert(each)
            answer = Service(Payments, inbox).answer(tx.handle, f"{each.run}:hold:action", {"any": "thing"})
            assert (answer.status, answer.body) == (200, b'{"any":"thing"}')
    with inbox.open() as tx:
        tx.insert(row)
        no = Service(Payments, inbox).answer(tx.handle, "order-42:hold:action", Rejected("gone", code="gone"))
        assert (no.status, word(no)) == (409, "rejected")


@pytest.mark.parametrize("call", ["order-42", "hold", "order-42:hold", "order-42:hold:probe", "order-42:hold:seal", ""])
async def test_an_answer_must_name_the_call_that_it_answers(call: str) -> None:
    inbox = MemoryInbox()
    service = Service(Payments, inbox)
    with inbox.open() as tx:
        tx.insert(Row("order-42", "hold", RowState.PENDING, operation="hold"))
        with pytest.raises(BadKey, match=r"Give answer\(\) the key of the call .* this_call\(\)\.key"):
            service.answer(tx.handle, call, Held("1"))
        with pytest.raises(BadKey, match=r"this_call\(\)\.key"):
            await service.answer_async(tx.handle, call, Held("1"))
        with pytest.raises(TypeError):
            service.answer(tx.handle, "order-42", "hold", Held("1"))  # type: ignore[call-arg] # the point
        info = call_info("order-42", "hold", "", Phase.ACTION, attempt=1, epoch=1)
        assert word(service.answer(tx.handle, info, Held("1"))) == "succeeded"


async def test_answering_pending_work_runs_no_handler() -> None:
    with pytest.raises(AssertionError, match="answering pending work runs no handler"):
        await _no_work_async({}, None)


# -- upkeep


class Counted(MemoryInbox):
    """Says that so many rows were deleted, batch by batch."""

    def __init__(self, *deleted: int) -> None:
        super().__init__()
        self.deleted, self.asked, self.commits = [*deleted], list[tuple[int, int]](), 0

    @override
    def replace(self, content: Any) -> None:
        self.commits += 1
        super().replace(content)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Counted:
    inbox = Counted(5_000, 5_000, 4_999, 1)

    def purge(_tx: MemoryTransaction, age: int, limit: int) -> int:
        inbox.asked.append((age, limit))
        return inbox.deleted.pop(0)

    monkeypatch.setattr(MemoryTransaction, "purge", purge)
    return inbox


@pytest.mark.parametrize("awaits", [False, True])
async def test_a_purge_goes_on_in_small_transactions_until_a_batch_is_not_full(batches: Counted, awaits: bool) -> None:
    service: Service[MemoryData] = Service(Payments, batches)
    hour = timedelta(hours=1)
    assert (await service.purge_async(hour) if awaits else service.purge(hour)) == 14_999
    assert batches.asked == [(3_600_000_000, 5_000)] * 3
    assert (batches.commits, batches.deleted) == (3, [1])


@pytest.mark.parametrize("awaits", [False, True])
async def test_rows_are_kept_for_three_months_unless_told_otherwise(batches: Counted, awaits: bool) -> None:
    batches.deleted = [0]
    service: Service[MemoryData] = Service(Payments, batches)
    assert (await service.purge_async() if awaits else service.purge()) == 0
    assert batches.asked == [(90 * 24 * 3_600_000_000, 5_000)]


@pytest.mark.parametrize("awaits", [False, True])
async def test_rows_of_the_future_can_not_be_purged(awaits: bool) -> None:
    service: Service[MemoryData] = Service(Payments, MemoryInbox())
    moment = timedelta(microseconds=-1)
    with pytest.raises(ValueError, match="rows of the future can't be purged"):
        await service.purge_async(moment) if awaits else service.purge(moment)
    assert (await service.purge_async(timedelta()) if awaits else service.purge(timedelta())) == 0


# -- the door that blocks


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/hold", 405), ("POST", "/nothing", 404), ("POST", "/hold", 400)]
)
def test_a_request_that_is_no_call_never_reaches_the_database_by_wsgi(method: str, path: str, status: int) -> None:
    said: list[str] = []
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(BODY)}
    body = b"".join(blocking(Untouched()).wsgi()(environ, lambda told, _headers: said.append(told)))
    assert said[0].startswith(str(status))
    assert body


def test_a_problem_has_no_more_text_than_is_kept() -> None:
    answer: Answer = paying().admit(headers(), "x" * 500)  # type: ignore[assignment] # it is refused
    assert "x" * 100 in json.loads(answer.body)["detail"]
    assert "x" * 101 not in json.loads(answer.body)["detail"]


# -- threads


async def test_places_in_the_queue_are_given_back_and_are_as_many_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amends.participant.service.WAITING_MAX", 2)
    service: Service[MemoryData] = Service(Payments, MemoryInbox(), threads=2)
    opened = threading.Event()

    def hold(request: Hold, tx: MemoryData) -> Held:
        assert opened.wait(20)
        return Held("1")

    service.action(Payments.hold)(hold)
    for _ in range(3):  # as often as one likes: each call gives its place back
        calls = [asyncio.create_task(service.handle(headers(run=run), "hold", BODY)) for run in ("a-1", "a-2")]
        await asyncio.sleep(0)
        refused = await service.handle(headers(run="a-3"), "hold", BODY)
        assert (refused.status, problem(refused)) == (503, "overloaded")
        opened.set()
        assert [(await call).status for call in calls] == [200, 200]
    service.close()


async def test_closing_waits_for_a_handler_that_runs_and_lets_go_of_the_threads() -> None:
    service: Service[MemoryData] = Service(Payments, MemoryInbox(), threads=1)
    entered, opened, threads, done = threading.Event(), threading.Event(), list[threading.Thread](), list[str]()

    def hold(request: Hold, tx: MemoryData) -> Held:
        threads.append(threading.current_thread())
        entered.set()
        assert opened.wait(20)
        done.append("handler")
        return Held("1")

    service.action(Payments.hold)(hold)
    call = asyncio.create_task(service.handle(headers(), "hold", BODY))
    assert await asyncio.to_thread(entered.wait, 20)
    closing = asyncio.create_task(asyncio.to_thread(service.close))
    closing.add_done_callback(lambda _: done.append("closed"))
    for _ in range(20):
        await asyncio.sleep(0)
    opened.set()
    await closing
    await asyncio.sleep(0)
    assert done == ["handler", "closed"]
    assert not threads[0].is_alive()
    assert (await call).status == 200
    assert (await service.handle(headers(run="order-43"), "hold", BODY)).status == 200, "it may serve again"
    service.close()
