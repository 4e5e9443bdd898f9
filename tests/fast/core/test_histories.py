"""Histories that can't be, and what a record says of itself: whoever reads a broken log must hear of it, not guess."""

from datetime import UTC, datetime, timedelta

import pytest

from amends.core.run import events as e
from amends.core.run.answers import CONTRACT, CallResponse, read_answer
from amends.core.run.commands import Begin, Refusal, StartRun
from amends.core.run.decide import decide
from amends.core.run.evolve import evolve, fold
from amends.core.run.owed import deadline_of, withdrawable
from amends.core.run.record import RunState
from amends.core.run.summary import ended_outcome
from amends.core.run.verbs import find_item
from amends.core.saga.outcomes import Abandoned, Stuck
from amends.core.words.errors import Overloaded, PastPivot
from amends.core.words.keys import Phase
from amends.core.words.retry import MICROSECONDS
from tests.support.stories import BEGIN, Barrier, Plain, Story, c, many, p, policy, r

STUCK = policy("stuck")

# -- broken ones


def test_a_history_without_its_beginning_is_refused() -> None:
    story = Story(c("a"))
    with pytest.raises(TypeError, match="begins with RunStarted, not ActionRequested"):
        fold(story.events[1:])


def test_a_history_with_two_beginnings_is_refused() -> None:
    story = Story(c("a"))
    with pytest.raises(TypeError, match="run-1: a second RunStarted"):
        evolve(story.record, story.events[0])


def test_a_fact_about_what_was_never_requested_is_refused() -> None:
    story = Story(c("a"))
    with pytest.raises(TypeError, match="speaks of 'b'/'x', which was never requested"):
        evolve(story.record, e.ActionSucceeded(story.now, 1, "b", "x", b"null"))
    with pytest.raises(TypeError, match="speaks of a compensation of a that was never requested"):
        evolve(story.record, e.CompensationSucceeded(story.now, 1, "a", "", "succeeded"))


def test_a_run_begins_once() -> None:
    story = Story(c("a"))
    with pytest.raises(TypeError, match="run-1 has begun already"):
        decide(story.definition, story.record, StartRun(story.now, 1, "run-1", b'"x"', None))


def test_a_quarantined_run_is_stuck_and_says_why() -> None:
    story = Story(c("a"))
    record = evolve(story.record, e.Quarantined(story.now, 1, "crash-loop"))
    story.record = record
    assert record.state is RunState.STUCK
    assert story.outcome == Stuck("run-1", "", "action", "crash-loop")


# -- nothing to begin


def test_a_send_begins_only_where_the_log_waits_for_one() -> None:
    over = Story(c("a", Plain.act)).yes("a").then(run="completed")
    over.do(Begin(over.now, 1, "a", "", Phase.ACTION)).then("")
    visitor = Story(c("a", Plain.act)).fails("a")
    visitor.do(Begin(visitor.now, 0, "a", "", Phase.ACTION)).then("")
    visitor.do(Begin(visitor.now, 1, "b", "", Phase.ACTION)).then("")
    visitor.do(Begin(visitor.now, 1, "a", "", Phase.ACTION)).then("AttemptStarted")
    visitor.do(Begin(visitor.now, 1, "a", "", Phase.ACTION)).then("")


# -- what may be called back before it leaves


def test_an_action_in_the_queue_is_withdrawn_once_the_run_turned_or_is_about_to() -> None:
    story = Story(c("a"), c("b"), p())
    assert not withdrawable(story.definition, story.record, "b", "")
    story.no("a")
    assert withdrawable(story.definition, story.record, "b", "")
    assert not withdrawable(story.definition, story.record, "a", "")
    assert not withdrawable(story.definition, story.record, "p", "")
    pivot = Story(c("a"), p()).yes("a").cancel().then("CancelAsked AbortRequested")
    assert withdrawable(pivot.definition, pivot.record, "p", "")
    assert not withdrawable(pivot.definition, pivot.record, "a", "")
    tainted = Story(c("a", Plain.act), c("b")).fails("a").no("b")
    assert not withdrawable(tainted.definition, tainted.record, "a", "")


def test_a_participant_is_told_the_runs_deadline() -> None:
    assert deadline_of(Story(c("a")).record) is None
    told = deadline_of(Story(c("a"), deadline=60).record)
    assert told == datetime.fromtimestamp(BEGIN / MICROSECONDS + 60, tz=UTC)


# -- what a person means, and asks for in vain


def test_the_item_that_a_person_means_is_found_or_the_person_hears_why_not() -> None:
    story = Story(c("m", many("x", "é")), c("one", after="m"), c("later", after="one"))
    story.yes("m", item="x")
    story.yes("m", item="%C3%A9")

    def found(step: str, item: str | None = None) -> str | tuple[str, int]:
        known = find_item(story.definition, story.record, step, item)
        return (known.problem, known.status) if isinstance(known, Refusal) else known.name

    assert found("m", "x") == "m/x"
    assert found("m", "é") == found("m", "%C3%A9") == "m/%C3%A9"
    assert found("m", "y") == ("no-such-item", 404)
    assert found("m") == ("item-needed", 422)
    assert found("one") == "one"
    assert found("later") == ("never-attempted", 409)
    assert found("never") == ("no-such-step", 404)


def test_a_contradiction_is_acknowledged_and_not_sent_again() -> None:
    story = Story(p(), r("r", after="p")).no("p")
    assert story.record.ended is not None
    story = Story(c("a"), c("x"), p()).yes("a", "x").no("p").yes("p").then(marks="p:action:contradiction")
    story.retry("p").refuses("nothing-to-send")


def test_a_success_by_hand_of_what_has_no_reply_needs_none() -> None:
    story = Story(p(), r("r", Barrier.undo)).yes("p").halts("r").resolve("r", "succeeded", b"[not json")
    story.then("Resolved RunEnded", r="done", run="completed")


# -- outcomes


def test_who_left_a_run_is_told_and_where_nobody_did_what_was_left() -> None:
    story = Story(c("a")).spends("a").spends("a", phase=Phase.COMPENSATION).skip("a")
    assert story.outcome == Abandoned("run-1", "ann", "because")
    story.record.ended_by = None  # of a history that doesn't say it
    assert story.outcome == Abandoned("run-1", "", "left: a")
    story.record.effects = ()
    assert story.outcome == Abandoned("run-1", "", "left as it is")
    by = Story(c("a", policy=STUCK)).spends("a").abandon().outcome
    assert by == Abandoned("run-1", "ann", "because")


def test_an_outcome_is_only_of_what_has_ended() -> None:
    story = Story(c("a"))
    with pytest.raises(ValueError, match="run-1 has not ended"):
        ended_outcome(story.definition, story.record)


def test_refusals_carry_what_a_program_needs() -> None:
    assert Overloaded("full", retry_after=timedelta(seconds=2)).retry_after == timedelta(seconds=2)
    refused = PastPivot("only forward")
    assert (refused.problem, refused.detail, refused.status) == ("past-pivot", "only forward", 409)


def test_a_table_that_leaves_an_answer_out_is_no_table() -> None:
    came, short = CallResponse(500, {}, b""), CONTRACT[:1]
    with pytest.raises(AssertionError, match="the last row of a table matches everything"):
        read_answer(came, phase=Phase.ACTION, retriable=False, decode=None, now=0, table=short)
