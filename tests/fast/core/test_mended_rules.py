"""Holes that an exhaustive walk of the rules once found, each as the story that showed it.

They are numbered so that a failing one can be told from its neighbours; the name says what would go wrong.
"""

from collections.abc import Callable

import pytest

from amends.core.run import events as e
from amends.core.run.answers import Cause, Unknown
from amends.core.words.keys import Phase
from tests.support.stories import GUARDS, Asked, Barrier, Once, OnceAsked, Plain, Story, c, many, n, p, policy, r

STUCK = policy("stuck")


def test_01_a_compensation_that_was_skipped_is_not_requested_again() -> None:
    story = Story(c("a")).spends("a").spends("a", phase=Phase.COMPENSATION).then(run="stuck")
    story.skip("a").then("Skipped RunEnded", a="skipped", run="abandoned")
    assert story.last_of(e.RunEnded).effects == ("a",)


def test_02_an_effect_in_place_is_never_called_unreachable() -> None:
    # The action acts, its owner dies, and the adopter's only logged attempt is "not sent".
    story = Story(c("a", policy=policy(attempts=1))).adopted().fails("a", Cause.NOT_SENT)
    story.then("ActionUnknown Aborted CompensationRequested", a="compensating")


def test_02_work_taken_on_once_rules_unreachable_out() -> None:
    story = (
        Story(c("a", policy=policy("stuck", attempts=2))).takes_on("a").wakes().then("ActionUnknown SettleRequested")
    )
    story.takes_on("a", phase=Phase.SEAL).then("AttemptFailed Marked", marks="a:seal:outcome-unknown")
    assert story.tries("a").tainted


def test_02_a_pending_answer_to_a_seal_taints_the_action() -> None:
    story = Story(p("p", policy=policy(attempts=1))).cancel()
    story.fails("p").then("ActionUnknown SettleRequested").takes_on("p", phase=Phase.SEAL)
    assert story.tries("p").tainted


def test_02_a_new_budget_doesnt_forget_what_may_have_been_sent() -> None:
    story = Story(c("a", policy=STUCK)).spends("a").retry("a").spends("a", Cause.NOT_SENT)
    story.then("ActionUnknown Marked", a="unknown")


@pytest.mark.parametrize("turned", ["backward", "abort requested"])
def test_03_an_attempt_that_a_dead_owner_left_open_doesnt_block_the_way_back(turned: str) -> None:
    if turned == "backward":
        story = Story(c("a"), c("b")).no("a").adopted()
        story.then("ActionUnknown CompensationRequested", b="compensating")
    else:
        story = Story(p()).cancel().adopted().then("ActionUnknown SettleRequested", p="unknown")
        assert story.sends == ["p:seal"]
    assert story.last_of(e.ActionUnknown).cause is Cause.OWNER_LOST


def turned_back_with_a_visitors_call() -> Story:
    return Story(c("z"), c("a", after="z"), c("b", after="z")).yes("z", epoch=0).no("b").then(a="acting")


def wish_to_turn_back_with_a_visitors_pivot() -> Story:
    return Story(c("z"), p("a")).yes("z", epoch=0).cancel().then("CancelAsked AbortRequested", a="acting")


@pytest.mark.parametrize("told", [turned_back_with_a_visitors_call, wish_to_turn_back_with_a_visitors_pivot])
def test_03_what_a_visitor_asked_for_is_awaited_by_the_owner_and_ended_by_an_adopter(told: Callable[[], Story]) -> None:
    story = told()
    assert story.tries("a").open_epoch == 0
    story.due(1).then("").yes("z").then("", a="acting").fails("a")
    assert story.last_of(e.ActionUnknown).cause is Cause.TIMED_OUT
    assert told().adopted().last_of(e.ActionUnknown).cause is Cause.OWNER_LOST


def test_04_one_item_that_acted_keeps_the_step_before_it_in_place() -> None:
    story = Story(c("a"), c("m", many("x", "y"), after="a")).yes("a").no("m", item="x")
    story.then("ActionRejected Aborted", m="acting", a="done")
    story.yes("m", item="y").then("ActionSucceeded CompensationRequested", a="done")
    assert story.items("m") == {"x": "rejected", "y": "compensating"}
    story.undoes("m", item="y").then("CompensationSucceeded CompensationRequested", a="compensating")


def sealing() -> Story:
    story = Story(c("z"), c("a", after="z"), p()).yes("z", "a").no("p").halts("a", phase=Phase.COMPENSATION)
    return story.resolve("a", "undone").then("Resolved SettleRequested", a="compensating", run="compensating", marks="")


def test_05_undone_by_hand_is_sealed_first_and_confirmed_where_an_effect_was_found() -> None:
    story = sealing()
    assert [(each.phase, each.seal) for each in story.owed.sends] == [(Phase.SEAL, "undone")]
    story.yes("a", phase=Phase.SEAL, reply=b'"r-1"')
    story.then("Sealed Marked", a="compensating", z="done", marks="a:compensation:confirm-undone", run="stuck")
    story.retry("a").refuses("confirm-undone")
    story.resolve("a", "undone").then("Resolved CompensationRequested", a="compensated", z="compensating")
    story.undoes("z").then(run="compensated")
    assert story.record.by_hand


@pytest.mark.parametrize("word", ["noop", "blocked"])
def test_05_where_nothing_was_found_no_confirmation_is_needed(word: str) -> None:
    sealing().no("a", word=word, phase=Phase.SEAL).then(
        "Sealed CompensationRequested", a="compensated", z="compensating"
    )


def test_05_without_a_barrier_the_persons_word_counts() -> None:
    story = Story(c("a", Plain.act), p()).yes("a").no("p").halts("a", phase=Phase.COMPENSATION)
    story.resolve("a", "undone").then("Resolved RunEnded", run="compensated")


def test_06_a_spent_seal_is_retried_or_skipped_and_not_resolved() -> None:
    story = sealing().spends("a", phase=Phase.SEAL).then("AttemptFailed Marked", marks="a:seal:sealing", run="stuck")
    story.resolve("a", "undone").refuses("sealing")
    story.retry("a").then("RetryAsked", marks="")
    assert "a:seal" in story.sends
    story.spends("a", phase=Phase.SEAL).skip("a").then("Skipped CompensationRequested", a="skipped")
    story.undoes("z").then("CompensationSucceeded RunEnded", run="abandoned")
    assert story.last_of(e.RunEnded).effects == ("a",)


def test_07_a_seal_that_finds_pending_work_asks_again_until_the_answer_is_overdue() -> None:
    story = Story(p()).takes_on("p").cancel().then("CancelAsked AbortRequested ActionUnknown SettleRequested")
    story.takes_on("p", phase=Phase.SEAL).then("AttemptFailed", p="unknown", run="running")
    for _ in range(20_000):
        if story.marks:
            break
        story.takes_on("p", phase=Phase.SEAL)
    story.then("AttemptFailed Marked", marks="p:seal:outcome-unknown")
    story.resolve("p", "rejected").then("Resolved SettleRequested")
    assert [each.seal for each in story.owed.sends] == ["rejected"]
    story.yes("p", phase=Phase.SEAL).then("ActionSucceeded AbortVoid RunEnded", p="done", run="completed")


def test_08_a_retriables_no_that_was_waited_for_is_a_failed_attempt() -> None:
    story = Story(p(), r()).yes("p").takes_on("r").no("r", epoch=0).then("AttemptFailed", r="acting")
    story.yes("r").then("ActionSucceeded RunEnded")


def test_08_a_retriable_that_never_answered_is_sent_again() -> None:
    story = (
        Story(p(), r("r", policy=policy(hours=24 * 30)))
        .yes("p")
        .takes_on("r")
        .wakes()
        .then("AttemptFailed", r="acting")
    )
    story.wait(120)
    assert [(each.phase, each.attempt) for each in story.owed.sends] == [(Phase.ACTION, 2)]


def test_08_a_retriable_is_never_sealed() -> None:
    # Not even where somebody had wanted to turn back before the pivot succeeded.
    story = Story(p(), r()).cancel().yes("p").then("ActionSucceeded AbortVoid ActionRequested")
    story.spends("r").then("ActionUnknown Marked", marks="r:action:spent")
    story.retry("r").then("RetryAsked", r="acting", run="running")
    assert story.sends == ["r:action"]


@pytest.mark.parametrize("guard", ["idempotent, asked", "once, asked"])
def test_09_nothing_there_is_not_yet_never(guard: str) -> None:
    story = Story(c("a", GUARDS[guard])).spends("a")
    story.fails("a", Cause.ABSENT, phase=Phase.PROBE).then("AttemptFailed", a="unknown")
    story.wait(3_600).fails("a", Cause.ABSENT, phase=Phase.PROBE).then(
        "ActionRejected Aborted RunEnded", run="compensated"
    )


def test_09_a_person_cant_say_never_while_a_copy_may_still_arrive() -> None:
    story = Story(c("a", Once.act)).fails("a").resolve("a", "rejected").refuses("in-flight")
    story.wait(3_600).resolve("a", "rejected").then("Resolved Aborted RunEnded", a="rejected", run="compensated")


def test_10_an_effect_without_a_barrier_that_was_skipped_ends_abandoned() -> None:
    story = Story(c("a", Plain.act, policy=STUCK), c("b")).spends("a").skip("a").no("b")
    story.then("ActionRejected Aborted RunEnded", run="abandoned")
    assert story.last_of(e.RunEnded).effects == ("a",)
    Story(c("a", Plain.act, policy=STUCK), p()).spends("a").skip("a").yes("p").then(run="completed")


def test_13_a_neutral_step_owes_nothing_when_the_run_turns_back() -> None:
    story = Story(n("done"), n("acting"), n("pending"), c("a")).yes("done").takes_on("pending").no("a")
    story.then(
        "ActionRejected Aborted RunEnded",
        done="compensated",
        acting="compensated",
        pending="compensated",
        run="compensated",
    )
    assert str(story.outcome) == "compensated  a said no: no-stock"


def test_13_a_neutral_steps_mark_goes_when_the_run_turns_back() -> None:
    Story(n(), c("a")).halts("n").then(run="stuck").no("a").then(run="compensated", marks="", n="compensated")


@pytest.mark.parametrize("guard", GUARDS)
def test_13_a_spent_neutral_step_turns_the_run_back_and_is_never_stuck(guard: str) -> None:
    story = Story(n("n", GUARDS[guard])).spends("n").then("ActionUnknown Aborted RunEnded", run="compensated")
    assert story.last_of(e.Aborted).reason == "n did not answer: ?"


def test_14_a_compensations_answer_to_a_step_that_isnt_undone_changes_nothing() -> None:
    Story(c("a"), p()).undoes("a").then("", a="acting").yes("a").undoes("a").then("", a="done")


def test_14_a_former_owners_time_out_changes_nothing() -> None:
    story = Story(c("a")).adopted()
    story.reply("a", Unknown(Cause.TIMED_OUT, "?"), epoch=0).then("")
    story.halts("a", epoch=0).then("", a="acting")


def test_14_a_doubtful_no_of_a_visitor_is_kept_and_taints() -> None:
    story = Story(c("a", Plain.act)).adopted().then("AttemptStarted").no("a", epoch=0, attempt=1)
    story.then("LateReply", a="acting")
    story.no("a").then("ActionUnknown Marked", a="unknown")
    fresh = Story(c("a", Plain.act)).no("a", epoch=0, attempt=1).then("LateReply", a="acting")
    fresh.no("a").then("ActionUnknown Marked", a="unknown")  # no longer the one and only answer


def test_14_retry_backward_of_an_unknown_action_undoes_it_and_sends_nothing() -> None:
    story = Story(c("a", policy=STUCK), c("b")).spends("a").no("b").then(run="stuck")
    story.retry("a").then("RetryAsked CompensationRequested", a="compensating")
    assert story.sends == ["a:compensation"]


def test_14_retry_after_the_wish_to_turn_back_settles_where_something_settles() -> None:
    story = Story(p()).halts("p").cancel().then("CancelAsked AbortRequested", run="stuck")
    story.retry("p").then("RetryAsked SettleRequested", p="unknown")
    assert story.sends == ["p:seal"]
    story = Story(p("p", OnceAsked.act)).halts("p").cancel().retry("p").then("RetryAsked SettleRequested", p="unknown")
    assert story.sends == ["p:probe"]
    story = Story(p("p", Plain.act)).spends("p").cancel().retry("p").then("RetryAsked", p="acting")
    assert story.sends == ["p:action"]


def test_14_a_step_isnt_undone_while_a_dependent_has_a_mark() -> None:
    story = Story(c("a"), c("b", after="a", policy=STUCK), c("d")).yes("a").spends("b").no("d")
    story.then("ActionRejected Aborted", a="done", b="unknown", run="stuck")


def test_14_every_ready_builder_runs_before_a_mark_counts() -> None:
    def breaks(_input: str) -> object:
        raise KeyError

    story = Story(c("z"), c("a", breaks, after="z"), c("b", after="z")).yes("z")
    story.then("ActionSucceeded BuildFailed Marked ActionRequested", b="acting", run="stuck")


def test_14_an_unconfirmed_seal_is_listed_when_the_run_is_abandoned() -> None:
    story = sealing().yes("a", phase=Phase.SEAL).abandon()
    assert story.last_of(e.Abandoned).effects == ("z", "a")


def test_14_asked_of_each_item_of_a_step() -> None:
    story = Story(c("m", many("x", "y", does=Asked.act))).spends("m", item="x").yes("m", item="y")
    story.then("ActionSucceeded", m="unknown")
    assert story.sends == ["m/x:probe"]
    assert Barrier.act.guard.value == "barrier"
