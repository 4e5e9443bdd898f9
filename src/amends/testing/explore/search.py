"""Every way through a world: all that may happen, in every order, until nothing is left that hasn't been seen.

Worlds are gone through by how much has gone wrong in them, and among those by how much has happened, so the first
broken promise is found in a smallest story: none with fewer faults breaks any.

A world counts as seen if it was there before with as much that may still go wrong: then every way on from it was there
too. What is to go wrong is kept as "this world, that move" until its turn comes; most of those worlds turn out to be
known, and were never held. Promises that speak of every moment are asked of each world as it is reached, before it is
found to be known, since how it came about may differ. P1 speaks of runs that are left alone, so it is asked of worlds
at rest, and of all others by following what would happen next if nothing went wrong: that must not lead back to itself.
"""

import gc
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from amends.core.run.record import RunState
from amends.testing.explore.calm import FOREVER, calmest, come_to_rest
from amends.testing.explore.late import Arrived, arrived, noticing
from amends.testing.explore.moment import WorldSetup
from amends.testing.explore.moves import Budget, FaultKind, Move
from amends.testing.explore.world import World, begin

WORLDS_MAX: Final = 2_000_000
"""More than this and a search is too large to wait for: at 20,000 worlds a second it would take minutes."""

PROGRESS_EVERY: Final = 1_000
"""Worlds between two reports of progress."""


class Progress(NamedTuple):
    """How far a search is. `waiting`: moves it still has to make, that it knows of. `spent`: how many things have gone
    wrong in the worlds it looks at now.
    """

    worlds: int
    waiting: int
    spent: int


@dataclass(frozen=True)
class Broken:
    """A promise that was broken, and how it came about."""

    sentence: str
    moves: tuple[Move, ...]


@dataclass
class Found:
    """What a search has seen: distinct worlds, worlds at rest by the run's state, why runs were stuck, what went wrong.

    `moves`: from world to world; `waiting`: those that weren't made yet. `complete`: there was nothing left to go
    through.
    """

    worlds: int = 0
    moves: int = 0
    waiting: int = 0
    ends: Counter[RunState] = field(default_factory=Counter[RunState])
    stuck: Counter[str] = field(default_factory=Counter[str])
    faults: Counter[FaultKind] = field(default_factory=Counter[FaultKind])
    crashes: int = 0
    broken: Broken | None = None
    complete: bool = True


class _StepTo(NamedTuple):
    """A world that is to be reached, from another one; `before`: what led there from the world that has this place."""

    world: World
    move: Move
    place: int
    before: tuple[Move, ...]


def search(
    setup: WorldSetup, *, worlds_max: int = WORLDS_MAX, progress: Callable[[Progress], None] | None = None
) -> Found:
    """Go through every world to the bound that the setup states; stops at the first broken promise."""
    with keeping_everything():
        return _Search(setup, worlds_max, progress).run()


@contextmanager
def keeping_everything() -> Generator[None]:
    """Without looks for garbage in cycles. A search keeps what it makes until it is over, and to look through all of it
    again and again took a fifth of its time.
    """
    looks = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looks:
            gc.enable()


class _Search:
    def __init__(self, setup: WorldSetup, worlds_max: int, progress: Callable[[Progress], None] | None) -> None:
        self._setup = setup
        self._worlds_max = worlds_max
        self._progress = progress
        self._found = Found()
        self._covers = _covered(setup.budget)
        self._seen: dict[int, int] = {}
        self._came: list[tuple[int, tuple[Move, ...]]] = []
        self._queue: deque[tuple[World, int, int]] = deque()
        self._later = [deque[_StepTo]() for _ in range(setup.budget.faults + setup.budget.crashes + 1)]
        self._next: dict[int, tuple[int, int]] = {}
        self._rests: set[int] = set()

    def run(self) -> Found:
        first = begin(self._setup)
        if self._broke(first, 0, ()):
            return self._found
        self._add(first, first.print(), 0, ())
        found = self._found
        if not self._empty_queue(0):
            return found
        for spent, steps in enumerate(self._later):
            while steps:
                found.waiting -= 1
                self._take(*steps.popleft())
                if found.broken is not None or not self._empty_queue(spent):
                    return found
        self._find_circles()
        return found

    def _empty_queue(self, spent: int) -> bool:
        """Go through all worlds in which nothing more has gone wrong; whether the search is to go on."""
        found, queue = self._found, self._queue
        while queue:
            if found.worlds >= self._worlds_max:
                found.complete = False
                return False
            world, mark, place = queue.popleft()
            found.worlds += 1
            if self._progress is not None and found.worlds % PROGRESS_EVERY == 0:
                self._progress(Progress(found.worlds, found.waiting, spent))
            self._go_on(world, mark, place)
            if found.broken is not None:
                return False
        return True

    def _go_on(self, world: World, mark: int, place: int) -> None:
        moves = world.moves()
        calm = calmest(world, moves)
        if calm is None:
            self._at_rest(world, place)
        for move in moves:
            reached = self._take_or_put_off(world, move, place)
            if move is calm and reached is not None:
                self._next[mark] = (reached, place)
            if self._found.broken is not None:
                return

    def _take_or_put_off(self, world: World, move: Move, place: int, before: tuple[Move, ...] = ()) -> int | None:
        """Make a move at once if it is free; else when all with less gone wrong is done. What it leads to now."""
        if move.costs is None and not move.ends_process:
            return self._take(world, move, place, before)
        left, bound = world.budget.without(move), self._setup.budget
        self._later[sum(bound) - sum(left)].append(_StepTo(world, move, place, before))
        self._found.waiting += 1
        return None

    def _take(self, world: World, move: Move, place: int, before: tuple[Move, ...]) -> int | None:
        """Make a move; the mark of the world it leads to."""
        found = self._found
        found.moves += 1
        if move.costs is not None:
            found.faults[move.costs] += 1
        found.crashes += move.ends_process
        after, moves = world.apply(move), (*before, move)
        changed = after.drive.history is not world.drive.history or after.ledger is not world.ledger
        if (changed or after.wrong is not None) and self._broke(after, place, moves):
            return None
        what = arrived(world, move, after)
        if what is not None:
            return self._go_on_noticed(after, what, place, moves)
        mark = after.print()
        self._add(after, mark, place, moves)
        return mark

    def _go_on_noticed(self, world: World, what: Arrived, place: int, before: tuple[Move, ...]) -> int | None:
        """Go on from an arrival with what can tell that it was there already; where its answer leads to."""
        heard: int | None = None
        for move in noticing(world, what):
            reached = self._take_or_put_off(world, move, place, before)
            if self._found.broken is not None:
                return None
            if move.message is what.answer:
                heard = heard or reached
        return heard

    def _add(self, world: World, mark: int, place: int, moves: tuple[Move, ...]) -> None:
        known = self._seen.get(mark, 0)
        place_of_budget, covers = self._covers[world.budget]
        if known >> place_of_budget & 1:
            return
        self._seen[mark] = known | covers
        self._came.append((place, moves))
        self._queue.append((world, mark, len(self._came) - 1))

    def _at_rest(self, world: World, place: int) -> None:
        found = self._found
        found.ends[world.record.state] += 1
        for mark in world.record.marks.values():
            found.stuck[f"{mark.name}, {mark.phase.value}: {mark.reason}"] += 1
        sentence = world.broken(quiet=True)
        if sentence is not None:
            found.broken = Broken(sentence, self._path(place))
        elif world.record.ended is None:
            rest = come_to_rest(world, is_known=self._is_known_to_rest)
            if rest.broken is not None:
                found.broken = Broken(rest.broken, (*self._path(place), *rest.moves))

    def _is_known_to_rest(self, world: World) -> bool:
        mark = world.print()
        if mark in self._rests:
            return True
        self._rests.add(mark)
        return False

    def _find_circles(self) -> None:
        """Whatever would happen next by itself must come to an end."""
        ends: set[int] = set()
        for mark in self._next:
            way: set[int] = set()
            here = mark
            while here in self._next and here not in ends:
                if here in way:
                    self._found.broken = Broken(FOREVER, self._path(self._next[here][1]))
                    return
                way.add(here)
                here = self._next[here][0]
            ends |= way

    def _broke(self, world: World, place: int, more: tuple[Move, ...]) -> bool:
        sentence = world.broken()
        if sentence is not None:
            self._found.broken = Broken(sentence, (*self._path(place), *more))
        return sentence is not None

    def _path(self, place: int) -> tuple[Move, ...]:
        parts: list[tuple[Move, ...]] = []
        while self._came:
            before, moves = self._came[place]
            if not moves:
                break
            parts.append(moves)
            place = before
        return tuple([move for part in reversed(parts) for move in part])


def _covered(budget: Budget) -> Mapping[Budget, tuple[int, int]]:
    """Per budget its place among all, and the places of those that allow no more than it does, as bits."""
    every = [Budget(faults, crashes) for faults in range(budget.faults + 1) for crashes in range(budget.crashes + 1)]
    places = {each: place for place, each in enumerate(every)}
    return {
        each: (
            places[each],
            sum(1 << places[other] for other in every if other.faults <= each.faults and other.crashes <= each.crashes),
        )
        for each in every
    }
