"""What an exploration has to say: how much it went through, or the smallest story that broke a promise."""

from collections.abc import Mapping
from dataclasses import dataclass

from amends.core.run.record import RunState
from amends.core.words.errors import AmendsError
from amends.core.words.retry import Guard
from amends.testing.broken import BrokenPromise
from amends.testing.explore.moment import WorldSetup
from amends.testing.explore.moves import FaultKind, Move
from amends.testing.explore.replaying import path_of, promise_in, shrunk, unbound
from amends.testing.explore.search import Found
from amends.testing.explore.story import Story


class TooManyWorlds(AmendsError):
    """There is more to go through than was allowed, so nothing can be said of all of it."""


@dataclass(frozen=True)
class Report:
    """A search that went through everything to its bound, and found no promise broken.

    `worlds`: distinct worlds. `ends`: of those in which nothing moves any more, how the run stood. `stuck`: what it was
    stuck on there, and how often. `faults`, `crashes`: how often each was tried. `moves`: steps from world to world.
    """

    worlds: int
    ends: Mapping[RunState, int]
    stuck: Mapping[str, int]
    faults: Mapping[FaultKind, int]
    crashes: int
    moves: int

    def __str__(self) -> str:
        ends = ", ".join(f"{count:,} {state.value}" for state, count in self.ends.items())
        lines = [f"{self.worlds:,} worlds, every promise holds; at rest: {ends}"]
        lines += [f"  stuck {count:,} times on {reason}" for reason, count in self.stuck.items()]
        return "\n".join(lines)


def report_of(found: Found, setup: WorldSetup, title: str, expression: str) -> Report:
    """The report; `BrokenPromise` with the smallest story, or `TooManyWorlds`."""
    if found.broken is not None:
        raise told_of(found, setup, title, expression)
    if not found.complete:
        budget = setup.budget
        bound = f"{_counted(budget.faults, 'fault')} and {_counted(budget.crashes, 'crash', 'crashes')}"
        msg = (
            f"{title}: after {found.worlds:,} worlds there is still more to go through with {bound}. Nothing is broken "
            "so far. Allow fewer, or more worlds."
        )
        raise TooManyWorlds(msg)
    return Report(found.worlds, dict(found.ends), dict(found.stuck), dict(found.faults), found.crashes, found.moves)


def told_of(found: Found, setup: WorldSetup, title: str, expression: str) -> BrokenPromise:
    """The failure that tells the smallest story."""
    assert found.broken is not None
    smallest = shrunk(setup, found.broken)
    path = path_of(setup, smallest.moves)
    faults = _counted(sum(move.costs is not None for move in smallest.moves), "fault")
    crashes = sum(move.ends_process for move in smallest.moves)
    went_wrong = faults + (f", {_counted(crashes, 'crash', 'crashes')}" if crashes else "")
    where = f"({title}, {went_wrong}, world {found.worlds:,} of {found.worlds + found.waiting:,})"
    again = f"{expression}.{said_again(setup, path)}"
    return broken_story(setup, smallest.moves, smallest.sentence, where=where, again=again, path=path)


def said_again(setup: WorldSetup, path: str) -> str:
    """The call that tells a path's story again."""
    services = f", services=Guard.{setup.services.name}" if setup.services is not Guard.BARRIER else ""
    return f'story("{path}"{services})'


def broken_story(
    setup: WorldSetup, moves: tuple[Move, ...], sentence: str, *, where: str, again: str, path: str = ""
) -> BrokenPromise:
    """The failure that tells this story."""
    story = Story(unbound(setup), moves, again)
    promise = promise_in(sentence)
    how = sentence.partition(": ")[2]
    return BrokenPromise(
        f"{promise} {where}\n{story.text(broken=how)}", promise=promise, path=path, mermaid=story.mermaid()
    )


def _counted(number: int, word: str, words: str = "") -> str:
    return f"{number} {word if number == 1 else words or f'{word}s'}"
