"""The life of a run, who turns it back, and answers that come late."""

import pytest

from amends.core.run import events as e
from amends.core.run.answers import Cause
from amends.core.words.errors import InputInvalid
from amends.core.words.keys import Phase
from tests.support.stories import GUARDS, Asked, Barrier, Plain, Story, c, gives, n, p, policy, r

# -- the run


def test_a_run_completes_when_every_step_is_done_or_skipped() -> None:
    Story(c("a"), c("b", gives(None)), p()).yes("a", "p").then("ActionSucceeded RunEnded", run="completed")


def test_a_run_of_which_everything_was_left_out_is_completed() -> None:
    Story(c("a", gives(None))).then("RunStarted StepSkipped RunEnded", run="completed")


def test_a_run_that_turns_back_with_nothing_to_undo_is_over_in_the_same_append() -> None:
    Story(c("a")).no("a").then("ActionRejected Aborted RunEnded", run="compensated")


def test_a_mark_makes_a_run_stuck_and_the_last_mark_that_goes_frees_it() -> None:
    story = Story(c("a", policy=policy("stuck")), c("b", policy=policy("stuck")), p())
    story.spends("a").then(run="stuck").spends("b").then(
        run="stuck", marks="a:action:outcome-unknown b:action:outcome-unknown"
    )
    story.resolve("a", "succeeded").then("Resolved", run="stuck")
    story.resolve("b", "succeeded").then("Resolved ActionRequested", run="running", p="acting")


def test_a_run_is_undone_only_once_nothing_is_in_flight() -> None:
    story = Story(c("a"), c("b"), c("d")).no("a").no("b").then("ActionRejected", run="compensating")
    story.no("d").then("ActionRejected RunEnded", run="compensated")


def test_a_stuck_run_that_turns_back_stays_stuck_by_its_marks_only() -> None:
    story = Story(c("a", policy=policy("stuck")), c("b")).spends("a").no("b")
    story.then("ActionRejected Aborted", run="stuck", a="unknown")
    story.retry("a").then("RetryAsked CompensationRequested", run="compensating")


def test_an_abandoned_run_lists_what_may_remain() -> None:
    story = Story(c("a"), c("b", policy=policy("stuck"))).yes("a").spends("b").abandon()
    story.then("Abandoned", run="abandoned")
    assert story.last_of(e.Abandoned).effects == ("a", "b")
    assert str(story.outcome) == "abandoned    by ann: because"


@pytest.mark.parametrize("end", ["completed", "compensated", "abandoned"])
def test_an_end_is_never_rewritten(end: str) -> None:
    story = Story(c("a", policy=policy("stuck")))
    if end == "completed":
        story.yes("a")
    elif end == "compensated":
        story.no("a")
    else:
        story.spends("a").abandon()
    story.then(run=end)
    story.due(10**6).then("")
    story.adopted().then("")
    story.fails("a", epoch=1).then("")
    story.no("a", epoch=1).then("LateReply" if end == "completed" else "")
    story.yes("a", epoch=1).then("" if end == "completed" else "LateReply")
    assert story.sends == []
    assert story.owed.wake is None


# -- who turns it back


def test_a_no_or_an_unknown_in_the_first_stage_turns_the_run_back() -> None:
    Story(c("a")).no("a").then("ActionRejected Aborted RunEnded")
    Story(c("a")).spends("a").then("ActionUnknown Aborted CompensationRequested")


def test_cancel_and_deadline_in_the_first_stage_turn_the_run_back() -> None:
    story = Story(c("a"), c("b", after="a")).yes("a").cancel().then("CancelAsked Aborted", b="acting")
    assert story.last_of(e.Aborted).reason == "cancelled: because"
    story = Story(c("a"), deadline=60).due(60).then("DeadlinePassed Aborted", a="acting", run="compensating")
    assert story.last_of(e.Aborted).reason == "deadline passed"


@pytest.mark.parametrize("trigger", ["cancel", "compensate", "deadline"])
@pytest.mark.parametrize("said", ["yes", "no"])
def test_while_the_pivot_is_open_it_decides(trigger: str, said: str) -> None:
    story = Story(c("a"), p(), r(), deadline=60).yes("a")
    if trigger == "deadline":
        story.due(60).then("DeadlinePassed AbortRequested", p="acting", run="running")
    else:
        story.cancel("cancel" if trigger == "cancel" else "compensate")
        story.then("CancelAsked AbortRequested", p="acting", run="running")
    if said == "yes":
        story.yes("p").then("ActionSucceeded AbortVoid ActionRequested", r="acting", run="running")
    else:
        story.no("p").then("ActionRejected Aborted CompensationRequested", a="compensating")
        wanted = "deadline passed" if trigger == "deadline" else "cancelled: because"
        assert story.last_of(e.Aborted).reason == wanted


def test_past_the_pivot_nothing_turns_back_and_the_deadline_alerts_once() -> None:
    story = Story(p(), r(), deadline=60).yes("p").due(60).then("DeadlinePassed", run="running")
    story.due(60).then("")
    story.cancel().refuses("past-pivot")


def test_without_a_pivot_the_first_retriable_is_the_point_of_no_return() -> None:
    story = Story(c("a"), r(), deadline=60).yes("a").cancel().refuses("past-pivot")
    story.due(60).then("DeadlinePassed", run="running")


def test_the_deadline_never_stops_a_compensation() -> None:
    story = Story(c("a"), p(), deadline=60).yes("a").no("p").due(60).then("", a="compensating")
    assert story.owed.wake is None


def test_a_deadline_already_over_is_refused() -> None:
    with pytest.raises(InputInvalid, match="already over"):
        Story(c("a"), deadline=0)


def test_only_the_first_trigger_gives_the_reason() -> None:
    story = Story(c("a"), p(), deadline=60).yes("a").cancel().due(60).then("DeadlinePassed")
    story.cancel().then("CancelAsked").no("p")
    assert story.last_of(e.Aborted).reason == "cancelled: because"


def test_after_the_wish_to_turn_back_the_pivot_is_sealed_once_no_call_of_it_is_in_flight() -> None:
    story = Story(p()).cancel().then("CancelAsked AbortRequested", p="acting")
    story.fails("p").then("ActionUnknown SettleRequested", p="unknown")
    assert story.sends == ["p:seal"]
    story.no("p", word="noop", phase=Phase.SEAL).then("ActionRejected Aborted RunEnded", run="compensated")


@pytest.mark.parametrize("before", ["fails", "takes_on"])
def test_between_attempts_or_pending_the_pivot_is_sealed_at_once(before: str) -> None:
    story = Story(p())
    getattr(story, before)("p")
    story.cancel().then("CancelAsked AbortRequested ActionUnknown SettleRequested", p="unknown")


def test_without_a_barrier_the_pivot_goes_on_as_if_nothing_had_been_asked() -> None:
    story = Story(p("p", Asked.act)).fails("p").cancel().then("CancelAsked AbortRequested", p="acting")
    story.fails("p").then("AttemptFailed", p="acting")
    story.yes("p").then("ActionSucceeded AbortVoid RunEnded", run="completed")
    Story(p("p", Plain.act)).cancel().spends("p").then("ActionUnknown Marked", marks="p:action:outcome-unknown")


def test_a_pivot_that_was_never_sent_is_withdrawn_by_the_wish_to_turn_back() -> None:
    story = Story(c("a"), p()).yes("a").cancel().fails("p", Cause.WITHDRAWN)
    story.then("ActionRejected Aborted CompensationRequested", p="rejected")
    assert story.last_of(e.Aborted).reason == "cancelled: because"


# -- late answers


def test_the_same_answer_again_is_ignored() -> None:
    Story(c("a"), p()).yes("a").yes("a", epoch=0).then("")
    Story(c("a"), c("b")).no("a").no("a", epoch=0).then("")


def test_an_answer_to_what_was_never_asked_is_ignored() -> None:
    story = Story(c("a"), p())
    story.yes("p").then("", p="waiting").yes("nobody").then("").undoes("a").then("")
    story.yes("a", phase=Phase.SEAL).then("")


def test_a_rejected_compensable_that_turns_out_done_is_undone() -> None:
    story = Story(c("a"), c("b")).no("a").yes("a", epoch=0)
    story.then("ActionSucceeded CompensationRequested", a="compensating")


def test_a_yes_to_a_rejected_compensable_after_the_end_is_told() -> None:
    story = Story(c("a")).no("a").yes("a", epoch=0).then("LateReply", run="compensated")
    assert story.last_of(e.LateReply).alert


def test_a_yes_to_a_rejected_pivot_stops_for_a_person() -> None:
    story = Story(c("a"), p()).yes("a").no("p").yes("p", epoch=0)
    story.then("LateReply Marked", marks="p:action:contradiction", run="stuck")
    story.resolve("p", "succeeded").then("Resolved", p="rejected", marks="", run="compensating")
    ended = Story(p()).no("p").yes("p", epoch=0).then("LateReply", run="compensated")
    assert ended.last_of(e.LateReply).alert


def undoing(guard: str) -> Story:
    return Story(c("a", GUARDS[guard]), c("b"), p()).yes("a", "b").no("p").then(a="compensating")


def test_a_yes_while_undoing_behind_a_barrier_changes_nothing() -> None:
    story = Story(c("a")).spends("a").yes("a", epoch=0).then("LateReply", a="compensating", marks="")
    assert not story.last_of(e.LateReply).alert


@pytest.mark.parametrize("state", ["compensating", "compensated"])
def test_a_yes_while_undoing_without_a_barrier_stops_for_a_person(state: str) -> None:
    story = undoing("idempotent")
    if state == "compensated":
        story.undoes("a")
    story.yes("a", epoch=0).then("LateReply Marked", a=state, marks="a:action:late-success")
    assert story.last_of(e.LateReply).alert
    story.undoes(*("b" if state == "compensated" else "ab")).then(run="stuck")
    story.resolve("a", "succeeded").then("Resolved RunEnded", run="compensated")


@pytest.mark.parametrize(("word", "alert"), [("succeeded", False), ("noop", True), ("blocked", True)])
def test_a_yes_after_the_undo_alerts_only_if_the_undo_found_nothing(word: str, alert: bool) -> None:
    story = Story(c("a"), c("b")).spends("a").undoes("a", word=word)
    story.yes("a", epoch=0).then("LateReply", marks="", a="compensated")
    assert story.last_of(e.LateReply).alert is alert
    story.fails("b").undoes("b").then(run="compensated").yes("a", epoch=0).then("LateReply")
    assert story.last_of(e.LateReply).alert is alert


def test_another_copy_of_a_yes_that_was_undone_behind_a_barrier_is_ignored() -> None:
    undoing("barrier").yes("a", epoch=0).then("").undoes("a").yes("a", epoch=0).then("")
    story = undoing("barrier").undoes("a", word="noop").yes("a", epoch=0).then("LateReply")
    assert story.last_of(e.LateReply).alert  # it was done, and yet there was nothing to undo


def test_a_no_to_what_is_done_is_told_and_without_a_barrier_it_stops_for_a_person() -> None:
    story = Story(c("a"), p()).yes("a").no("a", epoch=0).then("LateReply", run="running")
    assert story.last_of(e.LateReply).alert
    Story(c("a", Plain.act), p()).yes("a").no("a", epoch=0).then("LateReply Marked", marks="a:action:contradiction")
    Story(p(), r()).yes("p").no("p", epoch=0).then("LateReply Marked", marks="p:action:contradiction")


def test_a_no_to_a_retriable_that_is_done_is_no_contradiction() -> None:
    Story(p(), r(), r("q")).yes("p", "r").no("r", epoch=0).then("", run="running")


def test_an_answer_to_a_skipped_step_is_kept_and_alerts_once_the_run_is_over() -> None:
    story = (
        Story(c("a", policy=policy("stuck")), p())
        .spends("a")
        .skip("a")
        .yes("a", epoch=0)
        .then("LateReply", a="skipped")
    )
    assert not story.last_of(e.LateReply).alert
    story.yes("p").then(run="completed").yes("a", epoch=0).then("LateReply")
    assert story.last_of(e.LateReply).alert


def test_a_no_while_undoing_is_ignored() -> None:
    undoing("barrier").no("a", epoch=0).then("").undoes("a").no("a", epoch=0).then("")


def test_a_neutral_steps_late_answer_never_matters() -> None:
    story = Story(c("a"), n("n", Barrier.bare)).no("a").then("ActionRejected Aborted RunEnded", n="compensated")
    story.yes("n", epoch=0).then("LateReply", run="compensated")
    assert not story.last_of(e.LateReply).alert
