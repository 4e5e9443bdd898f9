"""The promises hold however a run is driven: at random through every shape of saga, on every way through small ones."""

import random

import pytest

from amends.core.run.record import RunState
from amends.testing.explore.moves import EVERY_FAULT, Budget
from amends.testing.explore.search import Found, search
from amends.testing.explore.telling import lines, scenes
from amends.testing.explore.wander import wander
from amends.testing.explore.world import begin
from tests.method.exploration.sagas import ALL, setup

WALKS = 100
CLEAN = {RunState.COMPLETED, RunState.COMPENSATED}


@pytest.mark.parametrize("name", ALL)
def test_every_promise_holds_on_random_ways_to_rest(name: str) -> None:
    ends: set[RunState] = set()
    for seed in range(WALKS):
        dice = random.Random(seed * 7919)
        most = dice.choice((1, 1, 2, 4, 7))
        budget = Budget(faults=dice.randint(0, most), crashes=dice.randint(0, min(most, 2)))
        walk = wander(setup(name, budget), seed)
        assert walk.broken is None, f"seed {seed}: {walk.broken}"
        ends.add(walk.world.record.state)
    assert CLEAN & ends, "no run came to an end of its own"
    assert ends <= {*CLEAN, RunState.ABANDONED}, "a run was left behind"


BOUNDS: dict[str, tuple[tuple[int, int], ...]] = {
    **dict.fromkeys(ALL, ((2, 0), (1, 1))),
    **dict.fromkeys(("parallel", "fork", "pivot-first"), ((2, 0), (0, 1))),
    **dict.fromkeys(("many", "diamond", "asking"), ((1, 0), (0, 1))),
}
"""Faults and crashes at most, by saga: what fits into a test."""


def every_way(name: str, faults: int, crashes: int, worlds_max: int) -> Found:
    setting = setup(name, Budget(faults, crashes))
    found = search(setting, worlds_max=worlds_max)
    if found.broken is not None:
        told = [f"{line.call} {line.what} {line.effects}" for line in lines(scenes(begin(setting), found.broken.moves))]
        raise AssertionError("\n".join([found.broken.sentence, *told]))
    assert found.complete, "the space is larger than it was"
    return found


@pytest.mark.parametrize(("name", "faults", "crashes"), [(name, *bound) for name in ALL for bound in BOUNDS[name]])
def test_every_promise_holds_on_every_way(name: str, faults: int, crashes: int) -> None:
    found = every_way(name, faults, crashes, 40_000)
    assert found.ends[RunState.COMPLETED], "some way leads to completion"
    assert not faults or set(found.faults) == EVERY_FAULT, "every kind of fault happened"
    assert not crashes or found.crashes, "an owner was lost"


LARGER = ((2, 1), (3, 0), (1, 2))


@pytest.mark.campaign
@pytest.mark.parametrize(("faults", "crashes"), LARGER)
@pytest.mark.parametrize("name", ALL)
def test_every_promise_holds_in_larger_spaces(name: str, faults: int, crashes: int) -> None:
    every_way(name, faults, crashes, 3_000_000)
