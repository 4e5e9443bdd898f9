"""The promises hold however a run is driven: at random through every shape of saga, on every way through small ones."""

import random

import pytest

from amends.core.state import RunState
from amends.testing.moves import EVERY_FAULT, Budget, FaultKind
from amends.testing.search import Found, search
from amends.testing.telling import lines, scenes
from amends.testing.wander import wander
from amends.testing.world import begin
from tests.exploration.sagas import ALL, setup

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


def kinds(words: str) -> frozenset[FaultKind]:
    return frozenset(map(FaultKind, words.split())) or EVERY_FAULT


NOT_HERE: dict[str, frozenset[FaultKind]] = {}
"""Kinds that have no place in a saga."""

# saga, faults, crashes, kinds of faults (none: all of them)
EXPLORED = [
    ("chain", 1, 1, ""),
    ("chain", 2, 0, ""),
    ("chain-pivot", 1, 1, ""),
    ("whole", 1, 1, "lost repeated later no cancel"),
    ("parallel", 1, 1, "lost no"),
    ("settled", 2, 0, "lost repeated no later"),
    ("diamond", 1, 0, ""),
    ("pivot-first", 1, 0, ""),
    ("only-retriables", 1, 1, ""),
    ("many", 1, 0, ""),
    ("asking", 1, 0, "cancel deadline no"),
    ("perhaps", 1, 1, "lost no cancel"),
    ("local", 1, 1, "lost no cancel"),
    ("old-put", 1, 0, ""),
    ("old-put-probed", 2, 0, "lost no cancel"),
    ("old-post", 1, 1, "lost no cancel"),
    ("old-post-probed", 1, 1, "lost no cancel"),
    ("old-pivot-put", 1, 0, ""),
    ("old-pivot-post", 1, 0, ""),
    ("old-pivot-put-probed", 1, 1, "lost no cancel"),
    ("telling", 1, 1, "lost no repeated"),
]


def every_way(name: str, faults: int, crashes: int, words: str, worlds_max: int) -> Found:
    setting = setup(name, Budget(faults, crashes), kinds(words))
    found = search(setting, worlds_max=worlds_max)
    if found.broken is not None:
        told = [f"{line.call} {line.what} {line.effects}" for line in lines(scenes(begin(setting), found.broken.moves))]
        raise AssertionError("\n".join([found.broken.sentence, *told]))
    assert found.complete, "the space is larger than it was"
    return found


@pytest.mark.parametrize(("name", "faults", "crashes", "words"), EXPLORED)
def test_every_promise_holds_on_every_way(name: str, faults: int, crashes: int, words: str) -> None:
    found = every_way(name, faults, crashes, words, 30_000)
    assert found.ends[RunState.COMPLETED], "some way leads to completion"
    assert set(found.faults) >= kinds(words) - NOT_HERE.get(name, frozenset()), "every fault that is allowed happened"
    assert not crashes or found.crashes


def test_no_shape_is_left_out() -> None:
    assert {name for name, *_ in EXPLORED} == set(ALL)


LARGER = ((2, 1), (3, 0), (1, 2))


@pytest.mark.campaign
@pytest.mark.parametrize(("faults", "crashes"), LARGER)
@pytest.mark.parametrize("name", ALL)
def test_every_promise_holds_in_larger_spaces(name: str, faults: int, crashes: int) -> None:
    every_way(name, faults, crashes, "", 3_000_000)
