"""The barrier's programs, row by row, without any inbox: given a row, when a call comes, then these steps only.

The contract of inboxes says the same of every database, by what it answers. Here it is said to the letter: what is
written, in which order, and whether it is committed.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from amends.core.words.errors import CannotCompensate
from amends.core.words.keys import Phase
from amends.core.words.retry import Kind
from amends.participant.barrier import LATE_MICROSECONDS, Blocked
from amends.participant.effects import Done, Ended, HandlerRefused, Postponed, TooMuch
from amends.participant.response import Answer
from amends.ports.inbox import (
    Busy,
    Delete,
    Insert,
    Read,
    Release,
    RollBack,
    Row,
    RowState,
    Savepoint,
    Step,
    Update,
    Work,
)
from tests.fast.participant.barrier_walks import (
    BLOCKED,
    BY_HAND,
    COMMITTED,
    COMPENSATED,
    COMPENSATING,
    LOCK,
    NEW,
    NO,
    NOTHING,
    OTHER,
    PENDING,
    PRINT,
    PURGED,
    REJECTED,
    REPLY,
    REUSED,
    SINCE,
    STORED,
    STORED_NO,
    SUCCEEDED,
    TOMBSTONE,
    WAITS,
    Database,
    answered,
    call,
    detail,
    judged,
    said_of,
)

# -- the action


def test_an_action_that_returns_is_stored_with_its_reply_and_committed() -> None:
    verdict, steps = judged(Database(ended=Done(REPLY)), call("action"))
    stored = replace(NEW, state=RowState.SUCCEEDED, reply_status=200, reply_type="application/json", reply=REPLY)
    assert steps == [Insert(NEW), PURGED, Savepoint(), Work(None), Release(), Update(stored)]
    assert (verdict.outcome, verdict.commit) == ("succeeded", True)
    assert said_of(verdict.answer) == (200, REPLY.decode(), None)


def test_an_action_that_answers_later_is_stored_as_pending_without_a_reply() -> None:
    verdict, steps = judged(Database(ended=Postponed()), call("action"))
    pending = replace(NEW, state=RowState.PENDING)
    assert steps == [Insert(NEW), PURGED, Savepoint(), Work(None), Release(), Update(pending)]
    assert (verdict.outcome, verdict.commit) == ("pending", True)
    assert said_of(verdict.answer) == WAITS


def test_a_no_keeps_the_row_and_nothing_of_what_the_handler_wrote() -> None:
    verdict, steps = judged(Database(ended=HandlerRefused(NO)), call("action"))
    assert said_of(verdict.answer) == (409, "rejected", "sold-out")
    assert detail(verdict.answer) == "sold out"
    stored = replace(
        NEW,
        state=RowState.REJECTED,
        reply_status=409,
        reply_type="application/problem+json",
        reply=verdict.answer.body,
    )
    assert steps == [Insert(NEW), PURGED, Savepoint(), Work(None), RollBack(), Update(stored)]
    assert (verdict.outcome, verdict.commit) == ("rejected", True)


def test_a_reply_over_the_limit_is_a_no_that_names_both_sizes() -> None:
    verdict, steps = judged(Database(ended=TooMuch(2_000_000)), call("action"))
    assert said_of(verdict.answer) == (409, "reply-too-large", "reply-too-large")
    assert "2000000 bytes" in detail(verdict.answer)
    assert steps[-2] == RollBack()
    assert isinstance(steps[-1], Update)
    assert steps[-1].row.state is RowState.REJECTED
    assert (verdict.outcome, verdict.commit) == ("rejected", True)


@pytest.mark.parametrize("ended", [HandlerRefused(NO), TooMuch(2_000_000)])
def test_a_retriables_no_is_forgotten_with_everything_else(ended: Ended) -> None:
    verdict, steps = judged(Database(ended=ended), call("action", kind=Kind.RETRIABLE))
    assert (verdict.outcome, verdict.commit) == ("rejected", False)
    assert steps == [Insert(replace(NEW, kind=Kind.RETRIABLE)), PURGED, Savepoint(), Work(None)]


@pytest.mark.parametrize("ended", [Done(REPLY), Postponed(), HandlerRefused(NO), TooMuch(2_000_000)])
def test_an_action_that_ended_the_transaction_itself_is_not_stored_however_it_ended(ended: Ended) -> None:
    verdict, steps = judged(Database(ended=ended, keeps=False), call("action"))
    assert (verdict.outcome, verdict.commit) == (None, False)
    assert said_of(verdict.answer) == COMMITTED
    assert detail(verdict.answer).startswith("reserve ended the transaction itself")
    assert steps[-1] in {Release(), RollBack()}


@pytest.mark.parametrize(
    ("row", "outcome", "said"),
    [
        (PENDING, "pending", WAITS),
        (SUCCEEDED, "succeeded", STORED),
        (REJECTED, "rejected", STORED_NO),
        (TOMBSTONE, "blocked", BLOCKED),
        (COMPENSATING, "blocked", BLOCKED),
        (COMPENSATED, "blocked", BLOCKED),
        (BY_HAND, "blocked", BLOCKED),
        (NEW, None, COMMITTED),
        (replace(PENDING, request_print=OTHER), None, REUSED),
        (replace(SUCCEEDED, request_print=OTHER), None, REUSED),
        (replace(REJECTED, request_print=OTHER), None, REUSED),
        (replace(COMPENSATING, request_print=OTHER), "blocked", BLOCKED),
        (replace(COMPENSATED, request_print=OTHER), "blocked", BLOCKED),
    ],
)
def test_an_action_that_meets_a_row_is_answered_from_it_and_writes_nothing(
    row: Row, outcome: str | None, said: tuple[int, str, str | None]
) -> None:
    verdict, steps = judged(Database(row), call("action"))
    assert steps == [Insert(NEW), LOCK]
    assert (verdict.outcome, verdict.commit, said_of(verdict.answer)) == (outcome, False, said)


def test_what_is_told_of_a_refusal_names_the_call() -> None:
    blocked, _ = judged(Database(COMPENSATED), call("action"))
    assert detail(blocked.answer).startswith("run-1, reserve is compensated:")
    reused, _ = judged(Database(replace(SUCCEEDED, request_print=OTHER)), call("action"))
    assert detail(reused.answer).startswith("run-1:reserve:action:")


def test_a_stored_answer_comes_back_with_its_type() -> None:
    stored, _ = judged(Database(SUCCEEDED), call("action"))
    assert stored.answer == Answer(201, {"content-type": "application/stored"}, REPLY)
    untyped, _ = judged(Database(replace(SUCCEEDED, reply_type=None)), call("action"))
    assert untyped.answer == Answer(201, {"content-type": "application/json"}, REPLY)


@pytest.mark.parametrize("without", [replace(SUCCEEDED, reply_status=None), replace(SUCCEEDED, reply=None)])
def test_a_stored_success_without_an_answer_is_an_empty_one(without: Row) -> None:
    verdict, _ = judged(Database(without), call("action"))
    assert said_of(verdict.answer) == NOTHING


# -- what may have been purged


@pytest.mark.parametrize("phase", ["action", "compensation", "seal"])
@pytest.mark.parametrize(
    ("mark", "expired"),
    [
        (0, False),
        (1, False),  # ten thousand seconds before the call
        (SINCE - LATE_MICROSECONDS - 1, False),
        (SINCE - LATE_MICROSECONDS, True),
        (SINCE, True),
        (SINCE + 1, True),
    ],
)
def test_a_call_is_refused_from_an_hour_after_the_mark_downwards(phase: str, mark: int, expired: bool) -> None:
    assert LATE_MICROSECONDS == 3_600_000_000
    verdict, steps = judged(Database(ended=Done(REPLY), purged_through=mark), call(phase))
    assert steps[1] == PURGED
    if expired:
        assert (verdict.outcome, verdict.commit) == (None, False)
        assert said_of(verdict.answer) == (409, "barrier-expired", "barrier-expired")
        assert len(steps) == 2
    else:
        assert (verdict.outcome, verdict.commit) == ("succeeded" if phase == "action" else "noop", True)


def test_any_mark_counts_be_it_as_old_as_time() -> None:
    verdict, _ = judged(Database(purged_through=1), call("seal", since=1))
    assert said_of(verdict.answer) == (409, "barrier-expired", "barrier-expired")


# -- the compensation


def test_an_undo_of_nothing_leaves_the_tombstone_with_its_print() -> None:
    verdict, steps = judged(Database(), call("compensation"))
    assert steps == [Insert(replace(TOMBSTONE, compensation_print=PRINT)), PURGED]
    assert (verdict.outcome, verdict.commit, said_of(verdict.answer)) == ("noop", True, NOTHING)


@pytest.mark.parametrize("row", [SUCCEEDED, PENDING])
def test_an_undo_is_given_the_row_and_stored_beside_the_reply(row: Row) -> None:
    verdict, steps = judged(Database(row, Done(b'"gone"')), call("compensation", epoch=9))
    undone = replace(row, state=RowState.COMPENSATED, compensation_print=PRINT, compensation_reply=b'"gone"', epoch=9)
    assert steps[1:] == [LOCK, Savepoint(), Work(row), Release(), Update(undone)]
    assert (verdict.outcome, verdict.commit) == ("succeeded", True)
    assert said_of(verdict.answer) == (200, '"gone"', None)


def test_an_undo_that_takes_time_is_stored_without_a_reply_of_its_own() -> None:
    verdict, steps = judged(Database(SUCCEEDED, Postponed()), call("compensation", epoch=7))
    compensating = replace(SUCCEEDED, state=RowState.COMPENSATING, compensation_print=PRINT)
    assert steps[1:] == [LOCK, Savepoint(), Work(SUCCEEDED), Release(), Update(compensating)]
    assert (verdict.outcome, verdict.commit, said_of(verdict.answer)) == ("pending", True, WAITS)


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (HandlerRefused(NO), (409, "cannot-compensate", "sold-out")),
        (HandlerRefused(CannotCompensate("shipped", code="gone")), (409, "cannot-compensate", "gone")),
        (TooMuch(2_000_000), (409, "reply-too-large", "reply-too-large")),
    ],
)
def test_an_undo_that_says_no_is_not_remembered(ended: Ended, said: tuple[int, str, str | None]) -> None:
    verdict, steps = judged(Database(SUCCEEDED, ended), call("compensation", epoch=7))
    assert steps[1:] == [LOCK, Savepoint(), Work(SUCCEEDED)]
    assert (verdict.outcome, verdict.commit, said_of(verdict.answer)) == ("cannot-compensate", False, said)


@pytest.mark.parametrize("ended", [Done(REPLY), Postponed()])
def test_an_undo_that_ended_the_transaction_itself_is_not_stored(ended: Ended) -> None:
    verdict, steps = judged(Database(SUCCEEDED, ended, keeps=False), call("compensation", epoch=7))
    assert steps[-1] == Release()
    assert (verdict.outcome, verdict.commit, said_of(verdict.answer)) == (None, False, COMMITTED)


@pytest.mark.parametrize("row", [SUCCEEDED, PENDING])
@pytest.mark.parametrize(("epoch", "refused"), [(0, True), (6, True), (7, False), (8, False)])
def test_business_code_is_not_run_for_an_owner_before_the_one_that_wrote_the_row(
    row: Row, epoch: int, *, refused: bool
) -> None:
    verdict, steps = judged(Database(row, Done(REPLY)), call("compensation", epoch=epoch))
    if refused:
        assert steps[1:] == [LOCK]
        assert (verdict.outcome, verdict.commit) == (None, False)
        assert said_of(verdict.answer) == (412, "stale-epoch", "stale-epoch")
    else:
        assert Work(row) in steps
        assert (verdict.outcome, verdict.commit) == ("succeeded", True)


@pytest.mark.parametrize("row", [TOMBSTONE, REJECTED])
def test_the_first_undo_of_nothing_leaves_its_print_and_the_next_writes_nothing(row: Row) -> None:
    verdict, steps = judged(Database(row), call("compensation", epoch=9))
    with_print = replace(row, compensation_print=PRINT)
    assert steps[1:] == [LOCK, Update(with_print)], "the epoch is written with a change of state only"
    assert (verdict.outcome, verdict.commit, said_of(verdict.answer)) == ("noop", True, NOTHING)
    verdict, steps = judged(Database(with_print), call("compensation"))
    assert steps[1:] == [LOCK]
    assert (verdict.outcome, verdict.commit, said_of(verdict.answer)) == ("noop", False, NOTHING)


@pytest.mark.parametrize(
    ("row", "outcome", "said"),
    [
        (COMPENSATED, "succeeded", (200, '"undone"', None)),
        (BY_HAND, "noop", NOTHING),
        (COMPENSATING, "pending", WAITS),
        (NEW, None, COMMITTED),
        (replace(COMPENSATED, compensation_print=OTHER), None, REUSED),
        (replace(COMPENSATING, compensation_print=OTHER), None, REUSED),
        (replace(TOMBSTONE, compensation_print=OTHER), None, REUSED),
        (replace(SUCCEEDED, compensation_print=OTHER), None, REUSED),
    ],
)
def test_an_undo_that_is_over_or_under_way_is_answered_from_the_row(
    row: Row, outcome: str | None, said: tuple[int, str, str | None]
) -> None:
    verdict, steps = judged(Database(row), call("compensation"))
    assert steps[1:] == [LOCK]
    assert (verdict.outcome, verdict.commit, said_of(verdict.answer)) == (outcome, False, said)


# -- probe and seal


WHAT_HAPPENED: Sequence[tuple[Row, str | None, tuple[int, str, str | None]]] = [
    (SUCCEEDED, "succeeded", STORED),
    (REJECTED, "rejected", STORED_NO),
    (PENDING, "pending", WAITS),
    (TOMBSTONE, "blocked", BLOCKED),
    (COMPENSATING, "blocked", BLOCKED),
    (COMPENSATED, "blocked", BLOCKED),
    (NEW, None, COMMITTED),
]


@pytest.mark.parametrize(("row", "outcome", "said"), WHAT_HAPPENED)
def test_a_probe_and_a_seal_tell_what_happened(
    row: Row, outcome: str | None, said: tuple[int, str, str | None]
) -> None:
    probed, read = judged(Database(row), call("probe"))
    sealed, locked = judged(Database(row), call("seal"))
    assert read == [Read("run-1", "reserve")]
    assert locked == [Insert(TOMBSTONE), LOCK]
    for verdict in (probed, sealed):
        assert (verdict.outcome, verdict.commit, said_of(verdict.answer)) == (outcome, False, said)


def test_a_probe_of_nothing_writes_nothing_and_a_seal_leaves_the_tombstone() -> None:
    probed, read = judged(Database(), call("probe"))
    assert (read, probed.outcome, probed.commit) == ([Read("run-1", "reserve")], "noop", False)
    assert said_of(probed.answer) == NOTHING
    for seal in (None, "undone", "rejected"):
        sealed, steps = judged(Database(), call("seal", seal=seal))
        assert (steps, sealed.outcome, sealed.commit) == ([Insert(TOMBSTONE), PURGED], "noop", True)
        assert said_of(sealed.answer) == NOTHING


def test_a_seal_as_rejected_settles_what_is_pending() -> None:
    verdict, steps = judged(Database(PENDING), call("seal", seal="rejected", epoch=9))
    assert said_of(verdict.answer) == (409, "rejected", "resolved-by-hand")
    assert detail(verdict.answer) == "settled by a person while it was pending"
    settled = replace(
        PENDING,
        state=RowState.REJECTED,
        reply_status=409,
        reply_type="application/problem+json",
        reply=verdict.answer.body,
        epoch=9,
    )
    assert steps[1:] == [LOCK, Update(settled)]
    assert (verdict.outcome, verdict.commit) == ("rejected", True)


@pytest.mark.parametrize(
    ("row", "outcome", "said"), [each for each in WHAT_HAPPENED if each[0].state is not RowState.PENDING]
)
def test_a_seal_as_rejected_settles_nothing_else(
    row: Row, outcome: str | None, said: tuple[int, str, str | None]
) -> None:
    verdict, steps = judged(Database(row), call("seal", seal="rejected"))
    assert steps[1:] == [LOCK]
    assert (verdict.outcome, verdict.commit, said_of(verdict.answer)) == (outcome, False, said)


@pytest.mark.parametrize(("row", "said"), [(SUCCEEDED, STORED), (PENDING, NOTHING), (COMPENSATING, STORED)])
def test_a_seal_as_undone_says_what_is_there_and_ends_it(row: Row, said: tuple[int, str, str | None]) -> None:
    half_done = replace(row, compensation_reply=b'"half"')
    verdict, steps = judged(Database(half_done), call("seal", seal="undone", epoch=6))
    undone = replace(row, state=RowState.COMPENSATED, compensation_reply=None)
    assert steps[1:] == [LOCK, Update(undone)], "the higher epoch of the two stays"
    assert (verdict.outcome, verdict.commit, said_of(verdict.answer)) == ("succeeded", True, said)


@pytest.mark.parametrize(
    ("row", "outcome", "said"),
    [
        (BY_HAND, "succeeded", STORED),
        (REJECTED, "noop", NOTHING),
        (TOMBSTONE, "noop", NOTHING),
        (COMPENSATED, "blocked", BLOCKED),
        (NEW, None, COMMITTED),
    ],
)
def test_a_seal_as_undone_of_what_is_over_writes_nothing(
    row: Row, outcome: str | None, said: tuple[int, str, str | None]
) -> None:
    verdict, steps = judged(Database(row), call("seal", seal="undone"))
    assert steps[1:] == [LOCK]
    assert (verdict.outcome, verdict.commit, said_of(verdict.answer)) == (outcome, False, said)


# -- pending work


def test_the_reply_of_pending_work_is_made_for_its_row_and_stored() -> None:
    asked: list[Row] = []

    def reply(row: Row) -> bytes:
        asked.append(row)
        return REPLY

    answer, steps = answered(Database(PENDING), reply)
    stored = replace(PENDING, state=RowState.SUCCEEDED, reply_status=200, reply_type="application/json", reply=REPLY)
    assert asked == [PENDING]
    assert steps == [LOCK, Update(stored)]
    named = {"idempotency-key": '"run-1:reserve:action"'}
    assert answer == Answer(200, {"content-type": "application/json", "saga-outcome": "succeeded", **named}, REPLY)


def test_a_no_to_pending_work_is_stored_but_for_a_retriable() -> None:
    answer, steps = answered(Database(PENDING), NO)
    assert (said_of(answer), answer.headers["saga-outcome"]) == ((409, "rejected", "sold-out"), "rejected")
    assert detail(answer) == "sold out"
    stored = replace(
        PENDING,
        state=RowState.REJECTED,
        reply_status=409,
        reply_type="application/problem+json",
        reply=answer.body,
    )
    assert steps == [LOCK, Update(stored)]
    again, steps = answered(Database(replace(PENDING, kind=Kind.RETRIABLE)), NO)
    assert again == answer
    assert steps == [LOCK, Delete("run-1", "reserve")]


def test_a_pending_undo_that_is_done_has_an_empty_reply_of_its_own() -> None:
    answer, steps = answered(Database(COMPENSATING), lambda _row: b'"unread"', Phase.COMPENSATION)
    assert steps == [LOCK, Update(replace(COMPENSATING, state=RowState.COMPENSATED, compensation_reply=b"null"))]
    assert (said_of(answer), answer.headers["saga-outcome"]) == (NOTHING, "succeeded")


@pytest.mark.parametrize(("reply_status", "before"), [(None, RowState.PENDING), (200, RowState.SUCCEEDED)])
def test_a_pending_undo_that_fails_is_as_if_it_had_not_been_tried(reply_status: int | None, before: RowState) -> None:
    row = replace(COMPENSATING, reply_status=reply_status)
    answer, steps = answered(Database(row), NO, Phase.COMPENSATION)
    assert steps == [LOCK, Update(replace(row, state=before, compensation_print=None))]
    assert (said_of(answer), answer.headers["saga-outcome"]) == (
        (409, "cannot-compensate", "sold-out"),
        "cannot-compensate",
    )
    assert detail(answer) == "sold out"


@pytest.mark.parametrize("phase", [Phase.ACTION, Phase.COMPENSATION])
@pytest.mark.parametrize(
    "row",
    [
        None,
        NEW,
        PENDING,
        SUCCEEDED,
        REJECTED,
        TOMBSTONE,
        COMPENSATING,
        COMPENSATED,
        replace(COMPENSATING, holder="worker-1"),
    ],
)
def test_only_the_call_that_is_pending_can_be_answered(row: Row | None, phase: Phase) -> None:
    takes = {(Phase.ACTION, PENDING), (Phase.COMPENSATION, COMPENSATING)}
    if (phase, row) in takes:
        assert answered(Database(row), NO, phase)[0].headers["idempotency-key"] == f'"run-1:reserve:{phase}"'
        return
    found = "unknown here" if row is None else f"not pending: its row is {row.state}"
    with pytest.raises(Blocked, match=rf"^run-1:reserve:{phase} is {found}\. Roll back"):
        answered(Database(row), NO, phase)


# -- a row that vanishes


class Vanishing(Database):
    """The row is met by so many inserts and gone each time it is read."""

    def __init__(self, meetings: int) -> None:
        super().__init__(ended=Done(REPLY))
        self.meetings = meetings

    def perform(self, step: Step) -> object:
        if isinstance(step, Insert):
            self.meetings -= 1
            return self.meetings < 0
        return super().perform(step)


def test_a_row_that_vanished_is_inserted_again_three_times_and_then_left() -> None:
    verdict, steps = judged(Vanishing(3), call("action"))
    assert steps[:7] == [Insert(NEW), LOCK, Insert(NEW), LOCK, Insert(NEW), LOCK, Insert(NEW)]
    assert verdict.outcome == "succeeded"
    with pytest.raises(Busy, match="run-1, reserve: its row comes and goes"):
        judged(Vanishing(4), call("action"))
