"""How a run goes when nothing more goes wrong: everything that must happen in the end does, in a fair order.

Messages arrive before time passes, and where a run is stuck a sensible person helps. A run that doesn't come to rest
like this has broken P1: it would go on for ever, or stand where it can't be moved.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from amends.testing.explore.moves import Move
from amends.testing.explore.world import World

MOVES_MAX: Final = 400
"""Nothing that is left alone takes as many moves; a story with a silent service may be given more."""

IN_VAIN_MAX: Final = 3
"""How often a person tries the same before they try something else."""

_ORDER: Final = ("person", "receive", "deliver", "poll", "finish", "adopt", "lose", "jump")

FOREVER: Final = "P1 it ends or is stuck: it goes on for ever"


class People(Enum):
    """The people that are there when a run is stuck."""

    HELP = "help"
    AWAY = "away"


class Stragglers(Enum):
    """When messages arrive that are not waited for."""

    IN_TURN = "in turn"
    LAST = "last"


@dataclass(frozen=True)
class RunAtRest:
    """Where a run came to rest, by which moves, and what it broke on its way."""

    world: World
    moves: tuple[Move, ...]
    broken: str | None


def come_to_rest(
    world: World,
    *,
    people: People = People.HELP,
    stragglers: Stragglers = Stragglers.IN_TURN,
    moves_max: int = MOVES_MAX,
    is_known: Callable[[World], bool] = lambda _world: False,
) -> RunAtRest:
    """Let happen what must happen, until nothing moves. `is_known` stops at a world that is known to come to rest."""
    taken: list[Move] = []
    while len(taken) < moves_max:
        if is_known(world):
            return RunAtRest(world, tuple(taken), None)
        move = next_calm(world, stragglers=stragglers)
        if move is None:
            sentence = world.broken(quiet=True)
            if sentence is not None or people is People.AWAY or world.record.ended is not None:
                return RunAtRest(world, tuple(taken), sentence)
            move = _remedy(world, taken)
            if move is None:
                reasons = ", ".join(f"{mark.name}: {mark.reason}" for mark in world.record.marks.values())
                return RunAtRest(world, tuple(taken), f"P1 it ends or is stuck: no person can move it on ({reasons})")
        taken.append(move)
        world = world.apply(move)
        sentence = world.broken()
        if sentence is not None:
            return RunAtRest(world, tuple(taken), sentence)
    return RunAtRest(world, tuple(taken), FOREVER)


def next_calm(world: World, *, stragglers: Stragglers = Stragglers.IN_TURN) -> Move | None:
    """What happens next if nothing goes wrong; `None`: the world is at rest."""
    return calmest(world, world.moves(), stragglers=stragglers)


def calmest(world: World, moves: Sequence[Move], *, stragglers: Stragglers = Stragglers.IN_TURN) -> Move | None:
    """The one of these moves that happens next if nothing goes wrong."""
    free = [move for move in moves if move.free]
    if stragglers is Stragglers.LAST:
        free = [move for move in free if move.message is None or _is_waited_for(world, move)] or free
    return min(free, key=lambda move: _ORDER.index(move.kind), default=None)


def _is_waited_for(world: World, move: Move) -> bool:
    message = move.message
    return message is not None and any(
        flying.attempt == message.attempt and process.epoch == message.epoch
        for process in world.processes
        for flying in process.flying
    )


def _remedy(world: World, taken: Sequence[Move]) -> Move | None:
    """What a person does next about a run that is stuck: what changes anything, and wasn't tried in vain again and
    again; where nothing else is left, the same once more, for what is in vain today may not be so in an hour.
    """
    tried = Counter(move.does for move in taken)
    helps = [move for move in world.remedies() if world.apply(move).events is not world.events]
    return next((move for move in helps if tried[move.does] < IN_VAIN_MAX), helps[0] if helps else None)
