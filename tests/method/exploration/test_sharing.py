# pyright: reportPrivateUsage=false
"""Worlds share their parts, and what follows from a move is worked out once: as each would work it out for itself."""

import itertools
import random

import pytest

from amends.core.run.answers import Succeeded
from amends.core.words.keys import Phase
from amends.core.words.retry import Guard, Kind
from amends.participant import barrier
from amends.participant.barrier import BarrierCall
from amends.participant.effects import Program, Verdict
from amends.participant.response import plain
from amends.testing.explore.given import Given
from amends.testing.explore.marks import Marks
from amends.testing.explore.moment import WorldSetup
from amends.testing.explore.moves import EVERY_FAULT, AnswerOnWay, Budget, FaultKind, Message, Move, RequestOnWay
from amends.testing.explore.participants import UNDONE, Called, PaperRow, State
from amends.testing.explore.rows import EveryRows, Rows
from amends.testing.explore.search import search
from amends.testing.explore.small import with_little_patience
from amends.testing.explore.wire import EveryWire, MessagesOnWay
from amends.testing.explore.world import World, begin
from tests.method.exploration.planting import plant_in_the_barrier
from tests.method.exploration.sagas import INPUT, definition_of, setup
from tests.method.exploration.test_sameness import exactly

SPACES = [
    ("chain", Budget(1, 1), EVERY_FAULT),
    ("fork", Budget(1, 0), EVERY_FAULT),
    ("old-put-probed", Budget(1, 1), EVERY_FAULT),
    ("telling", Budget(1, 1), EVERY_FAULT),
]
WALKS = 60


@pytest.mark.parametrize(("name", "budget", "kinds"), SPACES, ids=[space[0] for space in SPACES])
def test_what_worlds_share_is_what_each_would_work_out_for_itself(
    name: str, budget: Budget, kinds: frozenset[FaultKind]
) -> None:
    searched = setup(name, budget, kinds)
    assert search(searched, worlds_max=20_000).complete, "everything that can be known by then is known"
    crashed = 0
    for seed in range(WALKS):
        dice = random.Random(seed)
        known, fresh = begin(searched), begin(setup(name, budget, kinds))
        while moves := by_name(known):
            others = by_name(fresh)
            assert list(moves) == list(others)
            name_of_move = dice.choice(list(moves))
            crashed += moves[name_of_move].ends_process
            known, fresh = known.apply(moves[name_of_move]), fresh.apply(others[name_of_move])
            assert everything_in(known) == everything_in(fresh)
            assert known.broken() is None
    assert crashed or not budget.crashes, "no process was lost on any way"


def by_name(world: World) -> dict[str, Move]:
    return {f"{each.name} of {each.epoch}, {each.message}": each for each in sorted(world.moves(), key=str)}


def everything_in(world: World) -> tuple[object, ...]:
    processes = [(each.epoch, each.flying, each.seen and each.seen.events) for each in world.processes]
    rows = dict(world.rows)
    return (
        world.events,
        world.now,
        world.epoch,
        processes,
        sorted(map(str, world.wire)),
        rows,
        world.ledger,
        world.sent,
    )


# -- numbers for what is alike


def test_messages_that_are_alike_never_add_up_to_the_same() -> None:
    marks = Marks()
    view = marks.view(0b111110, frozenset({("a", "", Phase.ACTION)}))
    alike = [
        marks.message(AnswerOnWay(epoch, attempt, "a", "", Phase.ACTION, Succeeded(b"1")))
        for epoch in range(1, 6)
        for attempt in range(1, 13)
    ]
    pairs = list(itertools.combinations(alike, 2))
    assert len({view.of_messages(pair) for pair in pairs}) == len(pairs)


def test_the_order_in_which_messages_left_makes_no_difference() -> None:
    marks = Marks()
    wires = EveryWire(marks)
    one, other = (marks.message(AnswerOnWay(1, attempt, "a", "", Phase.ACTION, UNDONE)) for attempt in (1, 2))
    there = wires.one(()).plus(one).plus(other)
    assert there is wires.one(()).plus(other).plus(one)
    assert there.plus(one).without(one) is there
    assert list(there.without(one)) == [other]


# -- epochs of rows: what counts of them is whether an undo that may still come is older


@pytest.fixture
def marks() -> Marks:
    return Marks()


def undo(marks: Marks, epoch: int, step: str = "a") -> RequestOnWay:
    call = Called(step, "", Phase.COMPENSATION, Kind.COMPENSABLE, b"undo", epoch)
    return marks.message(RequestOnWay(epoch, 1, Guard.BARRIER, False, 0, 0, call))


def row_of(every: EveryRows, epoch: int, state: State = State.SUCCEEDED) -> Rows:
    return every.one({("a", ""): PaperRow(state, Kind.COMPENSABLE, epoch, b"do", None, b"1")})


def wire(marks: Marks, *messages: Message) -> MessagesOnWay:
    return EveryWire(marks).one(messages)


OWNERS_1_AND_2 = 0b110


def test_a_rows_epoch_counts_while_an_older_undo_is_on_its_way(marks: Marks) -> None:
    every = EveryRows(marks)
    older = wire(marks, undo(marks, 1))
    assert row_of(every, 1).mark(older, OWNERS_1_AND_2, 0b100) != row_of(every, 2).mark(older, OWNERS_1_AND_2, 0b100)


def test_a_rows_epoch_counts_while_a_former_owner_may_still_send(marks: Marks) -> None:
    every = EveryRows(marks)
    nothing = wire(marks)
    both = 0b110
    assert row_of(every, 1).mark(nothing, OWNERS_1_AND_2, both) != row_of(every, 2).mark(nothing, OWNERS_1_AND_2, both)


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.COMPENSATED])
def test_a_rows_epoch_counts_for_nothing_else(marks: Marks, state: State) -> None:
    every = EveryRows(marks)
    readers = 0b110 if state is State.COMPENSATED else 0b100
    elsewhere = wire(marks, undo(marks, 1, "b"), undo(marks, 2))
    one, other = (row_of(every, epoch, state).mark(elsewhere, OWNERS_1_AND_2, readers) for epoch in (1, 2))
    assert one == other


def a_stale_undo_says_that_it_undid(patch: pytest.MonkeyPatch) -> None:
    """Only if a later owner's undo was taken on and then refused before the first owner's arrives."""
    real = barrier.compensation

    def lying(call: BarrierCall) -> Program:
        verdict = yield from real(call)
        stale = verdict.answer.status == 412
        return Verdict(plain(200), "succeeded", commit=False) if stale else verdict

    plant_in_the_barrier(patch, "compensation", lying)


@pytest.mark.campaign
@pytest.mark.parametrize("left_out", ["what can't matter", "nothing"])
@pytest.mark.parametrize("planted", [False, True])
def test_a_bug_that_needs_a_rows_epoch_is_found(
    monkeypatch: pytest.MonkeyPatch, left_out: str, *, planted: bool
) -> None:
    if planted:
        a_stale_undo_says_that_it_undid(monkeypatch)
    if left_out == "nothing":
        monkeypatch.setattr(World, "print", exactly)
    given = Given(with_little_patience(definition_of("chain")), INPUT, cancelled_after=("a",))
    kinds = frozenset({FaultKind.LATER, FaultKind.NO})
    found = search(WorldSetup(given, Budget(2, 1), kinds), worlds_max=1_000_000)
    assert found.complete
    if not planted:
        assert found.broken is None
        return
    assert found.broken is not None
    assert found.broken.sentence.startswith("P4 undone after its dependents")
