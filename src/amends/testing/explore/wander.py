"""One way through a world, by the dice: for spaces that are too large to go through."""

import random
from dataclasses import dataclass
from typing import Final

from amends.testing.explore.calm import Stragglers, come_to_rest
from amends.testing.explore.moment import WorldSetup
from amends.testing.explore.moves import Move
from amends.testing.explore.replaying import shrunk
from amends.testing.explore.search import Broken
from amends.testing.explore.world import World, begin

BOLD: Final = 0.35
"""How often something goes wrong, where it can."""


@dataclass(frozen=True)
class Walk:
    """Where a walk ended and how it went there; `broken` is the story, made short, of the promise it broke."""

    world: World
    moves: tuple[Move, ...]
    broken: Broken | None


def wander(setup: WorldSetup, seed: int, *, moves_max: int = 40) -> Walk:
    """Go as the dice say for a while, then on to rest. The same seed goes the same way."""
    dice = random.Random(seed)  # noqa: S311 - a seed is a bug report, not a secret
    world, taken = begin(setup), list[Move]()
    for _ in range(dice.randrange(moves_max)):
        possible = world.moves()
        if not possible:
            break
        bold = [move for move in possible if not move.free]
        move = dice.choice(bold if bold and dice.random() < BOLD else possible)
        taken.append(move)
        world = world.apply(move)
        sentence = world.broken()
        if sentence is not None:
            return Walk(world, tuple(taken), shrunk(setup, Broken(sentence, tuple(taken))))
    rest = come_to_rest(world, stragglers=dice.choice(list(Stragglers)))
    moves = (*taken, *rest.moves)
    return Walk(rest.world, moves, None if rest.broken is None else shrunk(setup, Broken(rest.broken, moves)))
