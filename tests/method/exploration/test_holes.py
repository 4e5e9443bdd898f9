"""Stories that a small model of the rules broke a promise by, before there was a core: each would break one in a core
that is a little simpler.

Every story is checked after each move and then driven on to rest, with a sensible person at hand. Effects outside a
service's database have no story yet: there is no participant that has them.
"""

from amends.core.run import events as e
from amends.core.run.commands import Refusal, Resolve
from amends.core.run.record import RunState, StepState
from amends.testing.explore.calm import Stragglers
from amends.testing.explore.people import SOMEBODY
from tests.method.exploration.telling import at_rest, ends, kinds, no, told, yes

SEALING = (*yes("a"), *no("b"), "halt a:compensation#1 protocol", "person resolve a undone", "poll")
"""Of a chain: `a` is sealed as undone, since a person says that it is."""


def test_what_was_skipped_is_not_undone_again() -> None:
    world = told(
        "chain",
        *yes("a"),
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
        *yes("a"),
        "deliver m/sku-1:action#1 -> yes",
        *no("m/sku-2"),
    )
    undone = [event.step for event in world.events if isinstance(event, e.CompensationRequested)]
    assert undone == []
    rest = at_rest(world)
    assert [str(each) for each in rest.ledger][-2:] == ["undo m/sku-1", "undo a"]


def test_resolve_undone_seals_before_it_is_believed() -> None:
    world = told(
        "chain",
        *SEALING,
    )
    assert world.record.ended is None
    assert at_rest(world).record.by_hand


def test_a_spent_seal_can_be_tried_again() -> None:
    world = told(
        "chain",
        *SEALING,
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
    world = told("asking", *yes("a"), "person cancel", "poll")
    states = {item.name: item.state for item in world.record.items()}
    assert {states["n"], states["z"], states["k"]} == {StepState.COMPENSATED}
    assert at_rest(world).record.ended is RunState.COMPENSATED


def test_a_pivot_somebody_wanted_back_is_sealed_and_not_sent_again() -> None:
    world = told(
        "chain-pivot",
        *yes("a"),
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
        *yes("a"),
        "deliver p:action#1 -> yes",
        "person cancel",
        "poll",
    )
    rest = at_rest(world)
    assert rest.record.ended is RunState.COMPLETED
    assert rest.record.abort_void


# -- an end that was skipped to, a seal, an answer that is no answer


def test_a_seal_that_is_skipped_leaves_a_dirty_end() -> None:
    world = told(
        "chain",
        *SEALING,
        "halt a:seal#1 protocol",
        "person skip a",
    )
    assert world.record.ended is RunState.ABANDONED
    assert world.record.effects == ("a",)


def test_what_is_being_sealed_can_not_be_resolved_once_more() -> None:
    world = told(
        "chain",
        *SEALING,
    )
    refused = world.history.after(Resolve(world.now, 0, SOMEBODY, "a", "undone"))
    assert isinstance(refused, Refusal)
    assert refused.problem == "sealing"


def test_a_seal_that_finds_nothing_ends_the_step_as_undone() -> None:
    world = told(
        "chain",
        *yes("a"),
        "lose b:action#1 timed-out",
        "jump",
        "lose b:action#2 timed-out",
        "halt b:compensation#1 protocol",
        "person resolve b undone",
        "poll",
        "deliver b:seal#1 -> yes",
        "receive b:seal#1 noop",
    )
    assert world.record.step_state("b") is StepState.COMPENSATED
    late = at_rest(world, Stragglers.LAST)
    assert late.record.ended is RunState.COMPENSATED
    assert [str(each) for each in late.ledger] == ["a", "undo a"], "the late action of b was blocked"


def test_a_person_who_was_wrong_about_a_no_is_put_right_by_the_seal() -> None:
    world = told(
        "parallel",
        "deliver b:action#1 -> yes",
        "lose b:action#1 timed-out",
        "person resolve b rejected",
        "poll",
        "deliver b:seal#1 -> yes",
        "receive b:seal#1 succeeded",
    )
    assert world.record.step_state("b") is StepState.DONE
    assert ends(world) is RunState.COMPLETED


def test_work_a_retriable_took_on_and_never_finished_is_an_attempt_that_failed() -> None:
    world = told("only-retriables", "deliver r:action#1 -> later", "receive r:action#1 pending", "jump")
    assert [mark.reason for mark in world.record.marks.values()] == ["spent"], "a day of trying was over as well"
    assert "SettleRequested" not in kinds(world), "a tombstone would block it for good"
    assert ends(world) is RunState.COMPLETED


def test_nothing_there_is_not_yet_never_without_a_barrier() -> None:
    world = told(
        "old-put-probed",
        "lose a:action#1 timed-out",
        "jump",
        "lose a:action#2 timed-out",
        "deliver a:probe#1 -> yes",
        "receive a:probe#1 unknown",
        "deliver a:action#1 -> yes",
    )
    assert world.record.step_state("a") is StepState.UNKNOWN
    rest = at_rest(world)
    assert rest.record.ended is RunState.COMPLETED
    assert [str(each) for each in rest.ledger] == ["a", "b"], "the copy that came late counts, once"


def test_a_person_can_not_say_never_while_a_copy_may_still_arrive() -> None:
    world = told("old-put", "lose a:action#1 timed-out", "jump", "lose a:action#2 timed-out")
    assert world.record.marks
    refused = world.history.after(Resolve(world.now, 0, SOMEBODY, "a", "rejected"))
    assert isinstance(refused, Refusal)
    assert refused.problem == "in-flight"


def test_an_effect_that_was_skipped_without_a_barrier_is_named_at_the_end() -> None:
    world = told(
        "old-put",
        "deliver a:action#1 -> yes",
        "lose a:action#1 timed-out",
        "jump",
        "lose a:action#2 timed-out",
        "person cancel",
        "person skip a",
    )
    assert world.record.ended is RunState.ABANDONED
    assert world.record.effects == ("a",)


def test_a_look_up_that_is_never_answered_turns_the_run_back_and_is_nobodys_to_settle() -> None:
    world = told("asking", "lose k:action#1 timed-out", "jump", "lose k:action#2 timed-out")
    assert "Aborted" in kinds(world)
    assert not world.record.marks
    assert ends(world) is RunState.COMPENSATED


# -- smaller readings


def test_retrying_an_unknown_action_of_a_run_that_turned_back_undoes_it() -> None:
    world = told(
        "parallel",
        "lose b:action#1 timed-out",
        "jump",
        "lose b:action#2 timed-out",
        "person cancel",
        "poll",
        "person retry b",
        "poll",
    )
    assert world.record.step_state("b") is StepState.COMPENSATING
    assert ends(world) is RunState.COMPENSATED


def test_compensating_a_stuck_run_that_turned_back_lifts_what_a_barrier_can_undo() -> None:
    world = told(
        "parallel",
        "lose b:action#1 timed-out",
        "jump",
        "lose b:action#2 timed-out",
        "person cancel",
        "person compensate",
    )
    assert not world.record.marks
    assert ends(world) is RunState.COMPENSATED


def test_a_step_is_not_undone_while_one_that_depends_on_it_waits_for_a_person() -> None:
    world = told(
        "chain",
        *yes("a"),
        "halt b:action#1 protocol",
        "person cancel",
        "poll",
    )
    assert not any(isinstance(event, e.CompensationRequested) for event in world.events)
    assert ends(world) is RunState.COMPENSATED


def test_a_no_that_comes_from_a_former_owner_only_taints_without_a_barrier() -> None:
    world = told(
        "old-put-probed",
        "deliver a:action#1 -> no",
        "adopt",
        "receive a:action#1 rejected",
    )
    assert world.record.step_state("a") is StepState.ACTING
    assert "ActionRejected" not in kinds(world)


def test_a_yes_that_comes_to_a_former_owner_settles_the_step_for_the_new_one() -> None:
    world = told("chain", "deliver a:action#1 -> yes", "adopt", "receive a:action#1 succeeded")
    (yes,) = [event for event in world.events if isinstance(event, e.ActionSucceeded)]
    assert yes.epoch == 0, "it was offered as a visitor's"
    rest = at_rest(world)
    assert rest.record.ended is RunState.COMPLETED
    assert [str(each) for each in rest.ledger].count("a") == 1


def test_an_unanswered_pivot_that_is_to_turn_back_is_settled_by_a_retry() -> None:
    world = told(
        "chain-pivot",
        *yes("a"),
        "halt p:action#1 protocol",
        "person cancel",
        "person retry p",
        "poll",
    )
    assert "SettleRequested" in kinds(world)
    assert ends(world) is RunState.COMPENSATED
