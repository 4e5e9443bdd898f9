"""Stories told by the names of their moves."""

from collections.abc import Sequence

from amends.core.run.record import RunState
from amends.testing.explore.calm import Stragglers, come_to_rest
from amends.testing.explore.moves import Budget
from amends.testing.explore.replaying import possible
from amends.testing.explore.world import World, begin
from tests.method.exploration.sagas import setup

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


def ends(world: World) -> RunState | None:
    """How it ends, if everything goes well from here."""
    return at_rest(world).record.ended


def yes(*units: str) -> tuple[str, ...]:
    """The moves by which steps, or items, are asked for the first time, act and are heard, one after the other."""
    return tuple(
        move for unit in units for move in (f"deliver {unit}:action#1 -> yes", f"receive {unit}:action#1 succeeded")
    )


def no(unit: str) -> tuple[str, ...]:
    """The same for one that says no."""
    return (f"deliver {unit}:action#1 -> no", f"receive {unit}:action#1 rejected")
