"""What a search takes for the same world has the same futures: without that shortcut nothing more is seen."""

from collections.abc import Callable

import pytest

from amends.testing.explore.moves import EVERY_FAULT, Budget, FaultKind
from amends.testing.explore.search import search
from amends.testing.explore.world import World
from tests.method.exploration.sagas import setup

Sight = tuple[object, ...]


def seen_in(
    monkeypatch: pytest.MonkeyPatch, name: str, budget: Budget, kinds: frozenset[FaultKind]
) -> tuple[set[Sight], int]:
    """Every state of run, steps and effects that a search came by, and how many worlds it took."""
    found: set[Sight] = set()
    real = World.broken

    def noting(world: World, *, quiet: bool = False) -> str | None:
        found.add(sight(world))
        return real(world, quiet=quiet)

    with monkeypatch.context() as patch:
        patch.setattr(World, "broken", noting)
        result = search(setup(name, budget, kinds), worlds_max=100_000)
    assert result.complete
    return found, result.worlds


def sight(world: World) -> Sight:
    record = world.record
    steps = tuple((item.name, item.state, item.settling, item.undo_word) for item in record.items())
    marks = tuple(sorted((*key[:2], mark.reason) for key, mark in record.marks.items()))
    effects = tuple(sorted(str(each) for each in world.ledger))
    return record.state, record.by_hand, record.effects, steps, marks, effects


def exactly(world: World) -> int:
    """The same only if everything is: log, times, attempts, epochs, messages."""
    processes = tuple((each.epoch, each.flying, each.seen and each.seen.events) for each in world.processes)
    rows, cancelled = frozenset(world.rows.items()), world.cancelled
    return hash((world.events, world.now, world.epoch, processes, frozenset(world.wire), rows, world.ledger, cancelled))


SPACES = [
    ("chain", Budget(1, 0), EVERY_FAULT),
    ("chain", Budget(0, 1), EVERY_FAULT),
    ("chain-pivot", Budget(1, 1), frozenset({FaultKind.LOST, FaultKind.CANCEL})),
    ("settled", Budget(2, 0), frozenset({FaultKind.LOST, FaultKind.REPEATED})),
    ("old-put-probed", Budget(1, 1), frozenset({FaultKind.LOST})),
    ("parallel", Budget(1, 0), frozenset({FaultKind.LOST, FaultKind.NO, FaultKind.LATER})),
]


@pytest.mark.parametrize(("name", "budget", "kinds"), SPACES)
def test_nothing_is_missed_by_taking_worlds_for_the_same(
    monkeypatch: pytest.MonkeyPatch, name: str, budget: Budget, kinds: frozenset[FaultKind]
) -> None:
    short, worlds = seen_in(monkeypatch, name, budget, kinds)
    monkeypatch.setattr(World, "print", exactly)
    long, more_worlds = seen_in(monkeypatch, name, budget, kinds)
    assert more_worlds > worlds, "the shortcut shortens nothing"
    assert long - short == set()


def nothing(_world: World) -> int:
    return 0


def states(world: World) -> int:
    return hash(tuple(item.state for item in world.record.items()))


@pytest.mark.parametrize("blunder", [nothing, states])
def test_taking_too_much_for_the_same_is_noticed(
    monkeypatch: pytest.MonkeyPatch, blunder: Callable[[World], int]
) -> None:
    name, budget, kinds = SPACES[2]
    long, _ = seen_in(monkeypatch, name, budget, kinds)
    monkeypatch.setattr(World, "print", blunder)
    short, _ = seen_in(monkeypatch, name, budget, kinds)
    assert long - short, "a search that takes worlds for the same that aren't sees as much"
