"""Stories that once broke a promise, or would in a core that is a little simpler. Each is told by its moves.

Every story is checked after each move and then driven on to rest, with a sensible person at hand.
"""

from collections.abc import Sequence

from amends.core import events as e
from amends.core.state import RunState, StepState
from amends.testing.calm import Stragglers, come_to_rest
from amends.testing.moves import Budget
from amends.testing.replaying import possible
from amends.testing.world import World, begin
from tests.exploration.sagas import setup

ANYTHING = Budget(faults=99, crashes=99)


def told(name: str, *moves: str) -> World:
    """The world at the end of a story; each move must be possible, and no promise may break on the way or after."""
    world = begin(setup(name, ANYTHING))
    for name_of_move in moves:
        known = {move.name: move for move in reversed(list(possible(world).values()))}
        assert name_of_move in known, f"{name_of_move} can't happen here; what can is {', '.join(known)}"
        world = world.apply(known[name_of_move])
        sentence = world.broken()
        assert sentence is None, sentence
    for stragglers in Stragglers:
        assert at_rest(world, stragglers).record.ended is not None
    return world


def at_rest(world: World, stragglers: Stragglers = Stragglers.IN_TURN) -> World:
    rest = come_to_rest(world, stragglers=stragglers)
    assert rest.broken is None, rest.broken
    return rest.world


def kinds(world: World) -> Sequence[str]:
    return [type(event).__name__ for event in world.events]


# -- found by walking the core


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
        "deliver a:action#1 -> yes",
        "receive a:action#1 succeeded",
        "deliver b:action#1 -> no",
        "receive b:action#1 rejected",
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
        "deliver b:action#1 -> no",
        "receive b:action#1 rejected",
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
        "deliver a:action#1 -> yes",
        "receive a:action#1 succeeded",
        "person cancel",
        "poll",
        "deliver b:action#1 -> no",
        "receive b:action#1 rejected",
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
        "deliver p:action#1 -> no",
        "receive p:action#1 rejected",
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
        "deliver a:action#1 -> yes",
        "receive a:action#1 succeeded",
        "deliver b:action#1 -> yes",
        "receive b:action#1 succeeded",
        "deliver p:action#1 -> no",
        "receive p:action#1 rejected",
        "deliver b:compensation#1 -> later",
        "duplicate b:compensation#1 pending",
        "receive b:compensation#1 pending",
        "jump",
        "receive b:compensation#1 pending",
        "person retry b",
        "poll",
    )
    assert kinds(world).count("CompensationPending") == 1
    assert at_rest(world).record.ended is RunState.COMPENSATED


# -- found by walking a small model of the rules


def test_what_was_skipped_is_not_undone_again() -> None:
    world = told(
        "chain",
        "deliver a:action#1 -> yes",
        "receive a:action#1 succeeded",
        "lose b:action#1 timed-out",
        "jump",
        "lose b:action#2 timed-out",
        "halt b:compensation#1 protocol",
        "person skip b",
        "poll",
    )
    assert [event.step for event in world.events if isinstance(event, e.CompensationRequested)] == ["b", "a"]
    assert at_rest(world).record.ended is RunState.ABANDONED


def test_an_attempt_that_was_not_sent_proves_nothing_about_a_former_owners() -> None:
    world = told(
        "chain",
        "deliver a:action#1 -> yes",
        "crash",
        "adopt",
        "lose a:action#1 not-sent",
        "jump",
        "lose a:action#2 not-sent",
    )
    rest = at_rest(world)
    assert rest.record.ended is RunState.COMPENSATED
    assert [str(each) for each in rest.ledger] == ["a", "undo a"]


def test_an_attempt_a_former_owner_left_open_is_undone_when_the_run_turned_back() -> None:
    world = told("chain", "crash", "person cancel", "adopt")
    assert "CompensationRequested" in kinds(world)
    assert at_rest(world).record.ended is RunState.COMPENSATED


def test_an_item_that_acted_holds_up_the_undo_though_its_twin_said_no() -> None:
    world = told(
        "many",
        "deliver a:action#1 -> yes",
        "receive a:action#1 succeeded",
        "deliver m/sku-1:action#1 -> yes",
        "deliver m/sku-2:action#1 -> no",
        "receive m/sku-2:action#1 rejected",
    )
    undone = [event.step for event in world.events if isinstance(event, e.CompensationRequested)]
    assert undone == []
    rest = at_rest(world)
    assert [str(each) for each in rest.ledger][-2:] == ["undo m/sku-1", "undo a"]


def test_resolve_undone_seals_before_it_is_believed() -> None:
    world = told(
        "chain",
        "deliver a:action#1 -> yes",
        "receive a:action#1 succeeded",
        "deliver b:action#1 -> no",
        "receive b:action#1 rejected",
        "halt a:compensation#1 protocol",
        "person resolve a undone",
        "poll",
    )
    assert world.record.ended is None
    assert at_rest(world).record.by_hand


def test_a_spent_seal_can_be_tried_again() -> None:
    world = told(
        "chain",
        "deliver a:action#1 -> yes",
        "receive a:action#1 succeeded",
        "deliver b:action#1 -> no",
        "receive b:action#1 rejected",
        "halt a:compensation#1 protocol",
        "person resolve a undone",
        "poll",
        "halt a:seal#1 protocol",
    )
    assert world.record.state is RunState.STUCK
    assert at_rest(world).record.ended is RunState.COMPENSATED


def test_a_pending_row_is_never_done_once_a_person_rejected_it() -> None:
    world = told(
        "chain",
        "deliver a:action#1 -> later",
        "receive a:action#1 pending",
        "person resolve a rejected",
        "poll",
        "deliver a:seal#1 -> yes",
        "receive a:seal#1 rejected",
    )
    rest = at_rest(world)
    assert rest.record.ended is RunState.COMPENSATED
    assert not rest.ledger


def test_a_retriable_that_said_no_after_a_while_can_still_succeed() -> None:
    world = told(
        "only-retriables",
        "deliver r:action#1 -> later",
        "receive r:action#1 pending",
        "finish r -> no",
        "receive r:action#0 rejected",
        "jump",
    )
    assert at_rest(world).record.ended is RunState.COMPLETED


def test_a_late_yes_behind_a_barrier_is_no_contradiction_once_it_is_undone() -> None:
    world = told(
        "chain",
        "deliver a:action#1 -> yes",
        "lose a:action#1 timed-out",
        "jump",
        "lose a:action#2 timed-out",
        "deliver a:compensation#1 -> yes",
        "receive a:compensation#1 succeeded",
        "receive a:action#1 succeeded",
    )
    assert world.record.ended is RunState.COMPENSATED
    assert not any(event.alert for event in world.events if isinstance(event, e.LateReply))


def test_neutral_steps_owe_nothing_when_the_run_turns_back() -> None:
    world = told("asking", "deliver a:action#1 -> yes", "receive a:action#1 succeeded", "person cancel", "poll")
    states = {item.name: item.state for item in world.record.items()}
    assert {states["n"], states["z"], states["k"]} == {StepState.COMPENSATED}
    assert at_rest(world).record.ended is RunState.COMPENSATED


def test_a_pivot_somebody_wanted_back_is_sealed_and_not_sent_again() -> None:
    world = told(
        "chain-pivot",
        "deliver a:action#1 -> yes",
        "receive a:action#1 succeeded",
        "crash",
        "person cancel",
        "adopt",
    )
    assert "AbortRequested" in kinds(world)
    assert "SettleRequested" in kinds(world)
    assert at_rest(world, Stragglers.LAST).record.ended is RunState.COMPENSATED
    assert at_rest(world).record.ended is RunState.COMPLETED, "it acted before the seal came"


def test_a_cancel_that_comes_after_the_pivot_acted_is_void() -> None:
    world = told(
        "chain-pivot",
        "deliver a:action#1 -> yes",
        "receive a:action#1 succeeded",
        "deliver p:action#1 -> yes",
        "person cancel",
        "poll",
    )
    rest = at_rest(world)
    assert rest.record.ended is RunState.COMPLETED
    assert rest.record.abort_void
