# pyright: reportPrivateUsage=false
"""Of orders that nothing can tell apart one is gone through, and it shows what all of them would have shown."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import pytest

from amends.core.run import consequences as follow
from amends.core.run import events as e
from amends.core.run import replies
from amends.core.run.answers import Succeeded
from amends.core.run.commands import Reply
from amends.core.run.decision import Draft
from amends.core.run.record import ItemRecord, StepState
from amends.participant import barrier
from amends.participant.barrier import BarrierCall
from amends.participant.effects import Program
from amends.testing.explore import search as searching
from amends.testing.explore.late import Arrived
from amends.testing.explore.moment import Moment
from amends.testing.explore.moves import EVERY_FAULT, Budget, FaultKind, Move
from amends.testing.explore.replaying import promise_in
from amends.testing.explore.search import search
from amends.testing.explore.world import World
from tests.method.exploration.planting import plant_in_the_barrier
from tests.method.exploration.sagas import setup
from tests.method.exploration.test_sameness import exactly

Sight = tuple[object, ...]


class Seen(NamedTuple):
    """What a search came by: the record with each item's effects, all of it at rest, and which promises were broken."""

    moments: set[Sight]
    rests: set[Sight]
    broken: set[str]
    worlds: int


class Space(NamedTuple):
    name: str
    budget: Budget
    kinds: frozenset[FaultKind]


def seen_in(monkeypatch: pytest.MonkeyPatch, space: Space) -> Seen:
    """All that a search sees, which goes on where promises are broken."""
    moments: set[Sight] = set()
    rests: set[Sight] = set()
    broken: set[str] = set()
    real = World.broken

    def noting(world: World, *, quiet: bool = False) -> str | None:
        recorded = record_of(world)
        happened = tuple(sorted(str(each) for each in world.ledger))
        moments.update((recorded, item.name, of_item(item, world)) for item in world.record.items())
        if quiet:
            rests.add((recorded, happened))
        sentence = real(world, quiet=quiet)
        if sentence is not None:
            broken.add(promise_in(sentence))
        return None

    with monkeypatch.context() as patch:
        patch.setattr(World, "broken", noting)
        result = search(setup(space.name, space.budget, space.kinds), worlds_max=150_000)
    assert result.complete
    return Seen(moments, rests, broken, result.worlds)


def record_of(world: World) -> Sight:
    record = world.record
    steps = tuple((item.name, item.state, item.settling, item.undo_word) for item in record.items())
    marks = tuple(sorted((*key[:2], mark.reason) for key, mark in record.marks.items()))
    return record.state, record.by_hand, record.effects, steps, marks


def of_item(item: ItemRecord, world: World) -> tuple[str, ...]:
    return tuple(str(each) for each in world.ledger if (each.step, each.item) == (item.step, item.item))


def all_orders(patch: pytest.MonkeyPatch) -> None:
    """A search that leaves out nothing."""
    patch.setattr(World, "print", exactly)
    patch.setattr(searching, "arrived", never)


def never(_before: Moment, _move: Move, _after: Moment) -> Arrived | None:
    return None


LOST_OR_NO = frozenset({FaultKind.LOST, FaultKind.NO})
TURNED = frozenset({FaultKind.NO, FaultKind.CANCEL, FaultKind.LOST})

SPACES = [
    Space("chain", Budget(1, 0), EVERY_FAULT),
    Space("chain-pivot", Budget(1, 1), frozenset({FaultKind.LOST, FaultKind.CANCEL})),
    Space("parallel", Budget(1, 0), EVERY_FAULT),
    Space("parallel", Budget(2, 0), frozenset({FaultKind.LOST, FaultKind.CANCEL})),
    Space("parallel", Budget(0, 1), EVERY_FAULT),
    Space("fork", Budget(1, 0), TURNED | {FaultKind.LATER}),
    Space("diamond", Budget(1, 0), LOST_OR_NO),
    Space("pivot-first", Budget(1, 0), LOST_OR_NO),
    Space("old-put-probed", Budget(1, 1), frozenset({FaultKind.LOST})),
]


@pytest.mark.parametrize(
    "space", SPACES, ids=lambda space: f"{space.name}-{space.budget.faults}-{space.budget.crashes}"
)
def test_one_order_shows_what_all_orders_show(monkeypatch: pytest.MonkeyPatch, space: Space) -> None:
    one = seen_in(monkeypatch, space)
    all_orders(monkeypatch)
    every = seen_in(monkeypatch, space)
    assert every.worlds > one.worlds, "nothing was left out"
    assert every.moments - one.moments == set()
    assert every.rests == one.rests
    assert every.broken == one.broken == set()


# -- bugs that need one order of two branches


def late_yes_of_a_is_dropped(patch: pytest.MonkeyPatch) -> None:
    """Only if b said no before a, which acted, was heard."""
    real = replies._action

    def dropping(draft: Draft, item: ItemRecord, reply: Reply) -> None:
        if draft.record.backward and item.step == "a" and isinstance(reply.outcome, Succeeded):
            draft.emit(e.ActionRejected(draft.at, draft.epoch, item.step, item.item, None, "too late"))
            return
        real(draft, item, reply)

    patch.setattr(replies, "_action", dropping)


def an_end_with_calls_under_way(patch: pytest.MonkeyPatch) -> None:
    """Only if a call arrives after the other branch has turned the run back and is undone."""
    patch.setattr(follow, "CLEAR", frozenset(StepState) - {StepState.UNKNOWN, StepState.DONE, StepState.COMPENSATING})


def no_tombstone(patch: pytest.MonkeyPatch) -> None:
    """Only if an undo arrives before the action that it undoes."""
    real = barrier.compensation

    def forgetful(call: BarrierCall) -> Program:
        verdict = yield from real(call)
        left_a_trace = verdict.outcome == "noop" and verdict.commit
        return replace(verdict, commit=False) if left_a_trace else verdict

    plant_in_the_barrier(patch, "compensation", forgetful)


def undone_at_once(patch: pytest.MonkeyPatch) -> None:
    """Only if an undo arrives while what depends on it is in place."""

    def at_once(_draft: Draft, _item: ItemRecord) -> bool:
        return True

    patch.setattr(follow, "_is_eligible", at_once)


class Bug(NamedTuple):
    plant: Callable[[pytest.MonkeyPatch], None]
    space: Space
    promise: str


BUGS = [
    Bug(late_yes_of_a_is_dropped, Space("parallel", Budget(1, 0), TURNED), "P3"),
    Bug(late_yes_of_a_is_dropped, Space("fork", Budget(1, 0), LOST_OR_NO), "P3"),
    Bug(an_end_with_calls_under_way, Space("parallel", Budget(1, 0), TURNED), "P3"),
    Bug(an_end_with_calls_under_way, Space("fork", Budget(1, 0), LOST_OR_NO), "P3"),
    Bug(no_tombstone, Space("parallel", Budget(2, 0), frozenset({FaultKind.LOST, FaultKind.CANCEL})), "P3"),
    Bug(undone_at_once, Space("diamond", Budget(1, 0), frozenset({FaultKind.NO})), "P4"),
]


@pytest.mark.parametrize(
    "bug", BUGS, ids=lambda bug: f"{bug.plant.__name__}-{bug.space.name}-{bug.space.budget.crashes}"
)
def test_a_bug_in_one_order_of_two_branches_is_found(monkeypatch: pytest.MonkeyPatch, bug: Bug) -> None:
    bug.plant(monkeypatch)
    one = seen_in(monkeypatch, bug.space)
    assert any(promise.startswith(bug.promise) for promise in one.broken), "nobody noticed"
    all_orders(monkeypatch)
    every = seen_in(monkeypatch, bug.space)
    assert every.broken == one.broken
    assert every.rests == one.rests


def test_leaving_out_an_order_that_counts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    bug = next(bug for bug in BUGS if bug.plant is no_tombstone)
    bug.plant(monkeypatch)
    real = World.moves

    def in_a_hurry(world: World) -> list[Move]:
        found = real(world)
        return [move for move in found if move.kind == "deliver"] or found

    monkeypatch.setattr(World, "moves", in_a_hurry)
    assert not seen_in(monkeypatch, bug.space).broken, "calls that arrive at once show as much as calls that are late"
