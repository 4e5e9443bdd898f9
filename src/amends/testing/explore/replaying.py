"""A story told again: by its path, or with some of its moves left out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from amends.core.words.keys import NOTICE
from amends.testing.explore.calm import RunAtRest, come_to_rest
from amends.testing.explore.moment import WorldSetup
from amends.testing.explore.moves import Budget, Move
from amends.testing.explore.paths import BadPath, decode, encode, words_of
from amends.testing.explore.search import Broken
from amends.testing.explore.world import World, begin

SHOWN_MAX = 12
"""Moves that are named when a story can't go on."""


@dataclass(frozen=True)
class Replayed:
    """A story as far as it was told: the world it led to, by which moves, and the promise that broke, if one did."""

    world: World
    moves: tuple[Move, ...]
    broken: str | None


def unbound(setup: WorldSetup) -> WorldSetup:
    """The same setting for a story that is told: what goes wrong in it was decided by its teller."""
    return replace(setup, budget=Budget(99, 99))


def possible(world: World) -> Mapping[str, Move]:
    """Everything that can happen next, what a person would do about a stuck run included, by its word."""
    moves = (*world.moves(), *world.remedies())
    by_word: dict[str, Move] = {}
    for word, move in zip(words_of(moves), moves, strict=True):
        by_word.setdefault(word, move)
    return by_word


def path_of(setup: WorldSetup, moves: Iterable[Move]) -> str:
    """The path of a story."""
    return encode(_names(setup), _words(unbound(setup), moves))


def _names(setup: WorldSetup) -> tuple[str, ...]:
    return (*setup.definition.steps, NOTICE)


def _same(one: Move, other: Move) -> bool:
    return one._replace(costs=None, ends_process=False) == other._replace(costs=None, ends_process=False)


def tell(setup: WorldSetup, path: str) -> Replayed:
    """Play a path; `BadPath` where it can't happen like that. Stops at a broken promise."""
    world, taken = begin(unbound(setup)), list[Move]()
    for number, word in enumerate(decode(_names(setup), path), 1):
        known = possible(world)
        if word not in known:
            names = _names(setup)
            others = [encode(names, [each]) for each in known]
            shown = "  ".join(others[:SHOWN_MAX]) + ("  ..." if len(others) > SHOWN_MAX else "")
            told = encode(names, [word])
            msg = f"move {number}, {told}, can't happen there. What can: {shown or 'nothing'}"
            raise BadPath(msg)
        taken.append(known[word])
        world = world.apply(known[word])
        sentence = world.broken()
        if sentence is not None:
            return Replayed(world, tuple(taken), sentence)
    return Replayed(world, tuple(taken), None)


# -- shorter stories


def shrunk(setup: WorldSetup, story: Broken) -> Broken:
    """A story that breaks the same promise with as few moves as can be left: moves are left out while it still does."""
    promise = promise_in(story.sentence)
    setup = unbound(setup)
    best, words = story, _words(setup, story.moves)
    again = True
    while again:
        again = False
        for gap in _gaps(len(words)):
            shorter = _breaks(setup, words[: gap.start] + words[gap.stop :], promise)
            if shorter is not None and len(shorter.moves) < len(best.moves):
                best, words, again = shorter, _words(setup, shorter.moves), True
                break
    return best


def promise_in(sentence: str) -> str:
    """The name of the promise that a sentence says is broken."""
    return sentence.partition(":")[0]


def _words(setup: WorldSetup, moves: Iterable[Move]) -> list[str]:
    world, words = begin(setup), list[str]()
    for move in moves:
        words.append(next(word for word, each in possible(world).items() if _same(each, move)))
        world = world.apply(move)
    return words


def _breaks(setup: WorldSetup, words: Sequence[str], promise: str) -> Broken | None:
    """The story of these words, as far as they can happen, if it breaks this promise: on the way, or left alone."""
    world, taken = begin(setup), list[Move]()
    for word in words:
        move = possible(world).get(word)
        if move is None:
            continue
        taken.append(move)
        world = world.apply(move)
        sentence = world.broken()
        if sentence is not None:
            return Broken(sentence, tuple(taken)) if promise_in(sentence) == promise else None
    rest: RunAtRest = come_to_rest(world)
    if rest.broken is None or promise_in(rest.broken) != promise:
        return None
    return Broken(rest.broken, (*taken, *rest.moves))


def _gaps(length: int) -> Iterator[range]:
    size = max(1, length // 2)
    while size:
        for start in range(0, length, size):
            yield range(start, min(length, start + size))
        size //= 2
