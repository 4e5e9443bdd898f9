"""Answers that come late, twice, out of turn, or that nobody can use: what they change, which is mostly nothing."""

# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from datetime import timedelta
from typing import Any

import pytest

from amends.core.run import events as e
from amends.core.run.answers import Cause, Halt, Outcome, Pending, Succeeded, Unknown
from amends.core.run.evolve import evolve
from amends.core.saga.operation import Call, ask
from amends.core.words.keys import NOTICE, Phase
from amends.core.words.reasons import StuckReason
from tests.support.stories import Barrier, Once, Plain, Story, c, n, p, policy, r

STUCK = policy("stuck")

# -- a retriable's no


def past_the_pivot() -> Story:
    return Story(p(), r()).yes("p")


def test_a_blocked_retriable_is_for_a_person_at_once() -> None:
    past_the_pivot().no("r", word="blocked").then("Marked", marks="r:action:blocked", r="unknown")


def test_a_retriables_no_that_answers_no_current_send_is_not_a_failed_attempt() -> None:
    past_the_pivot().no("r", attempt=7).then("", r="acting")


def test_a_retriables_no_changes_nothing_once_a_person_has_it() -> None:
    past_the_pivot().halts("r").then("Marked").no("r").then("", r="unknown", marks="r:action:key-reused")


# -- an action that is over


def test_a_no_to_what_was_left_out_is_kept_and_alarms_only_after_the_end() -> None:
    story = Story(c("a", policy=STUCK), c("b")).spends("a").skip("a")
    story.no("a").then("LateReply", run="running")
    assert not story.last_of(e.LateReply).alert
    story.yes("b").then("ActionSucceeded RunEnded").no("a").then("LateReply")
    late = story.last_of(e.LateReply)
    assert (late.phase, late.word, late.body, late.alert) == (Phase.ACTION, "rejected", b"null", True)


def test_a_late_yes_keeps_the_reply_and_the_word_it_brought() -> None:
    story = Story(p()).no("p").yes("p", reply=b'"after all"').then("LateReply", run="compensated")
    late = story.last_of(e.LateReply)
    assert (late.phase, late.word, late.body, late.alert) == (Phase.ACTION, "succeeded", b'"after all"', True)


def test_a_late_answer_to_a_question_does_not_taint_the_action() -> None:
    story = Story(c("a"))
    assert not story.tries("a").tainted
    for phase, tainted in ((Phase.SEAL, False), (Phase.ACTION, True)):
        record = evolve(story.record, e.LateReply(story.now, 1, "a", "", phase, "noop", b"null", alert=False))
        item = record.item("a", "")
        assert item is not None
        assert item.action is not None
        assert item.action.tainted is tainted


def test_what_never_left_leaves_an_untainted_key_though_its_attempt_was_not_logged() -> None:
    story = Story(c("a", Plain.act)).fails("a", Cause.NOT_SENT)
    story.reply("a", Unknown(Cause.WITHDRAWN, "?", counted=False), attempt=2, epoch=1).then(a="rejected")
    assert story.last_of(e.ActionRejected).word == "withdrawn"


def test_a_call_that_never_left_the_queue_taints_nothing_though_its_send_was_not_begun() -> None:
    story = Story(c("a", Plain.act)).fails("a", Cause.NOT_SENT).then(a="acting")
    story.reply("a", Unknown(Cause.NOT_SENT, "?"), attempt=2, epoch=1).then("AttemptFailed", a="acting")
    assert not story.tries("a").tainted
    assert story.tries("a").sends == 2


def test_work_that_is_taken_on_between_two_attempts_was_not_sent_once_more() -> None:
    story = Story(c("a")).fails("a")
    before = story.tries("a").sends
    story.takes_on("a", attempt=before + 1, epoch=1).then("ActionPending", a="acting")
    assert (story.tries("a").sends, story.tries("a").pending) == (before, True)


def test_a_second_late_yes_makes_no_second_mark() -> None:
    story = Story(c("a"), p()).yes("a").no("p").yes("p").then("LateReply Marked", marks="p:action:contradiction")
    story.yes("p").then("LateReply", marks="p:action:contradiction")


# -- an undo


def undoing() -> Story:
    return Story(c("a"), p()).yes("a").no("p").then(a="compensating")


def test_an_undos_failure_that_answers_no_current_send_is_not_counted() -> None:
    undoing().fails("a", phase=Phase.COMPENSATION, attempt=9).then("", a="compensating")


def test_a_second_202_of_an_undo_moves_no_due_time() -> None:
    story = undoing().takes_on("a", phase=Phase.COMPENSATION).then("CompensationPending")
    story.wait(60).takes_on("a", phase=Phase.COMPENSATION).then("", a="compensating")


def test_a_second_halt_of_an_undo_makes_no_second_mark() -> None:
    story = undoing().halts("a", phase=Phase.COMPENSATION).then("Marked")
    story.halts("a", "misrouted", phase=Phase.COMPENSATION).then("", marks="a:compensation:key-reused")


def sealing() -> Story:
    """A person says that it is undone, and the participant is being told so."""
    return undoing().spends("a", phase=Phase.COMPENSATION).resolve("a", "undone").then("Resolved SettleRequested")


def test_an_undo_that_is_answered_while_it_is_sealed_changes_nothing() -> None:
    sealing().undoes("a").then("", a="compensating")


@pytest.mark.parametrize("word", ["noop", "blocked"])
def test_a_seal_that_finds_nothing_in_place_ends_the_undo(word: str) -> None:
    story = sealing().reply("a", Succeeded(b"null", word), phase=Phase.SEAL)
    story.then("Sealed RunEnded", a="compensated", marks="")


def test_a_seal_that_is_still_waited_for_is_asked_again() -> None:
    story = sealing().takes_on("a", phase=Phase.SEAL).then("AttemptFailed", a="compensating")
    failed = story.last_of(e.AttemptFailed)
    assert (failed.phase, failed.cause, failed.counted) == (Phase.SEAL, Cause.PENDING, False)
    assert failed.next_due is not None


def test_a_seal_that_nobody_can_take_is_for_a_person() -> None:
    sealing().halts("a", phase=Phase.SEAL).then("Marked", marks="a:seal:sealing")


def test_what_could_not_be_built_to_undo_it_is_undone_by_hand() -> None:
    def breaks(*_: object) -> Call[Any]:
        raise ValueError("no such room")

    story = Story(c("a", Plain.act, undo=breaks), p()).yes("a").no("p").then(marks="a:compensation:author-error")
    story.resolve("a", "undone").then("Resolved RunEnded", a="compensated", run="compensated")


def test_a_visitor_that_turns_the_run_back_leaves_the_send_of_an_unguarded_undo_to_the_owner() -> None:
    story = Story(c("a", Plain.act), c("b", after="a")).yes("a").fails("b").cancel().then(b="compensating")
    story.reply("b", Succeeded(b"null"), phase=Phase.COMPENSATION, epoch=0)
    story.then("CompensationSucceeded CompensationRequested", a="compensating")
    item = story.record.item("a", "")
    assert item is not None
    assert item.undo is not None
    assert item.undo.open_epoch is None


# -- questions about an action


def asked() -> Story:
    """A pivot that is being asked about."""
    return Story(p()).cancel().fails("p").then("ActionUnknown SettleRequested")


@pytest.mark.parametrize("attempt", [0, 5])
@pytest.mark.parametrize("said", ["pending", "unknown", "halt"])
def test_an_answer_to_another_question_is_not_taken_for_this_ones(attempt: int, said: str) -> None:
    story = asked()
    match said:
        case "pending":
            story.takes_on("p", phase=Phase.SEAL, attempt=attempt)
        case "unknown":
            story.fails("p", phase=Phase.SEAL, attempt=attempt)
        case _:
            story.halts("p", phase=Phase.SEAL, attempt=attempt if attempt == 0 else 1)
            assert story.names == ([] if attempt == 0 else ["Marked"])
            return
    story.then("", p="unknown")


def test_a_question_that_nobody_can_take_is_for_a_person() -> None:
    asked().halts("p", phase=Phase.SEAL).then("Marked", marks="p:seal:key-reused", p="unknown")


@pytest.mark.parametrize("came", [Unknown(Cause.TIMED_OUT, "?"), Pending(), Halt(StuckReason.PROTOCOL, "?")])
def test_a_question_that_a_person_has_by_now_is_not_marked_a_second_time(came: Outcome) -> None:
    story = asked().halts("p", phase=Phase.SEAL).then("Marked", marks="p:seal:key-reused")
    story.reply("p", came, phase=Phase.SEAL, epoch=0).then("", marks="p:seal:key-reused")
    story.reply("p", came, phase=Phase.SEAL, attempt=2).then("", marks="p:seal:key-reused")
    story.yes("p", phase=Phase.SEAL).then("ActionSucceeded AbortVoid RunEnded", marks="")


def test_that_nothing_is_there_yet_settles_no_seal_however_late_it_is() -> None:
    asked().wait(7_200).fails("p", Cause.ABSENT, phase=Phase.SEAL).then("AttemptFailed", p="unknown")


def test_retrying_a_question_between_two_attempts_asks_it_at_once() -> None:
    story = asked().fails("p", phase=Phase.SEAL).then("AttemptFailed")
    assert story.sends == []
    story.retry("p").then("RetryAsked")
    assert story.last_of(e.RetryAsked).phase is Phase.SEAL
    assert story.sends == ["p:seal"]


def test_a_no_by_hand_is_believed_at_once_where_nothing_was_ever_sent() -> None:
    story = Story(c("a", Plain.act)).fails("a", Cause.NOT_SENT).then(a="acting")
    story.resolve("a", "rejected").then("Resolved Aborted RunEnded", a="rejected")


def test_a_no_by_hand_between_two_attempts_is_sealed_first() -> None:
    story = Story(c("a")).fails("a").then("AttemptFailed", a="acting")
    story.resolve("a", "rejected").then("Resolved SettleRequested", a="unknown")
    assert (story.last_of(e.SettleRequested).seal, story.sends) == ("rejected", ["a:seal"])


# -- two that are overdue at once


def test_two_questions_that_nobody_answers_in_time_are_one_no() -> None:
    def asks(_input: str) -> Call[Any]:
        return ask(str, "may we?", within=timedelta(hours=1))

    story = Story(n("one", asks), n("two", asks)).due(3_600)
    story.then("ActionRejected Aborted RunEnded", one="rejected", two="compensated", run="compensated")


# -- the notice


def told(operation: Any) -> Story:  # noqa: ANN401 - operations of every kind
    return Story(c("a"), notice=lambda _input, _ended: operation("done")).yes("a").then(run="completed")


def is_open(story: Story) -> bool:
    return story.record.notice_open


def test_a_notice_is_told_again_until_it_is_delivered() -> None:
    story = told(Barrier.bare)
    assert is_open(story)
    story.fails(NOTICE).then("NoticeFailed")
    assert story.last_of(e.NoticeFailed).next_due is not None
    story.fails(NOTICE, attempt=9).then("")
    story.no(NOTICE).then("NoticeFailed")
    refused = story.last_of(e.NoticeFailed)
    assert (refused.cause, refused.detail) == (Cause.REJECTED, "no-stock: said no")
    story.reply(NOTICE, Pending()).then("NoticeDelivered")
    assert not is_open(story)
    story.yes(NOTICE, attempt=4).then("")


def test_a_notice_that_may_be_sent_once_is_not_sent_again() -> None:
    story = told(Once.act).fails(NOTICE).then("NoticeFailed")
    assert story.last_of(e.NoticeFailed).next_due is None
    assert story.record.notice_open


def test_a_notice_that_nobody_can_take_is_given_up() -> None:
    story = told(Barrier.bare).reply(NOTICE, Halt(StuckReason.KEY_REUSED, "what?")).then("NoticeFailed")
    failed = story.last_of(e.NoticeFailed)
    assert (failed.cause, failed.detail, failed.next_due) == (Cause.PROTOCOL, "what?", None)
    assert story.sends == []


def test_a_run_without_a_notice_owes_none() -> None:
    story = Story(c("a")).yes("a")
    assert not story.record.notice_open
    quiet = Story(c("a"), notice=lambda _input, _ended: None).yes("a").then("ActionSucceeded RunEnded")
    assert not quiet.record.notice_open
