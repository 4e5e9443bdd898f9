"""Budgets, delays, taint, items, built-in calls, builders, notices, adoption: what every run relies on."""

from datetime import UTC, datetime, timedelta

import pytest

from amends.core.run import events as e
from amends.core.run.answers import Cause, SaidNo, Succeeded, Unknown
from amends.core.run.commands import Begin, Due, Reply
from amends.core.saga.operation import Call, ask, sleep, sleep_until
from amends.core.words.errors import Rejected
from amends.core.words.keys import NOTICE, Phase
from amends.core.words.limits import EVENTS_MAX
from amends.core.words.retry import Policy
from amends.core.words.retry import Retry as Tried
from tests.support.stories import (
    BEGIN,
    GUARDS,
    Asked,
    Barrier,
    Once,
    Plain,
    Spec,
    Story,
    c,
    gives,
    many,
    n,
    p,
    policy,
    r,
)

SECOND = 1_000_000

# -- budgets


@pytest.mark.parametrize(("step", "attempts"), [(c("s"), 8), (p("s"), 8), (n("s"), 8)])
def test_eight_attempts_before_the_point_of_no_return(step: Spec, attempts: int) -> None:
    story = Story(step).spends("s")
    failed = [each for each in story.events if isinstance(each, e.AttemptFailed | e.ActionUnknown)]
    assert (
        len([each for each in failed if each.step == "s" and getattr(each, "phase", Phase.ACTION) is Phase.ACTION])
        == attempts
    )


def test_a_retriable_and_a_compensation_are_tried_for_a_day() -> None:
    story = Story(p(), r()).yes("p")
    asked = story.now
    story.spends("r")
    assert 23.9 * 3600 * SECOND < story.now - asked <= 24 * 3600 * SECOND
    story = Story(c("a"), p()).yes("a").no("p")
    asked = story.now
    story.spends("a", phase=Phase.COMPENSATION)
    assert 23.9 * 3600 * SECOND < story.now - asked <= 24 * 3600 * SECOND


def test_what_held_a_call_back_uses_no_attempt() -> None:
    story = Story(c("a"))
    for _ in range(20):
        story.fails("a", Cause.IN_PROGRESS).then("AttemptFailed", a="acting")
    assert story.tries("a").attempts == 0


def test_patience_in_time_ends_attempts_too() -> None:
    story = Story(c("a", policy=Policy(retry=Tried(attempts_max=None, give_up_after=timedelta(seconds=30)))))
    story.spends("a").then("ActionUnknown Aborted CompensationRequested")
    assert story.now - BEGIN <= 30 * SECOND


def test_a_long_history_is_spent_while_a_person_still_gets_through() -> None:
    story = Story(
        c("a", policy=Policy(on_unknown="stuck", retry=Tried(attempts_max=None, give_up_after=timedelta(days=9))))
    )
    story.record.length = EVENTS_MAX
    story.folded = story.record.copy()
    story.events = [story.events[0]] * EVENTS_MAX
    story.fails("a").then("ActionUnknown Marked", run="stuck")
    story.retry("a").then("RetryAsked", a="acting")


def test_the_delay_is_never_less_than_what_the_participant_asked_for() -> None:
    story = Story(c("a")).reply("a", Unknown(Cause.BUSY, "later", retry_after=600 * SECOND))
    assert story.owed.wake == story.now + 600 * SECOND


# -- taint


def test_a_time_out_of_an_older_send_says_nothing_about_the_latest() -> None:
    story = Story(c("a")).fails("a").wait(60).fails("a", attempt=1).then("")
    story.fails("a", attempt=2).then("AttemptFailed")


def test_a_call_left_open_by_a_former_owner_may_have_been_sent() -> None:
    Story(c("a")).adopted().spends("a", Cause.NOT_SENT).then("ActionUnknown Aborted CompensationRequested")


def test_what_was_held_back_when_the_run_turned_is_withdrawn() -> None:
    story = Story(c("a"), c("b")).no("a").fails("b", Cause.WITHDRAWN)
    story.then("ActionRejected RunEnded", b="rejected", run="compensated")
    assert story.last_of(e.ActionRejected).word == "withdrawn"
    story = Story(c("a"), c("m", many("x", "y", does=Plain.act))).no("a")
    story.then("ActionRejected Aborted ActionRejected ActionRejected RunEnded", run="compensated")


# -- leaving without a barrier


@pytest.mark.parametrize("guard", [name for name in GUARDS if name != "barrier"])
def test_without_a_barrier_the_log_knows_before_a_call_leaves(guard: str) -> None:
    story = Story(c("a", GUARDS[guard]))
    assert [each.starts for each in story.owed.sends] == [False]  # its request says so
    story.fails("a", Cause.NOT_SENT).wait(60)
    assert [each.starts for each in story.owed.sends] == [True]
    begin = Begin(story.now, story.epoch, "a", "", Phase.ACTION)
    story.do(begin).then("AttemptStarted")
    assert [each.starts for each in story.owed.sends] == [False]
    story.do(begin).then("")


def test_each_item_without_a_barrier_leaves_after_a_fact_of_its_own() -> None:
    story = Story(c("m", many("x", "y", does=Plain.act)))
    assert [each.starts for each in story.owed.sends] == [True, True]
    assert [each.starts for each in Story(c("m", many("x", "y"))).owed.sends] == [False, False]


def test_behind_a_barrier_a_repeat_needs_no_fact() -> None:
    story = Story(c("a")).fails("a").wait(60)
    assert [each.starts for each in story.owed.sends] == [False]


def test_what_a_visitor_requested_leaves_only_after_its_owner_says_so() -> None:
    story = Story(c("z"), c("a", Plain.act, after="z")).yes("z", epoch=0).then("ActionSucceeded ActionRequested")
    assert [each.starts for each in story.owed.sends] == [True]
    story.no("a").then("ActionRejected Aborted CompensationRequested")


# -- adoption


def test_adoption_behind_a_barrier_sends_the_same_attempt_again() -> None:
    story = Story(c("a"))
    before = story.owed
    story.adopted().then("")
    assert story.owed == before


def test_adoption_of_an_idempotent_call_repeats_and_taints_it() -> None:
    story = Story(c("a", Plain.act)).adopted().then("AttemptStarted", a="acting")
    assert [each.starts for each in story.owed.sends] == [False]
    story.no("a").then("ActionUnknown Marked", a="unknown")


def test_adoption_of_a_call_sent_once_never_sends_it_again() -> None:
    story = Story(c("a", Once.act)).adopted().then("ActionUnknown Marked", a="unknown")
    assert story.last_of(e.ActionUnknown).cause is Cause.OWNER_LOST
    Story(c("a", GUARDS["once, asked"])).adopted().then("ActionUnknown SettleRequested")


def test_adoption_of_a_call_that_waits_for_its_next_attempt_changes_nothing() -> None:
    for guard in GUARDS:
        Story(c("a", GUARDS[guard])).fails("a", Cause.NOT_SENT).adopted().then("", a="acting")


@pytest.mark.parametrize(
    ("guard", "facts"), [("barrier", ""), ("idempotent", "AttemptStarted"), ("once", "AttemptFailed Marked")]
)
def test_adoption_of_a_compensation(guard: str, facts: str) -> None:
    story = Story(c("a", GUARDS[guard]), p()).yes("a").no("p").adopted().then(facts, a="compensating")
    assert story.sends == ([] if guard == "once" else ["a:compensation"])


def test_adoption_of_neutral_steps_leaves_none_of_them_half_done() -> None:
    story = Story(n("a", Once.act), n("b", Once.act), n("d")).adopted()
    story.then("ActionUnknown Aborted RunEnded", a="compensated", b="compensated", d="compensated")


# -- steps of many calls


def test_many_calls_are_requested_in_one_fact_and_read_as_their_author_wrote_them() -> None:
    read: list[object] = []

    def reader(_input: str, replies: object) -> object:
        read.append(replies)
        return Barrier.act("b")

    story = Story(c("m", many("sku/1", "x")), c("b", reader, reads="m"))
    story.then("RunStarted ActionRequested", m="acting")
    assert story.sends == ["m/sku%2F1:action", "m/x:action"]
    story.yes("m", item="sku%2F1", reply=b'"1"').then("ActionSucceeded", m="acting")
    story.yes("m", item="x", reply=b'"2"').then("ActionSucceeded ActionRequested", m="done")
    assert read == [{"sku/1": "1", "x": "2"}]


def test_a_list_of_calls_is_read_as_a_list() -> None:
    read: list[object] = []

    def lists(_input: str) -> object:
        return [Barrier.act(str(each)) for each in range(12)]

    def reader(_input: str, replies: object) -> object:
        read.append(replies)
        return Barrier.act("b")

    story = Story(c("m", lists), c("b", reader, reads="m"))
    for each in reversed(range(12)):
        story.yes("m", item=str(each), reply=b'"%d"' % each)
    assert read == [[str(each) for each in range(12)]]


def test_no_calls_at_all_are_done_at_once() -> None:
    Story(c("m", gives({})), p()).then("RunStarted ActionRequested ActionRequested", m="done", p="acting")


def test_a_step_of_many_is_shown_as_the_first_state_that_any_item_is_in() -> None:
    story = Story(c("m", many("x", "y"), policy=policy("stuck")), c("b")).then(m="acting")
    story.spends("m", item="x").then(m="acting").yes("m", item="y").then(m="unknown")
    story.no("b").then(m="compensating").undoes("m", item="y").then(m="unknown")
    story.retry("m", "x").then(m="compensating").undoes("m", item="x").then(m="compensated")


def test_one_no_among_many_turns_back_and_undoes_the_others() -> None:
    story = Story(c("m", many("x", "y", "z"))).yes("m", item="x").no("m", item="y")
    story.then("ActionRejected Aborted CompensationRequested", m="compensating")
    assert story.last_of(e.Aborted).reason == "m/y said no: no-stock"
    story.no("m", item="z").undoes("m", item="x").then("CompensationSucceeded RunEnded", run="compensated")


# -- built-in calls


def asks(_input: str, *_replies: object) -> Call[bool]:
    return ask(bool, "May it?", within=timedelta(hours=1))


def test_nothing_is_sent_for_a_question_or_a_sleep() -> None:
    story = Story(n("q", asks), n("s", gives(sleep(timedelta(minutes=1)))))
    assert story.sends == []
    assert story.owed.wake == BEGIN + 60 * SECOND


def test_a_sleep_is_over_when_it_is_over_or_a_person_ends_it() -> None:
    story = Story(n("s", gives(sleep(timedelta(minutes=1)))))
    story.due(59).then("", s="acting").due(1).then("ActionSucceeded RunEnded", run="completed")
    Story(n("s", gives(sleep(timedelta(days=9))))).retry("s").then("RetryAsked ActionSucceeded RunEnded")
    moment = datetime.fromtimestamp(BEGIN / SECOND + 5, tz=UTC)
    Story(n("s", gives(sleep_until(moment)))).due(5).then("ActionSucceeded RunEnded", run="completed")


def test_a_question_past_the_pivot_that_nobody_answered_is_put_again_by_a_person() -> None:
    story = Story(p(), n("q", asks, after="p")).yes("p").wakes()
    story.then("Marked", q="unknown", marks="q:action:no-answer", run="stuck")
    asked = story.now
    story.retry("q").then("RetryAsked", q="acting", run="running")
    assert story.sends == []
    assert story.owed.wake == asked + 3_600 * SECOND
    story.wakes().then("Marked").answer("q", b"true").then("Answered RunEnded", run="completed")


def test_a_question_past_the_pivot_cant_be_declined() -> None:
    Story(p(), n("q", asks, after="p")).yes("p").answer("q", None).refuses("past-pivot")


def test_a_question_is_void_once_the_run_turned_back() -> None:
    story = Story(n("q", asks), c("a"), c("b")).no("a").then(q="compensated")
    story.answer("q", b"true").refuses("settled")


def test_built_in_calls_stand_in_neutral_steps_only() -> None:
    story = Story(c("z"), c("a", gives(sleep(timedelta(1))), after="z")).yes("z").then(marks="a:action:author-error")
    assert "is compensable, but sleep changes nothing" in story.last_of(e.BuildFailed).error


# -- builders


def test_a_bug_at_the_start_is_the_callers_exception_and_names_the_step() -> None:
    with pytest.raises(KeyError) as raised:
        Story(c("a", gives(KeyError("zip"))))
    assert raised.value.__notes__ == ["in the builder of s v1, step a"]


def test_a_no_at_the_start_requests_nothing_and_ends_in_the_first_append() -> None:
    story = Story(c("a"), c("b", gives(Rejected("no", code="closed"))))
    story.then("RunStarted StepDeclined Aborted RunEnded", a="waiting", b="rejected", run="compensated")
    assert str(story.outcome) == "compensated  b said no: closed"


def test_a_no_of_a_builder_past_the_pivot_stops_for_a_person_and_is_built_again() -> None:
    story = Story(p(), r("r", gives(Rejected("not today")))).yes("p")
    story.then("ActionSucceeded Marked", r="waiting", marks="r:action:rejected-after-pivot", run="stuck")
    story.retry("r").then("RetryAsked Marked")


def test_one_no_among_ready_builders_requests_none_of_them() -> None:
    story = Story(c("z"), c("a", after="z"), c("b", gives(Rejected("no")), after="z")).yes("z")
    story.then("ActionSucceeded StepDeclined Aborted CompensationRequested", a="waiting")


def test_a_pivot_makes_one_call_only() -> None:
    story = Story(c("z"), p("p", many("x", "y", does=Barrier.bare), after="z")).yes("z")
    assert "a pivot decides once" in story.last_of(e.BuildFailed).error


# -- why it turned


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("code", "a said no: no-stock"),
        ("detail", "a said no: said no"),
        ("not sent", "a could not be reached: ?"),
        ("silent", "a did not answer: ?"),
        ("answered", "a failed: ?"),
        ("cancel", "cancelled: because"),
        ("deadline", "deadline passed"),
    ],
)
def test_the_reason_is_made_once(told: str, reason: str) -> None:
    story = Story(c("a"), c("b"), deadline=9_999 if reason != "deadline passed" else 60).yes("b")
    match told:
        case "code":
            story.no("a")
        case "detail":
            story.no("a", None)
        case "not sent":
            story.spends("a", Cause.NOT_SENT)
        case "silent":
            story.spends("a")
        case "answered":
            story.spends("a", Cause.SERVER_ERROR)
        case "cancel":
            story.cancel()
        case _:
            story.due(60)
    assert story.last_of(e.Aborted).reason == reason
    assert f'"reason":"{reason}"'.encode() in story.last_of(e.CompensationRequested).body


# -- the notice


def tells(_input: str, _ended: object) -> Call[str]:
    return Barrier.bare("told")


def test_the_append_that_ends_a_run_also_asks_for_its_notice() -> None:
    story = Story(c("a"), notice=tells).yes("a").then("ActionSucceeded RunEnded NoticeRequested", run="completed")
    assert [(each.step, each.kind.value, each.participant) for each in story.owed.sends] == [
        (NOTICE, "retriable", "barrier")
    ]
    story.fails(NOTICE).then("NoticeFailed", run="completed")
    assert story.owed.wake is not None
    story.yes(NOTICE).then("NoticeDelivered", run="completed")
    assert story.owed.sends == ()
    story.yes(NOTICE).then("")


@pytest.mark.parametrize("end", ["no", "abandon"])
def test_every_end_is_told(end: str) -> None:
    story = Story(c("a", policy=policy("stuck")), notice=tells)
    if end == "no":
        story.no("a").then("ActionRejected Aborted RunEnded NoticeRequested")
    else:
        story.spends("a").abandon().then("Abandoned NoticeRequested")


def test_a_notice_that_cant_be_delivered_leaves_the_end_as_it_is() -> None:
    story = Story(c("a"), notice=tells).yes("a")
    for _ in range(2_000):
        if story.owed.wake is None and not story.owed.sends:
            break
        story.fails(NOTICE)
    story.then("NoticeFailed", run="completed")
    Story(c("a"), notice=tells).yes("a").no(NOTICE).then("NoticeFailed")
    halted = Story(c("a"), notice=tells).yes("a").halts(NOTICE).then("NoticeFailed")
    assert halted.owed.wake is None


def test_a_notice_whose_builder_raises_is_a_failed_notice() -> None:
    def breaks(_input: str, _ended: object) -> object:
        raise KeyError("mail")

    story = Story(c("a"), notice=breaks).yes("a").then("ActionSucceeded RunEnded NoticeFailed", run="completed")
    assert "KeyError: 'mail'" in story.last_of(e.NoticeFailed).detail
    Story(c("a"), notice=lambda *_: None).yes("a").then("ActionSucceeded RunEnded")
    Story(c("a"), notice=lambda *_: "mail").yes("a").then("ActionSucceeded RunEnded NoticeFailed")


# -- time


def test_time_never_goes_back_within_a_run() -> None:
    story = Story(c("a"), p()).wait(60).yes("a")
    story.do(Reply(BEGIN, 1, "p", "", Phase.ACTION, 1, Succeeded(b'"ok"'))).then("ActionSucceeded RunEnded")
    assert story.last_of(e.RunEnded).at == BEGIN + 60 * SECOND
    story.do(Due(0, 1)).then("")


def test_what_wakes_a_run_is_the_earliest_moment_that_matters() -> None:
    story = Story(c("a"), c("b"), deadline=9_999).fails("a").takes_on("b")
    assert story.owed.wake == story.tries("a").due
    story.wait(60)
    assert story.owed.wake == BEGIN + 9_999 * SECOND


def test_a_call_says_how_its_step_behaves() -> None:
    story = Story(n("n"), p("p", after="n"), n("m", after="p"), r("r", after="m"))
    kinds: dict[str, str] = {}
    for step in "npmr":
        kinds |= {each.step: each.kind.value for each in story.owed.sends}
        story.yes(step)
    assert kinds == {"n": "compensable", "p": "pivot", "m": "retriable", "r": "retriable"}


def test_the_moment_an_action_was_first_requested_goes_along_with_all_its_calls() -> None:
    story = Story(c("a"), p()).wait(5).yes("a").no("p")
    assert [each.since for each in story.owed.sends] == [BEGIN]


def test_an_asked_no_is_definite() -> None:
    story = Story(c("a", Asked.act)).spends("a")
    story.reply("a", SaidNo("gone", "gone"), phase=Phase.PROBE).then("ActionRejected Aborted RunEnded", a="rejected")
