"""Stories that broke a promise of the core, told by their moves.

Every story is checked after each move and then driven on to rest, with a sensible person at hand.
"""

from amends.core.run.record import RunState
from tests.method.exploration.telling import at_rest, kinds, no, told, yes


def test_giving_up_on_a_stuck_seal_leaves_nothing_waiting() -> None:
    # The mark was lifted, the seal it had stopped stayed: neither sealed nor undone, and nobody was told.
    world = told(
        "chain",
        "lose a:action#1 misrouted",
        "person resolve a rejected",
        "poll",
        "halt a:seal#1 protocol",
        "person compensate",
    )
    assert at_rest(world).record.ended is RunState.COMPENSATED


def test_a_late_noop_does_not_end_what_a_person_is_to_undo_by_hand() -> None:
    # The seal found the effect in place and kept the undo from running; the undo, delivered late, answers `noop`.
    world = told(
        "chain",
        *yes("a"),
        *no("b"),
        "lose a:compensation#1 timed-out",
        "person resolve a undone",
        "poll",
        "deliver a:seal#1 -> yes",
        "deliver a:compensation#1 -> yes",
        "receive a:seal#1 succeeded",
        "receive a:compensation#1 noop",
    )
    assert world.record.state is RunState.STUCK
    rest = at_rest(world)
    assert rest.record.ended is RunState.COMPENSATED
    assert rest.record.by_hand
    assert str(rest.ledger[-1]) == "undo a (by hand)"


def test_another_copy_of_a_known_yes_is_no_news_behind_a_barrier() -> None:
    world = told(
        "chain",
        "deliver a:action#1 -> yes",
        "lose a:action#1 timed-out",
        "jump",
        "deliver a:action#2 -> yes",
        "receive a:action#2 succeeded",
        *no("b"),
        "receive a:action#1 succeeded",
    )
    assert not world.record.marks
    assert "LateReply" not in kinds(world)


def test_acknowledging_a_contradiction_leaves_other_reasons_standing() -> None:
    # Everything a person was needed for was lifted at once, and a spent undo was never tried again.
    world = told(
        "old-post-probed",
        "adopt",
        "deliver a:action#1 -> yes",
        "person cancel",
        "deliver a:probe#1 -> yes",
        "receive a:probe#1 succeeded and die",
        "receive a:action#1 succeeded",
        "adopt",
        "person resolve a succeeded",
    )
    assert [mark.reason for mark in world.record.marks.values()] == ["spent"]
    assert at_rest(world).record.ended is RunState.COMPENSATED


def test_repeating_an_undo_that_nothing_makes_safe_is_a_persons_fact() -> None:
    world = told(
        "old-post",
        *yes("a"),
        "person cancel",
        "poll",
        *no("b"),
        "lose a:compensation#1 misrouted",
        "person retry a",
    )
    rest = at_rest(world)
    assert rest.record.ended is RunState.COMPENSATED
    assert rest.record.by_hand


def test_the_answer_to_an_earlier_seal_is_not_taken_for_the_later_ones() -> None:
    # Both have the same key. "Blocked", said to a seal that was asked for another reason while the undo was still on
    # at the service, ended the run as undone.
    world = told(
        "whole",
        "deliver a:action#1 -> yes",
        "lose a:action#1 timed-out",
        "person resolve a rejected",
        "poll",
        "receive a:action#1 succeeded",
        *no("p"),
        "deliver a:compensation#1 -> later",
        "receive a:compensation#1 pending",
        "person resolve a undone",
        "poll",
        "deliver a:seal#1 -> yes",
        "receive a:seal#1 blocked",
    )
    assert world.record.ended is None
    assert at_rest(world).record.ended is RunState.COMPENSATED


def test_a_second_pending_does_not_make_a_spent_undo_wait_again() -> None:
    # Marked and pending at once: after `retry` the same call went out again and again without a fact in between.
    world = told(
        "local",
        *yes("a", "b"),
        *no("p"),
        "deliver b:compensation#1 -> later",
        "receive b:compensation#1 pending, and again",
        "jump",
        "receive b:compensation#1 pending",
        "person retry b",
        "poll",
    )
    assert kinds(world).count("CompensationPending") == 1
    assert at_rest(world).record.ended is RunState.COMPENSATED
