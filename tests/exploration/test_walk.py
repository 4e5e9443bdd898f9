"""The promises hold however a run is driven: at random through every shape of saga, on every way through small ones."""

import random

import pytest

from amends.core.state import RunState
from amends.testing.moment import FAULTS
from amends.testing.moves import Budget
from tests.exploration.sagas import ALL
from tests.exploration.walking import explore, setup, walk

WALKS = 100
MINUTE = 60_000_000


@pytest.mark.parametrize("name", ALL)
def test_every_promise_holds_on_random_ways_to_rest(name: str) -> None:
    ends: set[RunState] = set()
    for seed in range(WALKS):
        dice = random.Random(seed * 7919)
        most = dice.choice((1, 1, 2, 4))
        budget = Budget(
            faults=dice.randint(0, most),
            crashes=dice.randint(0, min(most, 2)),
            verbs=dice.randint(0, most),
            noes=dice.randint(0, min(most, 2)),
            laters=dice.randint(0, 1),
            cancels=dice.choice((0, 0, 1)),
        )
        deadline = dice.choice((None, None, MINUTE))
        world, _, story = walk(setup(name, budget, may_wait="a b p r m q", deadline=deadline, faults=FAULTS), seed)
        assert story is None, f"seed {seed}: {story}"
        ends.add(world.record.state)
    assert {RunState.COMPLETED, RunState.COMPENSATED} & ends, "no run came to an end of its own"
    assert ends <= {RunState.COMPLETED, RunState.COMPENSATED, RunState.ABANDONED}, "a run was left behind"


EXPLORED = [
    ("chain", Budget(faults=1, crashes=1), ""),
    ("chain", Budget(faults=2, noes=1), ""),
    ("chain", Budget(crashes=1, cancels=1), ""),
    ("chain", Budget(faults=1, verbs=1, noes=1), ""),
    ("chain-pivot", Budget(faults=1, crashes=1, noes=1), ""),
    ("chain-pivot", Budget(faults=2, cancels=1), ""),
    ("chain-pivot", Budget(faults=1, laters=1, noes=1), "a p"),
    ("whole", Budget(faults=1, crashes=1), ""),
    ("whole", Budget(faults=1, laters=1, noes=1), "a p r"),
    ("parallel", Budget(faults=1, crashes=1), ""),
    ("settled", Budget(faults=2, noes=1), ""),
    ("many", Budget(faults=1, noes=1), ""),
    ("local", Budget(faults=1, crashes=1), ""),
    ("local", Budget(faults=1, noes=1, cancels=1), ""),
    ("old-put-probed", Budget(faults=1, noes=1), ""),
    ("old-post", Budget(faults=1, crashes=1), ""),
]


@pytest.mark.parametrize(("name", "budget", "may_wait"), EXPLORED)
def test_every_promise_holds_on_every_way(name: str, budget: Budget, may_wait: str) -> None:
    report = explore(setup(name, budget, may_wait=may_wait), worlds_max=30_000)
    assert report.story is None, str(report.story)
    assert report.complete, "the space is larger than it was"
    assert report.worlds > 500
    assert report.ends[RunState.COMPLETED], "some way leads to completion"


def test_the_explorer_sees_both_ends_and_the_stuck() -> None:
    report = explore(setup("chain-pivot", Budget(faults=2, cancels=1), faults=FAULTS), worlds_max=30_000)
    assert report.story is None, str(report.story)
    assert {RunState.COMPLETED, RunState.COMPENSATED, RunState.STUCK} <= set(report.ends)


LARGER = (
    Budget(faults=2, crashes=1, noes=1),
    Budget(faults=1, crashes=1, verbs=1, cancels=1),
    Budget(faults=1, verbs=2, noes=1, laters=1),
    Budget(faults=2, crashes=2),
)


@pytest.mark.campaign
@pytest.mark.parametrize("budget", LARGER)
@pytest.mark.parametrize("name", ALL)
def test_every_promise_holds_in_larger_spaces(name: str, budget: Budget) -> None:
    report = explore(setup(name, budget, may_wait="a b p r", faults=FAULTS), worlds_max=30_000)
    assert report.story is None, str(report.story)
