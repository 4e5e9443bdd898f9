"""The state diagrams leave nothing out: whatever a run or a step does on random ways through every shape of saga is
drawn. Not the other way round: some arrows are rare, and a test must not depend on the dice.
"""

import random
import re

import pytest

from amends.core.run import events as e
from amends.core.run.evolve import begin, evolve
from amends.core.run.record import RunRecord
from amends.testing.explore.moves import Budget
from amends.testing.explore.wander import wander
from tests.docs.collect import PROJECT
from tests.method.exploration.sagas import ALL, setup

WALKS = 20
ARROW = re.compile(r"^ +(?P<before>[\w\[*\]]+) --> (?P<after>\w+)(: .+)?$")
Stroke = tuple[str, str]
"""A state and the one after it."""


def drawn(heading: str) -> set[Stroke]:
    """The arrows of the first diagram below a heading."""
    text = (PROJECT / "docs/reference/states.md").read_text("utf-8")
    diagram = text.split(f"## {heading}\n")[1].split("```mermaid\n")[1].split("```")[0]
    found = [ARROW.match(line) for line in diagram.split("\n")]
    return {(each["before"], each["after"]) for each in found if each}


def histories() -> list[tuple[e.Event, ...]]:
    found: list[tuple[e.Event, ...]] = []
    for name in ALL:
        for seed in range(WALKS):
            dice = random.Random(seed * 104_729)
            walk = wander(setup(name, Budget(faults=dice.randint(0, 7), crashes=dice.randint(0, 2))), seed)
            assert walk.broken is None, f"{name}, seed {seed}: {walk.broken}"
            found.append(walk.world.events)
    return found


@pytest.fixture(scope="module")
def strokes() -> tuple[set[Stroke], set[Stroke]]:
    """What runs did, and what steps did."""
    runs, steps = set[Stroke](), set[Stroke]()
    for history in histories():
        record = begin(history[0])
        for event in history[1:]:
            after = evolve(record, event)
            if after.state is not record.state:
                runs.add((record.state.value, after.state.value))
            steps |= moved(record, after)
            record = after
    return runs, steps


def moved(before: RunRecord, after: RunRecord) -> set[Stroke]:
    """Calls of steps whose state is another now."""
    found = set[Stroke]()
    for item in after.items():
        old = before.item(item.step, item.item)
        was = "waiting" if old is None else old.state.value
        if was != item.state.value:
            found.add((was, item.state.value))
    return found


def test_what_runs_do_is_drawn(strokes: tuple[set[Stroke], set[Stroke]]) -> None:
    runs, _ = strokes
    assert ("compensating", "compensated") in runs, "nothing was undone on any way: this protects little"
    assert runs - drawn("A run") == set()


def test_what_steps_do_is_drawn(strokes: tuple[set[Stroke], set[Stroke]]) -> None:
    _, steps = strokes
    assert ("done", "compensating") in steps, "nothing was undone on any way: this protects little"
    assert steps - drawn("A step") == set()
