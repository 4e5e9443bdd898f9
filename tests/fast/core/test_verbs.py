"""What a person asks of a run: every cell of the tables of verbs."""

from collections.abc import Callable
from datetime import timedelta
from typing import Literal

import pytest

from amends.core.run import events as e
from amends.core.run.answers import Cause
from amends.core.run.commands import Begin, Refusal, Resolve
from amends.core.run.evolve import apply
from amends.core.run.record import ItemRecord
from amends.core.run.verbs import find_item
from amends.core.saga.operation import Call, ask, sleep
from amends.core.words.keys import Phase
from tests.support.stories import (
    BEGIN,
    GUARDS,
    ME,
    Asked,
    Barrier,
    Once,
    OnceAsked,
    Plain,
    Story,
    c,
    gives,
    many,
    n,
    p,
    policy,
    r,
)

STUCK = policy("stuck")

# -- on a run


def in_stage(stage: str) -> Story:
    match stage:
        case "running":
            return Story(c("a"), c("b", after="a"), p()).yes("a")
        case "stuck":
            return Story(c("a"), c("b", after="a", policy=STUCK), p()).yes("a").spends("b").then(run="stuck")
        case "pivot open":
            return Story(c("a"), p()).yes("a")
        case "pivot stuck":
            return Story(c("a"), p("p", Plain.act)).yes("a").spends("p").then(run="stuck")
        case "past the pivot":
            return Story(p(), r()).yes("p")
        case "past the pivot, stuck":
            return Story(p(), r()).yes("p").halts("r").then(run="stuck")
        case "compensating":
            return Story(c("a"), p()).yes("a").no("p")
        case "compensating, stuck":
            return Story(c("a"), p()).yes("a").no("p").halts("a", phase=Phase.COMPENSATION).then(run="stuck")
        case "compensated":
            return Story(c("a")).no("a")
        case "completed":
            return Story(c("a")).yes("a")
        case _:
            return Story(c("a", policy=STUCK)).spends("a").abandon().then(run="abandoned")


CANCELLED = {
    "running": "CancelAsked Aborted",
    "stuck": "CancelAsked Aborted",
    "pivot open": "CancelAsked AbortRequested",
    "past the pivot": "past-pivot",
    "past the pivot, stuck": "past-pivot",
    "compensating": "",
    "compensating, stuck": "",
    "compensated": "",
    "completed": "past-pivot",
    "abandoned": "ended",
}


@pytest.mark.parametrize("stage", CANCELLED)
@pytest.mark.parametrize("verb", ["cancel", "compensate"])
def test_asking_to_turn_back(verb: Literal["cancel", "compensate"], stage: str) -> None:
    story = in_stage(stage).cancel(verb)
    expected = CANCELLED[stage]
    if expected in {"past-pivot", "ended"}:
        story.refuses(expected)
    elif (verb, stage) == ("compensate", "stuck"):
        story.then("CancelAsked Aborted Unmarked CompensationRequested", b="compensating", run="compensating")
    else:
        story.then(expected)
    assert not story.record.by_hand or stage == "abandoned"


def test_cancel_leaves_marks_except_of_steps_never_requested() -> None:
    in_stage("stuck").cancel().then("CancelAsked Aborted", marks="b:action:outcome-unknown", run="stuck")
    story = Story(c("a"), c("b", gives(KeyError()), after="a")).yes("a").then(marks="b:action:author-error")
    story.cancel().then("CancelAsked Aborted CompensationRequested", marks="", run="compensating")


def test_compensate_with_a_stuck_pivot_settles_it_or_asks_for_an_answer_first() -> None:
    in_stage("pivot stuck").cancel("compensate").refuses("pivot-unknown")
    in_stage("pivot stuck").cancel().then("CancelAsked AbortRequested", run="stuck")
    story = Story(p("p", Asked.act)).spends("p").spends("p", phase=Phase.PROBE).then(run="stuck")
    story.cancel("compensate").then("CancelAsked Unmarked AbortRequested SettleRequested", run="running")
    assert story.sends == ["p:probe"]


def test_compensate_asks_again_where_a_seal_was_spent() -> None:
    story = Story(p()).spends("p").spends("p", phase=Phase.SEAL).then(marks="p:seal:outcome-unknown")
    story.cancel("compensate").then("CancelAsked Unmarked AbortRequested SettleRequested", run="running")
    assert story.sends == ["p:seal"]
    story.no("p", word="noop", phase=Phase.SEAL).then(run="compensated")


def test_compensate_backward_gives_up_waiting_where_a_barrier_allows_it() -> None:
    story = in_stage("stuck").cancel().cancel("compensate")
    story.then("CancelAsked Unmarked CompensationRequested", b="compensating", run="compensating")


@pytest.mark.parametrize("stage", CANCELLED)
def test_retrying_everything(stage: str) -> None:
    story = in_stage(stage).retry()
    if stage in {"compensated", "completed", "abandoned"}:
        story.refuses("ended")
    elif "stuck" in stage:
        story.then("RetryAsked", marks="")
    else:
        story.refuses("not-stuck")


@pytest.mark.parametrize("stage", [*CANCELLED, "pivot stuck"])
def test_abandoning(stage: str) -> None:
    story = in_stage(stage).abandon()
    if stage in {"compensated", "completed"}:
        story.refuses("ended")
    elif stage == "abandoned":
        story.then("")
    elif "stuck" in stage:
        story.then("Abandoned", run="abandoned")
        assert story.record.by_hand
    else:
        story.refuses("not-stuck")


def test_abandoning_lists_everything_that_may_remain() -> None:
    story = Story(
        c("done"),
        c("skipped", policy=STUCK),
        c("never", gives(None)),
        n("looked"),
        c("unknown", policy=STUCK),
        c("acting"),
    )
    story.yes("done", "looked").spends("skipped").skip("skipped").spends("unknown").abandon()
    assert story.last_of(e.Abandoned).effects == ("done", "skipped", "unknown", "acting")
    story = in_stage("compensating, stuck")
    assert story.abandon().last_of(e.Abandoned).effects == ("a",)
    story = Story(p(), c("a")).yes("a").no("p").yes("p", epoch=0).abandon()
    assert story.last_of(e.Abandoned).effects == ("a", "p")  # marked: what is known of it contradicts itself


# -- on a step that is stuck


def author_error() -> Story:
    return Story(c("a"), c("b", gives(KeyError()), after="a"), c("d", gives(KeyError()), after="a")).yes("a")


def test_a_step_never_requested_is_built_again_or_left_out() -> None:
    story = author_error().then(marks="b:action:author-error d:action:author-error")
    story.resolve("b", "succeeded").refuses("never-attempted")
    story.retry("d").then("RetryAsked", marks="b:action:author-error")  # nothing new is requested while one is stuck
    story.retry("b").then(
        "RetryAsked BuildFailed Marked BuildFailed Marked", marks="b:action:author-error d:action:author-error"
    )
    story.skip("d").then("Skipped", d="skipped", b="waiting", marks="b:action:author-error")
    story.skip("b").then("Skipped RunEnded", run="completed")
    assert story.record.by_hand


def test_the_pivot_is_never_left_out() -> None:
    Story(c("a"), p("p", gives(KeyError()), after="a")).yes("a").skip("p").refuses("pivot")
    in_stage("pivot stuck").skip("p").refuses("pivot")


def test_a_step_whose_reply_is_needed_cant_be_left_out() -> None:
    def needs(_input: str, reply: str) -> object:
        return Barrier.act(reply)

    def may_lack(_input: str, reply: str | None) -> object:
        return Barrier.act(str(reply))

    Story(c("a", policy=STUCK), c("b", needs, reads="a")).spends("a").skip("a").refuses("reply-needed")
    story = Story(c("a", policy=STUCK), c("b", may_lack, reads="a")).spends("a").skip("a")
    story.then("Skipped ActionRequested", a="skipped", b="acting")
    assert story.last_of(e.ActionRequested).requests[0].body == b'{"what":"None"}'


def test_nothing_is_needed_any_more_once_the_run_turned_back() -> None:
    def needs(_input: str, reply: str) -> object:
        return Barrier.act(reply)

    story = Story(c("a", policy=STUCK), c("b", needs, reads="a"), c("d")).spends("a").no("d")
    story.skip("a").then("Skipped CompensationRequested", a="compensating")


def test_resolving_an_action_as_succeeded_takes_its_reply() -> None:
    story = Story(c("a", policy=STUCK), p()).spends("a")
    story.resolve("a", "succeeded", b"4").refuses("reply-invalid", 422)
    story.resolve("a", "undone").refuses("not-compensating", 422)
    story.resolve("a", "succeeded", b'"r-1"').then("Resolved ActionRequested", a="done", p="acting")
    assert story.record.by_hand
    story.no("p").then(a="compensating")
    assert b'"reply":"r-1"' in story.last_of(e.CompensationRequested).body


def test_resolving_an_action_as_rejected_seals_it_behind_a_barrier() -> None:
    story = Story(c("a", policy=STUCK), c("b")).spends("a").resolve("a", "rejected")
    story.then("Resolved SettleRequested", a="unknown", run="running")
    assert [each.seal for each in story.owed.sends if each.step == "a"] == ["rejected"]
    story.no("a", word="blocked", phase=Phase.SEAL).then("ActionRejected Aborted", a="rejected")
    assert story.record.by_hand


def test_a_person_who_was_wrong_about_a_rejection_is_overruled_by_the_seal() -> None:
    story = Story(c("a", policy=STUCK), p()).spends("a").resolve("a", "rejected").yes("a", phase=Phase.SEAL)
    story.then("ActionSucceeded ActionRequested", a="done", p="acting")


def test_a_rejected_pivot_is_sealed_first_or_taken_at_a_persons_word() -> None:
    story = Story(p()).halts("p").resolve("p", "rejected").then("Resolved SettleRequested", p="unknown")
    story.no("p", word="noop", phase=Phase.SEAL).then("ActionRejected Aborted RunEnded", run="compensated")
    story = Story(p("p", Plain.act)).spends("p").wait(3_601).resolve("p", "rejected")
    story.then("Resolved Aborted RunEnded", p="rejected", run="compensated")
    assert story.record.by_hand


def test_a_retriable_cant_be_rejected_any_more() -> None:
    story = in_stage("past the pivot, stuck").resolve("r", "rejected").refuses("past-pivot")
    story.skip("r").then("Skipped RunEnded", run="completed")


def test_resolving_backward_turns_nothing_twice() -> None:
    story = in_stage("stuck").cancel().resolve("b", "rejected").then("Resolved SettleRequested", b="unknown")
    story.no("b", word="noop", phase=Phase.SEAL).then("ActionRejected CompensationRequested", b="rejected")


def test_a_compensation_is_retried_resolved_or_skipped() -> None:
    story = in_stage("compensating, stuck")
    story.retry("a").then("RetryAsked", marks="", run="compensating")
    assert story.sends == ["a:compensation"]
    story = in_stage("compensating, stuck")
    story.resolve("a", "succeeded").refuses("compensating", 422)
    story.resolve("a", "undone", b"1").refuses("compensating", 422)
    story.skip("a").then("Skipped RunEnded", run="abandoned")


# -- on a step that isn't stuck


def test_a_step_that_waits_for_its_next_attempt_is_sent_now_without_a_new_budget() -> None:
    story = Story(c("a")).fails("a").retry("a").then("RetryAsked", a="acting")
    assert story.sends == ["a:action"]
    story.spends("a")
    assert len([each for each in story.events if isinstance(each, e.AttemptFailed)]) == 7
    Story(c("a")).fails("a").resolve("a", "succeeded").then("Resolved RunEnded", run="completed")
    Story(c("a"), p()).fails("a").skip("a").then("Skipped ActionRequested", a="skipped")
    story = Story(c("a"), p()).yes("a").no("p").fails("a", phase=Phase.COMPENSATION)
    story.retry("a").then("RetryAsked")
    assert story.sends == ["a:compensation"]


def test_what_is_pending_isnt_sent_again_but_may_be_answered_by_a_person() -> None:
    def pending() -> Story:
        return Story(c("a"), p()).takes_on("a")

    pending().retry("a").refuses("pending")
    pending().resolve("a", "succeeded").then("Resolved ActionRequested", a="done")
    pending().skip("a").then("Skipped ActionRequested", a="skipped")


def test_nothing_is_done_to_a_call_in_flight() -> None:
    story = Story(c("a"))
    story.retry("a").refuses("in-flight")
    story.resolve("a", "succeeded").refuses("in-flight")
    story.skip("a").refuses("in-flight")
    story = Story(c("a"), p()).yes("a").no("p")
    story.retry("a").refuses("in-flight")
    story.resolve("a", "undone").refuses("in-flight")
    story.skip("a").refuses("in-flight")


def test_nothing_is_to_do_for_a_settled_step() -> None:
    story = Story(c("done"), c("no"), c("gone", gives(None)), c("undone"), c("busy"), p("waiting"))
    story.yes("done", "undone").no("no").undoes("undone")
    story.then(done="compensating", no="rejected", gone="skipped", undone="compensated", waiting="waiting")
    forward = Story(c("done"), c("gone", gives(None)), p("waiting", after="done"), c("busy")).yes("done")
    forward.then(done="done", gone="skipped", waiting="waiting")
    for told, step in [(story, each) for each in ("no", "gone", "undone", "waiting")] + [
        (forward, "done"),
        (forward, "waiting"),
    ]:
        told.retry(step).refuses("nothing-to-do")
        told.resolve(step, "succeeded").refuses("nothing-to-do")
        told.skip(step).refuses("nothing-to-do")


def test_nothing_is_done_to_a_step_of_an_ended_run() -> None:
    story = Story(c("a")).yes("a")
    story.retry("a").refuses("ended")
    story.resolve("a", "succeeded").refuses("ended")
    story.skip("a").refuses("ended")
    story.answer("a", b"1").refuses("ended")


def test_a_step_the_saga_hasnt_is_named_with_those_it_has() -> None:
    story = Story(c("a"), p())
    for asked in (story.retry("b"), story.skip("b"), story.resolve("b", "rejected"), story.answer("b", b"1")):
        asked.refuses("no-such-step", 404)
        assert asked.refused is not None
        assert "it has a, p" in asked.refused.detail


# -- items


def test_a_verb_on_a_step_of_many_names_its_item_where_several_may_be_meant() -> None:
    story = Story(c("a", many("x", "y/z", "w"), policy=STUCK), p())
    story.spends("a", item="x").spends("a", item="y%2Fz").yes("a", item="w")
    story.then(marks="a/x:action:outcome-unknown a/y%2Fz:action:outcome-unknown")
    story.resolve("a", "succeeded").refuses("item-needed", 422)
    story.resolve("a", "succeeded", item="q").refuses("no-such-item", 404)
    story.resolve("a", "succeeded", item="y/z").then("Resolved", marks="a/x:action:outcome-unknown")
    story.resolve("a", "succeeded").then("Resolved ActionRequested", a="done", p="acting")


def test_retry_of_a_step_of_many_means_all_of_it_that_is_stuck() -> None:
    story = Story(c("a", many("x", "y"), policy=STUCK)).spends("a", item="x").spends("a", item="y")
    story.retry("a").then("RetryAsked RetryAsked", marks="", a="acting")


def test_one_item_of_a_step_that_is_read_cant_be_left_out() -> None:
    def needs(_input: str, reply: dict[str, str]) -> object:
        return Barrier.act(str(reply))

    story = Story(c("a", many("x", "y"), policy=STUCK), c("b", needs, reads="a"))
    story.yes("a", item="x").spends("a", item="y").skip("a", "y").refuses("reply-needed")


# -- who did it


@pytest.mark.parametrize("guard", GUARDS)
def test_retrying_is_a_fact_only_where_a_call_that_may_have_happened_is_repeated(guard: str) -> None:
    story = Story(c("a", GUARDS[guard], policy=policy("stuck"))).spends("a").retry("a")
    assert story.record.by_hand is guard.startswith("once")


def test_a_call_sent_once_is_repeated_backward_if_a_person_says_so() -> None:
    story = Story(c("a", Once.act), c("b")).no("b").fails("a").then("ActionUnknown Marked", a="unknown")
    story.retry("a").then("RetryAsked", a="acting")
    assert story.sends == ["a:action"]
    story.fails("a", Cause.NOT_SENT).then("AttemptFailed ActionUnknown Marked", a="unknown")
    story.retry("a").yes("a").then("ActionSucceeded CompensationRequested", a="compensating")


def test_every_persons_fact_is_signed() -> None:
    story = Story(c("a", policy=STUCK), c("b", policy=STUCK)).spends("a").spends("b")
    story.retry("a").spends("a").resolve("a", "succeeded").skip("b")
    signed = [each for each in story.events if isinstance(each, e.RetryAsked | e.Resolved | e.Skipped)]
    assert {(each.who.by, each.who.reason) for each in signed} == {("ann", "because")}
    assert len(signed) == 3


def test_a_quarantined_run_moves_only_by_retry_or_abandon() -> None:
    story = Story(c("a"))
    quarantined = e.Quarantined(story.now, 1, "crash-loop")
    story.last = (quarantined,)
    story.events.append(quarantined)
    story.record = story.record.copy()
    apply(story.record, quarantined)  # the engine appends this one without a decision
    story.check_history()
    story.then(run="stuck")
    assert story.sends == []
    for verb in (story.retry, story.skip):
        refused = verb("a").refuses("in-flight").refused
        assert refused is not None
        assert "retry the run as a whole first" in refused.detail
    story.retry().then("RetryAsked", run="running")
    assert story.sends == ["a:action"]


# -- what goes on in a stuck run


def test_stuck_before_the_pivot_what_was_requested_goes_on_and_nothing_new_starts() -> None:
    story = Story(c("a", policy=STUCK), c("b"), c("d", after="b")).spends("a").yes("b")
    story.then("ActionSucceeded", d="waiting", run="stuck")
    Story(c("a", policy=STUCK), c("b")).spends("a").no("b").then("ActionRejected Aborted", run="stuck")
    Story(c("a", policy=STUCK), c("b"), deadline=9_999).spends("a").due(9_999).then("DeadlinePassed Aborted")


def test_stuck_past_the_pivot_only_what_depends_on_the_stuck_step_waits() -> None:
    story = Story(p(), r("r1"), r("r2"), r("r3", after="r1"), r("r4", after="r2")).yes("p").halts("r1")
    story.yes("r2").then("ActionSucceeded ActionRequested", r4="acting", r3="waiting")
    story.resolve("r1", "succeeded").then("Resolved ActionRequested", r3="acting")


def test_stuck_backward_only_what_the_stuck_step_depends_on_waits() -> None:
    story = Story(c("a"), c("b", after="a"), c("x"), c("y", after="x"), p()).yes("a", "b", "x", "y").no("p")
    story.halts("b", phase=Phase.COMPENSATION).undoes("y")
    story.then("CompensationSucceeded CompensationRequested", x="compensating", a="done", run="stuck")
    story.undoes("x").then("CompensationSucceeded", run="stuck")
    story.retry("b").undoes("b", "a").then(run="compensated")


# -- questions


def asking() -> Story:
    def question(_input: str, *_replies: object) -> Call[bool]:
        return ask(bool, "May it?", within=timedelta(hours=1))

    return Story(c("a"), n("q", question, after="a"), p()).yes("a")


def test_a_question_is_answered_once() -> None:
    story = asking().then(q="acting")
    assert story.sends == []
    story.answer("q", b"4").refuses("reply-invalid", 422)
    story.answer("a", b"true").refuses("not-asked")
    story.answer("p", b"true").refuses("not-asked")
    story.answer("q", b"true").then("Answered ActionRequested", q="done", p="acting")
    story.answer("q", b"true").then("")
    story.answer("q", b"false").refuses("settled")
    assert not story.record.by_hand


def test_a_question_is_declined() -> None:
    story = asking().answer("q", None)
    story.then("Answered Aborted CompensationRequested", q="rejected")
    assert story.last_of(e.Aborted).reason == "q said no: because"
    story.answer("q", None).then("")


def test_a_question_nobody_answered_is_a_no() -> None:
    story = asking()
    assert story.owed.wake == story.now + 3_600_000_000
    story.wakes().then("ActionRejected Aborted CompensationRequested", q="rejected")
    assert story.last_of(e.Aborted).code == "no-answer"


def test_a_pending_once_call_with_a_probe_stays_the_probes() -> None:
    Story(c("a", OnceAsked.act)).fails("a").retry("a").refuses("in-flight")


# -- which item is meant


def asks(*names: str) -> Callable[..., object]:
    def build(_input: str) -> object:
        return {name: ask(str, f"{name}?", within=timedelta(hours=1)) for name in names}

    return build


def test_an_item_is_named_as_its_author_or_as_its_key_has_it() -> None:
    story = Story(n("q", asks("who else", "x")), c("m", many("y z", "x")), c("e", gives({})), p("p"))

    def found(step: str, item: str | None) -> str:
        item_or_refusal = find_item(story.definition, story.record, step, item)
        if isinstance(item_or_refusal, Refusal):
            return f"{item_or_refusal.status} {item_or_refusal.problem}: {item_or_refusal.detail}"
        return item_or_refusal.name

    assert found("m", "y z") == found("m", "y%20z") == "m/y%20z"
    assert found("m", "x") == "m/x"
    assert found("m", "z") == "404 no-such-item: m has no item z"
    assert found("m", None) == "422 item-needed: say which one: m/y%20z, m/x"
    assert found("p", None) == "409 never-attempted: p never started: nothing of it can be known"
    assert found("e", None) == "409 never-attempted: e never started: nothing of it can be known"
    assert found("nobody", None) == "404 no-such-step: s v1 has no step nobody; it has q, m, e, p"
    assert Story(c("a")).record.steps["a"].items[""] is not None
    alone = Story(c("a"), c("m", many("x")))
    for step, name in (("a", "a"), ("m", "m/x")):
        item = find_item(alone.definition, alone.record, step, None)
        assert isinstance(item, ItemRecord)
        assert item.name == name


def test_verbs_take_either_name_of_an_item() -> None:
    for name in ("who else", "who%20else"):
        Story(n("q", asks("who else", "x")), p("p")).answer("q", b'"me"', name).then("Answered")
    for name in ("y z", "y%20z"):
        Story(c("m", many("y z", "x"))).fails("m", item="y%20z").skip("m", name).then("Skipped")


def test_who_says_that_work_without_a_reply_happened_needs_none() -> None:
    async def tells(_input: str) -> None: ...

    story = Story(p("p", tells), c("a")).yes("a").spends("p")
    story.do(Resolve(story.now, 0, ME, "p", "succeeded")).then("Resolved RunEnded", p="done")
    assert story.last_of(e.Resolved).reply == b"null"
    Story(c("a")).fails("a").do(Resolve(BEGIN, 0, ME, "a", "succeeded")).refuses("reply-invalid", 422)


def test_a_call_is_begun_by_its_owner_only_and_only_while_the_run_goes_on() -> None:
    story = Story(c("a", Once.act)).fails("a", Cause.NOT_SENT)
    story.do(Begin(story.now, 0, "a", "", Phase.ACTION)).then("")
    story.do(Begin(story.now, 1, "b", "", Phase.ACTION)).then("")
    story.do(Begin(story.now, 1, "a", "", Phase.ACTION)).then("AttemptStarted")
    story.do(Begin(story.now, 1, "a", "", Phase.ACTION)).then("")
    over = Story(c("a", Once.act, policy=policy("stuck"))).fails("a", Cause.NOT_SENT)
    over.halts("a").abandon().then(run="abandoned")
    over.do(Begin(over.now, 1, "a", "", Phase.ACTION)).then("")


def test_a_reply_given_for_what_has_none_is_not_kept() -> None:
    def sleeps(_input: str) -> object:
        return sleep(timedelta(hours=1))

    story = Story(n("z", sleeps), c("a", Barrier.undo, undo=gives(Barrier.undo("x"))))
    story.do(Resolve(story.now, 0, ME, "z", "succeeded", b"7"))
    assert story.last_of(e.Resolved).reply == b"null"
    assert story.record.steps["z"].items[""].reply == b"null"
    story.fails("a").do(Resolve(story.now, 0, ME, "a", "succeeded", b"7")).then("Resolved RunEnded")
    assert story.last_of(e.Resolved).reply == b"null"
