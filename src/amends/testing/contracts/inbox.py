"""What every inbox must do, as tests: subclass `InboxContract`, give it a fixture `bench`, and pytest runs the rest.

A bench says how business rows are written and read in the inbox's own kind of transaction; the suite brings the
service. Handlers are written once and awaited; for an inbox that blocks they are run to their end on the spot, so the
bench of such an inbox must never really wait.
"""
# ruff: noqa: D102, FBT001 - the name of a test says what it protects

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

import pytest

from amends.core.saga.operation import Undo
from amends.core.words.codec import Undecodable
from amends.core.words.errors import CannotCompensate, Later, Rejected, TooLarge
from amends.core.words.limits import REPLY_BYTES_MAX, REQUEST_BYTES_MAX
from amends.participant.barrier import Blocked
from amends.testing.contracts.bench import (
    UNDO,
    Bench,
    BenchReservation,
    Gate,
    Reserve,
    Shop,
    later,
    name_of_problem,
    outcome,
    refuses,
    without_key,
)

Tx = TypeVar("Tx")


class InboxContract(Generic[Tx]):
    """The barrier's promises, kept on this inbox."""

    @pytest.fixture
    def shop(self, bench: Bench[Tx]) -> Shop[Tx]:
        return Shop(bench)

    # -- actions, row by row

    async def test_an_action_acts_once_and_its_answer_is_replayed_byte_for_byte(self, shop: Shop[Tx]) -> None:
        first = await shop.call("action")
        assert outcome(first) == (200, "succeeded")
        assert json.loads(first.body) == {"id": "made-1"}
        assert await shop.call("action") == first
        assert shop.runs == ["run-1:reserve:action"]
        assert await shop.bench.rows() == ["run-1"]

    async def test_the_same_key_with_other_bytes_is_refused(self, shop: Shop[Tx]) -> None:
        await shop.call("action")
        other = await shop.call("action", body=b'{"sku":"sku-2"}')
        assert (outcome(other), name_of_problem(other)) == ((422, None), "key-reused")
        assert len(shop.runs) == 1

    async def test_a_rejection_leaves_no_effect_and_is_replayed(self, shop: Shop[Tx]) -> None:
        async def writes_then_refuses(request: Reserve, tx: Tx) -> None:
            await shop.act(request, tx)
            raise Rejected("out of stock", code="out-of-stock")

        shop.acts = writes_then_refuses
        first = await shop.call("action")
        assert outcome(first) == (409, "rejected")
        said = json.loads(first.body)
        assert (said["type"], said["code"], said["detail"]) == ("urn:amends:rejected", "out-of-stock", "out of stock")
        shop.acts = shop.act
        assert await shop.call("action") == first
        assert len(shop.runs) == 1
        assert await shop.bench.rows() == []

    async def test_a_retriables_rejection_is_not_remembered(self, shop: Shop[Tx]) -> None:
        shop.acts = refuses
        assert outcome(await shop.call("action", kind="retriable")) == (409, "rejected")
        assert await shop.row() is None
        shop.acts = shop.act
        assert outcome(await shop.call("action", kind="retriable")) == (200, "succeeded")

    async def test_pending_work_keeps_what_it_wrote_and_says_so_again(self, shop: Shop[Tx]) -> None:
        async def takes_it_on(request: Reserve, tx: Tx) -> None:
            await shop.act(request, tx)
            raise Later

        shop.acts = takes_it_on
        assert outcome(await shop.call("action")) == (202, "pending")
        assert outcome(await shop.call("action")) == (202, "pending")
        assert len(shop.runs) == 1
        assert await shop.bench.rows() == ["run-1"]

    async def test_an_error_rolls_everything_back_and_the_next_attempt_acts(self, shop: Shop[Tx]) -> None:
        async def breaks(request: Reserve, tx: Tx) -> None:
            await shop.act(request, tx)
            raise ValueError("4111 1111 1111 1111")

        shop.acts = breaks
        answer = await shop.call("action")
        assert outcome(answer) == (503, None)
        assert b"4111" not in answer.body
        assert await shop.row() is None
        assert await shop.bench.rows() == []
        shop.acts = shop.act
        assert outcome(await shop.call("action")) == (200, "succeeded")

    async def test_a_reply_that_is_too_large_leaves_no_effect_and_is_a_no(self, shop: Shop[Tx]) -> None:
        async def says_too_much(request: Reserve, tx: Tx) -> BenchReservation:
            await shop.act(request, tx)
            return BenchReservation("x" * REPLY_BYTES_MAX)

        shop.acts = says_too_much
        answer = await shop.call("action")
        assert (outcome(answer), name_of_problem(answer)) == ((409, "rejected"), "reply-too-large")
        assert await shop.bench.rows() == []
        assert await shop.call("action") == answer

    async def test_a_reply_of_another_type_is_an_error_and_nothing_is_kept(self, shop: Shop[Tx]) -> None:
        async def forgets_the_reply(request: Reserve, tx: Tx) -> None:
            await shop.act(request, tx)

        shop.acts = forgets_the_reply
        assert outcome(await shop.call("action")) == (422, None)
        assert await shop.row() is None
        assert await shop.bench.rows() == []

    async def test_a_request_that_does_not_decode_is_refused_and_leaves_no_row(self, shop: Shop[Tx]) -> None:
        answer = await shop.call("action", body=b'{"sku":7}')
        assert (outcome(answer), name_of_problem(answer)) == ((400, None), "request-invalid")
        assert "$.sku" in json.loads(answer.body)["detail"]
        assert await shop.row() is None
        assert shop.runs == []

    async def test_a_body_over_the_limit_never_reaches_the_database(self, shop: Shop[Tx]) -> None:
        answer = await shop.call("action", body=b" " * (REQUEST_BYTES_MAX + 1))
        assert (outcome(answer), name_of_problem(answer)) == ((413, None), "too-large")
        assert await shop.row() is None

    @pytest.mark.parametrize("how", ["commit", "rollback"])
    @pytest.mark.parametrize("swallowed", [False, True])
    async def test_a_handler_that_ends_the_transaction_is_caught_and_nothing_is_written(
        self, shop: Shop[Tx], how: str, swallowed: bool
    ) -> None:
        if not shop.bench.refuses_commits:
            pytest.skip("there is nothing a handler could end")

        async def ends(request: Reserve, tx: Tx) -> BenchReservation:
            made = await shop.act(request, tx)
            try:
                await shop.bench.end(tx, how)
            except Exception:
                if not swallowed:
                    raise
            return made

        shop.acts = ends
        answer = await shop.call("action")
        assert (outcome(answer), name_of_problem(answer)) == ((500, None), "handler-committed")
        assert await shop.row() is None
        assert await shop.bench.rows() == []

    async def test_items_of_a_step_live_their_own_lives(self, shop: Shop[Tx]) -> None:
        for item in ("a", "b"):
            key = f"run-1:reserve/{item}:action"
            assert outcome(await shop.call("action", Idempotency_Key=key)) == (200, "succeeded")
        assert len(shop.runs) == 2

    async def test_the_epoch_is_kept_with_the_row(self, shop: Shop[Tx]) -> None:
        await shop.call("action", Saga_Epoch="12")
        await shop.call("compensation", Saga_Epoch="13")
        row = await shop.row()
        assert row is not None
        assert row.epoch == 13

    # -- twins

    async def test_many_twins_at_once_act_once(self, shop: Shop[Tx]) -> None:
        answers = await asyncio.gather(*[shop.call("action") for _ in range(8)])
        assert len(shop.runs) == 1
        assert await shop.bench.rows() == ["run-1"]
        assert {outcome(each) for each in answers} <= {(200, "succeeded"), (409, None)}
        assert len({each.body for each in answers if each.status == 200}) == 1

    async def test_a_twin_waits_for_the_first_and_gets_its_answer(self, shop: Shop[Tx]) -> None:
        gate = Gate()
        shop.acts = gate.around(shop)
        first = asyncio.create_task(shop.call("action"))
        await gate.entered_by_somebody()
        twin = asyncio.create_task(shop.call("action"))
        await asyncio.sleep(0)
        gate.open()
        assert outcome(await first) == (200, "succeeded")
        answer = await twin
        assert answer == await first
        assert len(shop.runs) == 1

    async def test_a_twin_that_waited_too_long_is_told_to_come_back(self, shop: Shop[Tx]) -> None:
        gate = Gate()
        shop.acts = gate.around(shop)
        first = asyncio.create_task(shop.call("action"))
        await gate.entered_by_somebody()
        twin = await shop.call("action")
        assert (outcome(twin), name_of_problem(twin)) == ((409, None), "in-progress")
        assert twin.headers["retry-after"] == "1"
        gate.open()
        assert outcome(await first) == (200, "succeeded")
        assert len(shop.runs) == 1

    async def test_a_compensation_waits_for_the_running_action_and_undoes_it(self, shop: Shop[Tx]) -> None:
        gate = Gate()
        shop.acts = gate.around(shop)
        action = asyncio.create_task(shop.call("action"))
        await gate.entered_by_somebody()
        undo = asyncio.create_task(shop.call("compensation"))
        await asyncio.sleep(0)
        gate.open()
        assert outcome(await action) == (200, "succeeded")
        assert outcome(await undo) == (200, "succeeded")
        assert shop.undone[0].made == BenchReservation("made-1")
        assert await shop.bench.rows() == []

    async def test_a_cancelled_call_leaves_nothing_behind(self, shop: Shop[Tx]) -> None:
        if shop.bench.blocks:
            pytest.skip("a thread can't be cancelled: its call goes on and is replayed")
        gate = Gate()
        shop.acts = gate.around(shop)
        call = asyncio.create_task(shop.call("action"))
        await gate.entered_by_somebody()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await shop.row() is None
        assert await shop.bench.rows() == []

    # -- compensations, row by row

    async def test_an_empty_compensation_is_a_noop_and_blocks_the_late_action(self, shop: Shop[Tx]) -> None:
        assert outcome(await shop.call("compensation")) == (200, "noop")
        assert outcome(await shop.call("compensation")) == (200, "noop")
        late = await shop.call("action")
        assert (outcome(late), name_of_problem(late)) == ((410, "blocked"), "blocked")
        assert shop.runs == []
        assert shop.undone == []

    async def test_a_compensation_undoes_once_with_the_reply_stored_here(self, shop: Shop[Tx]) -> None:
        await shop.call("action")
        first = await shop.call("compensation")
        assert outcome(first) == (200, "succeeded")
        assert shop.undone == [
            Undo(Reserve("sku-1"), BenchReservation("made-1"), reply_known=True, reason="hold said no")
        ]
        assert await shop.bench.rows() == []
        assert await shop.call("compensation") == first
        assert len(shop.undone) == 1

    async def test_an_action_after_its_undo_is_blocked_and_never_gets_the_stored_success(self, shop: Shop[Tx]) -> None:
        await shop.call("action")
        await shop.call("compensation")
        assert outcome(await shop.call("action")) == (410, "blocked")
        assert outcome(await shop.call("action", body=b'{"sku":"other"}')) == (410, "blocked")
        assert len(shop.runs) == 1

    async def test_a_compensation_with_other_bytes_is_refused(self, shop: Shop[Tx]) -> None:
        await shop.call("action")
        await shop.call("compensation")
        other = await shop.call("compensation", body=UNDO.replace(b"hold", b"ship"))
        assert (outcome(other), name_of_problem(other)) == ((422, None), "key-reused")

    async def test_undoing_a_rejected_action_is_a_noop(self, shop: Shop[Tx]) -> None:
        shop.acts = refuses
        rejection = await shop.call("action")
        assert outcome(await shop.call("compensation")) == (200, "noop")
        assert outcome(await shop.call("compensation", body=UNDO + b" ")) == (422, None)
        assert await shop.call("action") == rejection
        assert shop.undone == []

    async def test_pending_work_is_undone_without_a_reply(self, shop: Shop[Tx]) -> None:
        shop.acts = later
        await shop.call("action")
        assert outcome(await shop.call("compensation")) == (200, "succeeded")
        assert [undo.reply for undo in shop.undone] == [None]
        assert outcome(await shop.call("action")) == (410, "blocked")

    async def test_an_undo_that_takes_time_is_pending_and_not_run_again(self, shop: Shop[Tx]) -> None:
        await shop.call("action")
        shop.undoes = later
        assert outcome(await shop.call("compensation")) == (202, "pending")
        assert outcome(await shop.call("compensation")) == (202, "pending")
        assert outcome(await shop.call("action")) == (410, "blocked")
        assert len(shop.undone) == 1

    @pytest.mark.parametrize("refusal", [Rejected("no"), CannotCompensate("shipped", code="shipped")])
    async def test_an_undo_that_is_refused_is_not_remembered(
        self, shop: Shop[Tx], refusal: Rejected | CannotCompensate
    ) -> None:
        async def undoes_then_refuses(undo: Undo[Reserve, BenchReservation], tx: Tx) -> None:
            await shop.undo(undo, tx)
            raise refusal

        await shop.call("action")
        shop.undoes = undoes_then_refuses
        answer = await shop.call("compensation")
        assert (outcome(answer), name_of_problem(answer)) == ((409, "cannot-compensate"), "cannot-compensate")
        assert await shop.bench.rows() == ["run-1"]
        shop.undoes = shop.undo
        assert outcome(await shop.call("compensation")) == (200, "succeeded")

    async def test_an_undo_that_breaks_is_rolled_back_and_run_again(self, shop: Shop[Tx]) -> None:
        async def breaks(undo: Undo[Reserve, BenchReservation], tx: Tx) -> None:
            await shop.undo(undo, tx)
            raise ValueError

        await shop.call("action")
        shop.undoes = breaks
        assert outcome(await shop.call("compensation")) == (503, None)
        assert await shop.bench.rows() == ["run-1"]
        shop.undoes = shop.undo
        assert outcome(await shop.call("compensation")) == (200, "succeeded")
        assert len(shop.undone) == 2

    # -- the fence

    @pytest.mark.parametrize("state", ["succeeded", "pending"])
    async def test_a_former_owners_undo_of_what_a_later_owner_had_done_is_refused(
        self, shop: Shop[Tx], state: str
    ) -> None:
        if state == "pending":
            shop.acts = later
        await shop.call("action", Saga_Epoch="3")
        before = await shop.row()
        stale = await shop.call("compensation", Saga_Epoch="2")
        assert (outcome(stale), name_of_problem(stale)) == ((412, None), "stale-epoch")
        assert "owner 3" in json.loads(stale.body)["detail"]
        assert await shop.row() == before
        assert shop.undone == []
        assert outcome(await shop.call("compensation", Saga_Epoch="3")) == (200, "succeeded")
        assert len(shop.undone) == 1

    async def test_replays_are_for_every_owner(self, shop: Shop[Tx]) -> None:
        made = await shop.call("action", Saga_Epoch="3")
        assert await shop.call("action", Saga_Epoch="2") == made
        assert await shop.call("seal", Saga_Epoch="2") == made
        undone = await shop.call("compensation", Saga_Epoch="4")
        assert await shop.call("compensation", Saga_Epoch="2") == undone
        assert outcome(await shop.call("compensation", run="run-2", Saga_Epoch="5")) == (200, "noop")
        assert outcome(await shop.call("compensation", run="run-2", Saga_Epoch="4")) == (200, "noop")
        assert len(shop.undone) == 1

    async def test_an_undo_leaves_the_epoch_of_whoever_undid(self, shop: Shop[Tx]) -> None:
        await shop.call("action", Saga_Epoch="2")
        await shop.call("compensation", Saga_Epoch="7")
        row = await shop.row()
        assert row is not None
        assert row.epoch == 7

    # -- probe and seal

    async def test_a_probe_tells_and_changes_nothing(self, shop: Shop[Tx]) -> None:
        assert outcome(await shop.call("probe")) == (200, "noop")
        assert await shop.row() is None
        made = await shop.call("action")
        assert await shop.call("probe") == made
        await shop.call("compensation")
        assert outcome(await shop.call("probe")) == (410, "blocked")

    async def test_a_seal_on_nothing_makes_a_late_action_impossible(self, shop: Shop[Tx]) -> None:
        assert outcome(await shop.call("seal")) == (200, "noop")
        assert outcome(await shop.call("action")) == (410, "blocked")
        assert outcome(await shop.call("seal")) == (410, "blocked")
        assert outcome(await shop.call("compensation")) == (200, "noop")
        assert shop.runs == []

    async def test_a_seal_tells_what_happened(self, shop: Shop[Tx]) -> None:
        made = await shop.call("action")
        assert await shop.call("seal") == made
        shop.acts = refuses
        rejection = await shop.call("action", run="run-2")
        assert await shop.call("seal", run="run-2") == rejection
        shop.acts = later
        await shop.call("action", run="run-3")
        assert outcome(await shop.call("seal", run="run-3")) == (202, "pending")

    async def test_a_seal_as_undone_says_what_is_to_be_undone_by_hand_and_keeps_saying_it(self, shop: Shop[Tx]) -> None:
        made = await shop.call("action")
        sealed = await shop.call("seal", Saga_Seal="undone")
        assert (outcome(sealed), sealed.body) == ((200, "succeeded"), made.body)
        assert await shop.call("seal", Saga_Seal="undone") == sealed
        assert outcome(await shop.call("compensation")) == (200, "noop")
        assert outcome(await shop.call("action")) == (410, "blocked")
        assert shop.undone == []
        assert await shop.bench.rows() == ["run-1"]

    async def test_a_seal_as_undone_finds_nothing_to_undo(self, shop: Shop[Tx]) -> None:
        assert outcome(await shop.call("seal", Saga_Seal="undone")) == (200, "noop")
        assert outcome(await shop.call("seal", Saga_Seal="undone")) == (200, "noop")
        shop.acts = refuses
        await shop.call("action", run="run-2")
        assert outcome(await shop.call("seal", run="run-2", Saga_Seal="undone")) == (200, "noop")

    async def test_a_seal_as_undone_of_what_was_undone_is_blocked(self, shop: Shop[Tx]) -> None:
        await shop.call("action")
        await shop.call("compensation")
        assert outcome(await shop.call("seal", Saga_Seal="undone")) == (410, "blocked")

    async def test_a_seal_as_undone_ends_pending_work_on_either_way(self, shop: Shop[Tx]) -> None:
        shop.acts = later
        await shop.call("action")
        assert outcome(await shop.call("seal", Saga_Seal="undone")) == (200, "succeeded")
        with pytest.raises(Blocked):
            await shop.answer(BenchReservation("late"))
        shop.acts, shop.undoes = shop.act, later
        made = await shop.call("action", run="run-2")
        await shop.call("compensation", run="run-2")
        sealed = await shop.call("seal", run="run-2", Saga_Seal="undone")
        assert (outcome(sealed), sealed.body) == ((200, "succeeded"), made.body)

    async def test_a_seal_as_rejected_ends_pending_work(self, shop: Shop[Tx]) -> None:
        shop.acts = later
        await shop.call("action")
        sealed = await shop.call("seal", Saga_Seal="rejected")
        assert outcome(sealed) == (409, "rejected")
        assert await shop.call("seal", Saga_Seal="rejected") == sealed
        assert await shop.call("action") == sealed
        with pytest.raises(Blocked):
            await shop.answer(BenchReservation("late"))
        assert await shop.bench.rows() == []

    async def test_a_seal_as_rejected_tells_a_person_who_is_wrong(self, shop: Shop[Tx]) -> None:
        made = await shop.call("action")
        assert await shop.call("seal", Saga_Seal="rejected") == made
        assert outcome(await shop.call("seal", run="run-2", Saga_Seal="rejected")) == (200, "noop")
        assert outcome(await shop.call("action", run="run-2")) == (410, "blocked")

    # -- pending work

    async def test_answering_pending_work_is_one_transaction_with_the_business_change(self, shop: Shop[Tx]) -> None:
        shop.acts = later
        await shop.call("action")
        said = await shop.answer(BenchReservation("in the end"))
        assert (outcome(said), said.headers["idempotency-key"]) == ((200, "succeeded"), '"run-1:reserve:action"')
        assert without_key(said) == await shop.call("action")
        assert await shop.bench.rows() == ["answered"]
        with pytest.raises(Blocked):
            await shop.answer(BenchReservation("twice"), write="twice")
        assert await shop.bench.rows() == ["answered"]

    async def test_an_answer_of_another_type_or_too_large_changes_nothing(self, shop: Shop[Tx]) -> None:
        shop.acts = later
        await shop.call("action")
        with pytest.raises(Undecodable):
            await shop.answer(["no", "reservation"])
        with pytest.raises(TooLarge):
            await shop.answer(BenchReservation("x" * REPLY_BYTES_MAX))
        assert outcome(await shop.call("action")) == (202, "pending")
        assert await shop.bench.rows() == []

    async def test_a_pending_no_is_remembered(self, shop: Shop[Tx]) -> None:
        shop.acts = later
        await shop.call("action")
        said = await shop.answer(Rejected("sold out", code="sold-out"))
        assert outcome(said) == (409, "rejected")
        assert without_key(said) == await shop.call("action")

    async def test_a_retriables_pending_no_is_forgotten(self, shop: Shop[Tx]) -> None:
        shop.acts = later
        await shop.call("action", kind="retriable")
        assert outcome(await shop.answer(Rejected("not today"))) == (409, "rejected")
        shop.acts = shop.act
        assert outcome(await shop.call("action", kind="retriable")) == (200, "succeeded")

    async def test_answering_what_was_undone_is_blocked_and_changes_nothing(self, shop: Shop[Tx]) -> None:
        shop.acts = later
        await shop.call("action")
        await shop.call("compensation")
        with pytest.raises(Blocked):
            await shop.answer(BenchReservation("late"))
        assert await shop.bench.rows() == []

    async def test_answering_what_was_never_asked_is_blocked(self, shop: Shop[Tx]) -> None:
        with pytest.raises(Blocked):
            await shop.answer(BenchReservation("early"))
        assert await shop.bench.rows() == []

    async def test_a_pending_undo_is_answered(self, shop: Shop[Tx]) -> None:
        await shop.call("action")
        shop.undoes = later
        await shop.call("compensation")
        assert outcome(await shop.answer(None, phase="compensation")) == (200, "succeeded")
        assert outcome(await shop.call("compensation")) == (200, "succeeded")
        assert len(shop.undone) == 1

    async def test_completion_of_an_action_never_settles_its_pending_undo(self, shop: Shop[Tx]) -> None:
        shop.acts = shop.undoes = later
        await shop.call("action")
        assert outcome(await shop.call("compensation")) == (202, "pending")
        with pytest.raises(Blocked):
            await shop.answer(BenchReservation("late"))
        assert await shop.bench.rows() == []
        assert outcome(await shop.call("compensation")) == (202, "pending")
        assert outcome(await shop.answer(None, phase="compensation")) == (200, "succeeded")

    async def test_completion_of_an_undo_never_settles_a_pending_action(self, shop: Shop[Tx]) -> None:
        shop.acts = later
        await shop.call("action")
        with pytest.raises(Blocked):
            await shop.answer(None, phase="compensation")
        assert await shop.bench.rows() == []
        assert outcome(await shop.call("action")) == (202, "pending")

    async def test_a_pending_undo_that_fails_can_be_tried_again(self, shop: Shop[Tx]) -> None:
        await shop.call("action")
        shop.undoes = later
        await shop.call("compensation")
        assert outcome(await shop.answer(Rejected("shipped"), phase="compensation")) == (409, "cannot-compensate")
        row = await shop.row()
        assert row is not None
        assert row.compensation_print is None
        shop.undoes = shop.undo
        assert outcome(await shop.call("compensation")) == (200, "succeeded")
        assert shop.undone[1].made == BenchReservation("made-1")

    # -- purging

    @pytest.mark.parametrize("phase", ["action", "compensation", "seal"])
    async def test_what_may_have_been_purged_is_never_taken_for_new(self, shop: Shop[Tx], phase: str) -> None:
        await shop.call("action")
        await shop.purge()
        assert await shop.row() is None
        answer = await shop.call(phase)
        assert (outcome(answer), name_of_problem(answer)) == ((409, None), "barrier-expired")
        assert await shop.row() is None
        assert len(shop.runs) == 1

    async def test_calls_newer_than_the_mark_are_answered_as_ever(self, shop: Shop[Tx]) -> None:
        await shop.purge()
        fresh = datetime.now(UTC) + timedelta(hours=2)
        assert outcome(await shop.call("action", since=fresh)) == (200, "succeeded")
        assert outcome(await shop.call("compensation", run="run-2", since=fresh)) == (200, "noop")

    async def test_a_purge_keeps_what_is_younger_and_never_moves_the_mark_back(self, shop: Shop[Tx]) -> None:
        await shop.call("action")
        hour = timedelta(hours=1)
        service = shop.service
        assert (service.purge(hour) if shop.bench.blocks else await service.purge_async(hour)) == 0
        assert outcome(await shop.call("action")) == (200, "succeeded")
        await shop.purge()
        assert (service.purge(hour) if shop.bench.blocks else await service.purge_async(hour)) == 0
        assert outcome(await shop.call("action")) == (409, None)

    # -- the inbox itself

    async def test_without_its_table_the_call_waits_and_the_remedy_is_named(self, shop: Shop[Tx]) -> None:
        try:
            await shop.bench.drop()
        except NotImplementedError:
            pytest.skip("this inbox has no table")
        answer = await shop.call("action")
        assert (outcome(answer), name_of_problem(answer)) == ((503, None), "barrier-missing")
        assert "amends_barrier does not exist" in json.loads(answer.body)["detail"]

    async def test_an_unknown_error_means_nothing(self, shop: Shop[Tx]) -> None:
        assert shop.bench.inbox.classify(ValueError()) is None
