"""The life of a step: each row of its table is a story."""

import pytest

from amends.core.run import events as e
from amends.core.run.answers import Cause
from amends.core.run.owed import owed
from amends.core.words.errors import Rejected
from amends.core.words.keys import Phase
from tests.support.stories import GUARDS, Asked, Barrier, Once, OnceAsked, Plain, Story, c, gives, n, p, policy, r

NO_BARRIER = [name for name in GUARDS if name != "barrier"]


# -- waiting


def test_a_step_is_requested_once_all_it_depends_on_is_done() -> None:
    story = Story(c("a"), c("b", reads="a"), p("p"), r("r"))
    story.then("RunStarted ActionRequested", a="acting", b="waiting", p="waiting")
    story.yes("a").then("ActionSucceeded ActionRequested", b="acting", p="waiting")
    story.yes("b").then("ActionSucceeded ActionRequested", p="acting", r="waiting")
    story.yes("p").then("ActionSucceeded ActionRequested", r="acting")
    story.yes("r").then("ActionSucceeded RunEnded", run="completed")


def test_independent_steps_are_requested_together() -> None:
    Story(c("a"), c("b"), p()).then("RunStarted ActionRequested ActionRequested", a="acting", b="acting", p="waiting")


def test_a_builder_that_gives_nothing_skips_its_step_and_its_reader_gets_none() -> None:
    read: list[object] = []

    def reader(_input: str, reply: object) -> object:
        read.append(reply)
        return Barrier.act("b")

    story = Story(c("a", gives(None)), c("b", reader, reads="a"))
    story.then("RunStarted StepSkipped ActionRequested", a="skipped", b="acting")
    assert read == [None]


def test_a_builders_bug_marks_its_step_and_keeps_the_reply_that_led_to_it() -> None:
    story = Story(c("a"), p("p", gives(KeyError("zip")), after="a")).yes("a")
    story.then("ActionSucceeded BuildFailed Marked", a="done", p="waiting", run="stuck", marks="p:action:author-error")
    assert "KeyError: 'zip'" in story.last_of(e.BuildFailed).error
    assert "stories.py:" in story.last_of(e.BuildFailed).error


def test_a_waiting_step_is_never_attempted_once_the_run_turned_back() -> None:
    Story(c("a"), p(after="a")).no("a").then("ActionRejected Aborted RunEnded", p="waiting", run="compensated")


# -- acting: what waits for a participant that is back


@pytest.mark.parametrize(
    ("guard", "cause", "back", "early"),
    [
        ("barrier", Cause.LOST, "barrier", True),
        ("barrier", Cause.LOST, "other", False),
        ("barrier", Cause.BUSY, "barrier", False),
        ("idempotent", Cause.LOST, "plain", False),
    ],
)
def test_what_waits_since_nobody_was_there_is_owed_once_somebody_is(
    guard: str, cause: Cause, back: str, *, early: bool
) -> None:
    story = Story(c("a", GUARDS[guard])).fails("a", cause)
    waits = owed(story.definition, story.record, story.now, story.epoch)
    assert waits.sends == ()
    assert waits.wake is not None
    found = owed(story.definition, story.record, story.now, story.epoch, back)
    assert [each.step for each in found.sends] == (["a"] if early else [])
    assert found.wake == waits.wake


# -- acting: definite answers


def test_a_yes_that_comes_after_the_run_turned_back_is_undone() -> None:
    story = Story(c("a"), c("b")).no("a").then("ActionRejected Aborted", b="acting", run="compensating")
    story.yes("b").then("ActionSucceeded CompensationRequested", b="compensating")
    story.undoes("b").then("CompensationSucceeded RunEnded", b="compensated", run="compensated")


@pytest.mark.parametrize("guard", GUARDS)
def test_a_definite_no_of_a_compensable_turns_the_run_back(guard: str) -> None:
    Story(c("a", GUARDS[guard])).no("a").then("ActionRejected Aborted RunEnded", a="rejected", run="compensated")


@pytest.mark.parametrize("guard", GUARDS)
def test_a_definite_no_of_the_pivot_turns_the_run_back(guard: str) -> None:
    story = Story(c("a"), p("p", GUARDS[guard])).yes("a").no("p")
    story.then("ActionRejected Aborted CompensationRequested", p="rejected", a="compensating")


def test_behind_a_barrier_no_rejection_is_doubtful() -> None:
    Story(c("a")).fails("a").no("a").then("ActionRejected Aborted RunEnded", a="rejected")


def test_a_doubtful_no_without_a_barrier_is_asked_about_or_shown_to_a_person() -> None:
    asked = Story(c("a", Asked.act)).fails("a").no("a")
    asked.then("ActionUnknown SettleRequested", a="unknown", run="running")
    assert asked.sends == ["a:probe"]
    Story(c("a", Plain.act)).fails("a").no("a").then(
        "ActionUnknown Marked", a="unknown", marks="a:action:outcome-unknown"
    )


def test_a_doubtful_no_of_a_pivot_done_in_this_process_stops_for_a_person() -> None:
    async def pay(_input: str) -> str:
        return "never called here"

    story = Story(p("pay", pay)).fails("pay", Cause.RAISED).no("pay")
    story.then("ActionUnknown Marked", pay="unknown", marks="pay:action:outcome-unknown")


def test_a_no_of_a_retriable_is_only_a_failed_attempt() -> None:
    story = Story(p("p"), r("r")).yes("p").no("r").then("AttemptFailed", r="acting", run="running")
    story.spends("r", Cause.REJECTED).then("ActionUnknown Marked", marks="r:action:rejected-after-pivot", run="stuck")


def test_work_taken_on_is_waited_for() -> None:
    story = Story(c("a")).takes_on("a").then("ActionPending", a="acting")
    assert story.sends == []
    assert story.owed.wake == story.last_of(e.ActionPending).answer_due
    story.yes("a", epoch=0).then("ActionSucceeded RunEnded", a="done")


def test_a_second_pending_moves_no_due_time() -> None:
    story = Story(c("a")).takes_on("a")
    due = story.owed.wake
    story.wait(60).takes_on("a").then("")
    assert story.owed.wake == due


# -- acting: nothing known


@pytest.mark.parametrize("guard", GUARDS)
def test_what_was_not_sent_goes_out_again_under_every_guard(guard: str) -> None:
    story = Story(c("a", GUARDS[guard])).fails("a", Cause.NOT_SENT).then("AttemptFailed", a="acting")
    assert story.owed.wake is not None
    story.wait(60)
    assert story.sends == ["a:action"]


@pytest.mark.parametrize("guard", ["barrier", "idempotent", "idempotent, asked"])
def test_an_unknown_outcome_is_tried_again_with_the_same_key(guard: str) -> None:
    story = Story(c("a", GUARDS[guard])).fails("a").then("AttemptFailed", a="acting")
    story.wait(60)
    assert [each.attempt for each in story.owed.sends] == [2]


def test_what_promises_nothing_is_sent_once() -> None:
    Story(c("a", Once.act)).fails("a").then("ActionUnknown Marked", a="unknown", marks="a:action:outcome-unknown")
    Story(c("a", OnceAsked.act)).fails("a").then("ActionUnknown SettleRequested", a="unknown")


@pytest.mark.parametrize("guard", GUARDS)
def test_what_provably_never_left_is_rejected_and_owes_nothing(guard: str) -> None:
    story = Story(c("a", GUARDS[guard])).spends("a", Cause.NOT_SENT)
    story.then("ActionRejected Aborted RunEnded", a="rejected", run="compensated")
    assert story.last_of(e.ActionRejected).code == "unreachable"
    assert story.last_of(e.Aborted).reason == "a could not be reached: ?"


def test_a_pivot_that_provably_never_left_is_rejected() -> None:
    story = Story(p("p")).spends("p", Cause.NOT_SENT).then("ActionRejected Aborted RunEnded", p="rejected")
    assert story.record.length == 1 + 1 + 7 + 3  # started, requested, seven failures, the end


def test_one_possible_send_forbids_unreachable() -> None:
    story = Story(c("a")).fails("a").spends("a", Cause.NOT_SENT)
    story.then("ActionUnknown Aborted CompensationRequested", a="compensating")


def test_a_spent_compensable_follows_its_policy() -> None:
    Story(c("a")).spends("a").then("ActionUnknown Aborted CompensationRequested", a="compensating")
    Story(c("a", policy=policy("settle"))).spends("a").then("ActionUnknown SettleRequested", a="unknown")
    Story(c("a", policy=policy("stuck"))).spends("a").then("ActionUnknown Marked", marks="a:action:outcome-unknown")
    Story(c("a", Asked.act)).spends("a").then("ActionUnknown SettleRequested", a="unknown")
    Story(c("a", Plain.act)).spends("a").then("ActionUnknown Marked", marks="a:action:outcome-unknown")
    Story(c("a", Asked.act, policy=policy("stuck"))).spends("a").then("ActionUnknown Marked", a="unknown")


@pytest.mark.parametrize("on_unknown", [None, "settle", "stuck"])
def test_a_wrong_address_never_turns_an_order_back(on_unknown: None) -> None:
    story = Story(c("a", policy=policy(on_unknown))).spends("a", Cause.MISROUTED)
    story.then("ActionUnknown Marked", a="unknown", marks="a:action:misrouted")
    assert len([each for each in story.events if isinstance(each, e.AttemptFailed)]) == 7


def test_a_neutral_step_at_a_wrong_address_stops_for_a_person() -> None:
    Story(n("n")).spends("n", Cause.MISROUTED).then("ActionUnknown Marked", marks="n:action:misrouted")


def test_a_spent_pivot_is_sealed_or_stops_for_a_person() -> None:
    story = Story(p("p")).spends("p").then("ActionUnknown SettleRequested", p="unknown")
    assert story.sends == ["p:seal"]
    story.spends("p", phase=Phase.SEAL).then("AttemptFailed Marked", marks="p:seal:outcome-unknown")
    Story(p("p", Plain.act)).spends("p").then("ActionUnknown Marked", marks="p:action:outcome-unknown")
    assert Story(p("p", Asked.act)).spends("p").sends == ["p:probe"]


def test_a_spent_retriable_stops_for_a_person() -> None:
    story = Story(p(), r()).yes("p").spends("r").then("ActionUnknown Marked", marks="r:action:spent", run="stuck")
    assert story.record.step_state("p").value == "done"


@pytest.mark.parametrize("step", ["a", "p", "r"])
def test_a_halt_stops_for_a_person_at_once(step: str) -> None:
    story = Story(c("a"), p(), r())
    story.yes(*{"a": "", "p": "a", "r": "ap"}[step]).halts(step)
    story.then("Marked", marks=f"{step}:action:key-reused", **{step: "unknown"})


# -- acting while the run turns back


def test_a_call_in_flight_is_awaited_and_never_sent_again_behind_a_barrier() -> None:
    story = Story(c("a"), c("b")).no("a").then(b="acting")
    assert story.sends == ["b:action"]  # still out; the engine knows that it is
    story.fails("b").then("ActionUnknown CompensationRequested", b="compensating")


def test_between_attempts_or_pending_behind_a_barrier_it_is_undone_at_once() -> None:
    story = Story(c("a"), c("b")).fails("b").no("a")
    story.then("ActionRejected Aborted ActionUnknown CompensationRequested", b="compensating")
    story = Story(c("a"), c("b")).takes_on("b").no("a")
    story.then("ActionRejected Aborted ActionUnknown CompensationRequested", b="compensating")


def test_an_idempotent_action_is_repeated_until_definite_and_then_undone() -> None:
    story = Story(c("a"), c("b", Plain.act)).fails("b").no("a").then("ActionRejected Aborted", b="acting")
    story.fails("b").then("AttemptFailed", b="acting")
    story.yes("b").then("ActionSucceeded CompensationRequested", b="compensating")


def test_an_idempotent_action_that_stays_unknown_backward_is_asked_about_or_shown() -> None:
    Story(c("a"), c("b", Plain.act)).no("a").spends("b").then(
        "ActionUnknown Marked", b="unknown", marks="b:action:outcome-unknown", run="stuck"
    )
    Story(c("a"), c("b", Asked.act)).no("a").spends("b").then("ActionUnknown SettleRequested", b="unknown")


def test_an_action_sent_once_isnt_repeated_backward() -> None:
    Story(c("a"), c("b", Once.act)).no("a").fails("b").then("ActionUnknown Marked", b="unknown")
    Story(c("a"), c("b", OnceAsked.act)).no("a").fails("b").then("ActionUnknown SettleRequested", b="unknown")


def test_a_retry_of_an_action_sent_once_isnt_sent_any_more_when_the_run_turns_back_first() -> None:
    story = Story(c("a", Once.act), c("b")).fails("a").retry("a").then("RetryAsked", a="acting").wait(1)
    story.no("b").then("ActionRejected Aborted ActionUnknown Marked", a="unknown", marks="a:action:outcome-unknown")
    assert story.sends == []
    story.retry("a").then("RetryAsked", a="acting")
    assert story.sends == ["a:action"], "asked for again, knowing that the run turned back"


@pytest.mark.parametrize("guard", NO_BARRIER)
def test_pending_work_without_a_barrier_is_asked_about_or_shown_when_the_run_turns_back(guard: str) -> None:
    story = Story(c("a"), c("b", GUARDS[guard])).takes_on("b").no("a")
    last = "SettleRequested" if "asked" in guard else "Marked"
    story.then(f"ActionRejected Aborted ActionUnknown {last}", b="unknown")


# -- unknown


@pytest.mark.parametrize(("settled", "state"), [("yes", "done"), ("no", "rejected")])
def test_an_answer_to_the_seal_settles_the_action_and_lifts_the_mark(settled: str, state: str) -> None:
    story = Story(c("a", policy=policy("settle"))).spends("a").spends("a", phase=Phase.SEAL).then(run="stuck")
    story.retry("a")
    getattr(story, settled)("a", phase=Phase.SEAL)
    story.then(a=state, marks="")


def test_a_late_yes_settles_an_unknown_action_and_lifts_its_mark() -> None:
    story = Story(c("a", Once.act)).fails("a").then(run="stuck")
    story.yes("a", epoch=0, attempt=1).then("ActionSucceeded RunEnded", a="done", marks="", run="completed")


def test_retry_gives_an_unknown_action_a_new_budget() -> None:
    story = Story(c("a", Plain.act)).spends("a").retry("a").then("RetryAsked", a="acting", run="running")
    assert story.sends == ["a:action"]
    story.spends("a")
    assert len([each for each in story.events if isinstance(each, e.AttemptFailed)]) == 14


def test_an_unknown_action_is_undone_without_its_reply() -> None:
    story = Story(c("a")).spends("a")
    assert b'"reply":null,"reply_known":false' in story.last_of(e.CompensationRequested).body


def test_a_done_action_is_undone_with_its_reply() -> None:
    story = Story(c("a"), p()).yes("a").no("p")
    requested = story.last_of(e.CompensationRequested)
    assert b'"request":{"what":"a"},"reply":"ok","reply_known":true' in requested.body
    assert b'"reason":"p said no: no-stock"' in requested.body


def test_a_skipped_action_that_may_have_happened_is_undone_all_the_same() -> None:
    story = Story(c("a", policy=policy("stuck")), p()).spends("a").skip("a").then(a="skipped", p="acting")
    story.no("p").then("ActionRejected Aborted CompensationRequested", a="compensating")


# -- compensating


def turned_back(guard: str = "barrier") -> Story:
    return Story(c("a", GUARDS[guard]), p()).yes("a").no("p").then(a="compensating")


@pytest.mark.parametrize("word", ["succeeded", "noop", "blocked"])
def test_an_undo_that_succeeded_frees_what_it_depended_on(word: str) -> None:
    story = Story(c("a"), c("b", after="a"), p()).yes("a", "b").no("p").then(a="done", b="compensating")
    story.undoes("b", word=word).then("CompensationSucceeded CompensationRequested", a="compensating")
    story.undoes("a").then("CompensationSucceeded RunEnded", run="compensated")


def test_an_undo_taken_on_is_waited_for_and_then_sent_again() -> None:
    story = turned_back().takes_on("a", phase=Phase.COMPENSATION).then("CompensationPending", a="compensating")
    assert story.sends == []
    story.wakes().then("AttemptFailed Marked", marks="a:compensation:spent")  # seven days are more than its patience
    story = turned_back().takes_on("a", phase=Phase.COMPENSATION)
    story.undoes("a").then("CompensationSucceeded RunEnded", a="compensated")


@pytest.mark.parametrize("cause", [Cause.TIMED_OUT, Cause.MISROUTED])
def test_an_undo_is_tried_again_until_its_patience_ends(cause: Cause) -> None:
    story = turned_back().fails("a", cause, phase=Phase.COMPENSATION).then("AttemptFailed", a="compensating")
    story.spends("a", cause, Phase.COMPENSATION)
    reason = "misrouted" if cause is Cause.MISROUTED else "spent"
    story.then("AttemptFailed Marked", a="compensating", marks=f"a:compensation:{reason}")


def test_an_undo_that_is_refused_stops_for_a_person() -> None:
    turned_back().no("a", phase=Phase.COMPENSATION).then("Marked", marks="a:compensation:compensation-rejected")
    turned_back().halts("a", "cannot-compensate", phase=Phase.COMPENSATION).then(
        "Marked", a="compensating", marks="a:compensation:cannot-compensate"
    )


def test_an_undo_whose_builder_raises_is_built_again_on_retry() -> None:
    broken = [True]

    def undo(_input: str, _reply: object) -> object:
        if broken[0]:
            raise KeyError("room")
        return Barrier.undo("a")

    story = Story(c("a", undo=undo), p()).yes("a").no("p")
    story.then("ActionRejected Aborted BuildFailed Marked", a="compensating", marks="a:compensation:author-error")
    story.retry("a").then("RetryAsked BuildFailed Marked")
    broken[0] = False
    story.retry("a").then("RetryAsked CompensationRequested", marks="").undoes("a").then(run="compensated")


def test_a_person_resolves_or_skips_an_undo() -> None:
    story = turned_back("idempotent").spends("a", phase=Phase.COMPENSATION)
    story.resolve("a", "undone").then("Resolved RunEnded", a="compensated", run="compensated")
    assert story.record.by_hand
    story = turned_back().spends("a", phase=Phase.COMPENSATION)
    story.skip("a").then("Skipped RunEnded", a="skipped", run="abandoned")
    assert story.last_of(e.RunEnded).effects == ("a",)


def test_what_is_learnt_after_the_undo_was_requested_doesnt_change_its_bytes() -> None:
    story = Story(c("a")).spends("a")
    body = story.last_of(e.CompensationRequested).body
    story.yes("a", epoch=0).then("LateReply", a="compensating")
    assert [each.body for each in story.owed.sends] == [body]


def test_compensations_go_before_actions() -> None:
    story = Story(c("a"), c("b"), c("d", Plain.act)).yes("b").fails("d").no("a").wait(60)
    assert story.sends == ["b:compensation", "d:action"]


def test_a_rejected_builder_is_a_no_before_anything_was_requested() -> None:
    story = Story(c("a"), c("b", gives(Rejected("too far", code="distance")), after="a")).yes("a")
    story.then("ActionSucceeded StepDeclined Aborted CompensationRequested", b="rejected", a="compensating")
    assert story.last_of(e.Aborted).reason == "b said no: distance"
