"""Ways through a world: at random, or every one. Each ends at rest, and a broken promise is told as a short story."""

import random
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from amends.core.state import RunState
from amends.testing.moment import Setup
from amends.testing.moves import Budget, Move
from amends.testing.world import World, begin
from tests.exploration.sagas import definition_of

INPUT = b'{"name":"x"}'
DRIVE_MAX = 400


def setup(
    name: str,
    budget: Budget,
    *,
    may_wait: str = "",
    deadline: int | None = None,
    faults: frozenset[str] = frozenset({"timed-out", "duplicate"}),
) -> Setup:
    return Setup(definition_of(name), INPUT, budget, frozenset(may_wait.split()), deadline=deadline, faults=faults)


@dataclass
class Story:
    """A broken promise and how it came about."""

    sentence: str
    moves: tuple[Move, ...]
    setup: Setup

    def __str__(self) -> str:
        lines = [f"{self.sentence} ({self.setup.definition.saga})"]
        world = begin(self.setup)
        lines += [f"   . {event}" for event in world.events]
        for number, move in enumerate(self.moves, 1):
            before, effects = len(world.events), len(world.ledger)
            world = world.apply(move)
            lines.append(f"{number:>3}  {move.name}")
            lines += [f"       effect: {effect}" for effect in world.ledger[effects:]]
            lines += [f"   . {event}" for event in world.events[before:]]
        return "\n".join(lines)


def drive(
    world: World, *, people: bool = True, late: bool = False, moves: list[Move] | None = None
) -> tuple[World, str | None]:
    """Let everything that must happen in the end happen, in a fair order, until nothing moves.

    `late`: messages that nobody waits for arrive only after everything else. `people`: where it is stuck, a sensible
    person helps. Gives the last world and what was broken on the way.
    """
    taken = moves if moves is not None else []
    for _ in range(DRIVE_MAX):
        move = _fair(world, late=late)
        if move is None:
            sentence = world.broken(quiet=True)
            if sentence is not None or not people or world.record.ended is not None:
                return world, sentence
            helped = _helped(world, taken)
            if helped is None:
                reasons = ", ".join(f"{mark.name}: {mark.reason}" for mark in world.record.marks.values())
                return world, f"P1 it ends or is stuck: no person can move it on ({reasons})"
            world = helped
        else:
            taken.append(move)
            world = world.apply(move)
        sentence = world.broken()
        if sentence is not None:
            return world, sentence
    return world, "P1 it ends or is stuck: it goes on for ever"


def _helped(world: World, taken: list[Move]) -> World | None:
    for move in world.remedies():
        after = world.apply(move)
        if len(after.events) > len(world.events):
            taken.append(move)
            return after
    return None


def _fair(world: World, *, late: bool) -> Move | None:
    free = [move for move in world.moves() if move.free]
    if not free:
        return None
    if late:
        waited = [move for move in free if move.message is None or _is_waited_for(world, move)]
        free = waited or free
    order = ("receive", "deliver", "poll", "finish", "wake", "adopt", "lose", "jump")
    return min(free, key=lambda move: order.index(move.kind))


def _is_waited_for(world: World, move: Move) -> bool:
    message = move.message
    return message is not None and any(
        flying.attempt == message.attempt and process.epoch == message.epoch
        for process in world.processes
        for flying in process.flying
    )


def walk(setup: Setup, seed: int, *, steps_max: int = 40) -> tuple[World, int, Story | None]:
    """One way through a world, by the dice; then on to rest."""
    dice = random.Random(seed)
    world, moves = begin(setup), list[Move]()
    for _ in range(dice.randrange(steps_max)):
        enabled = world.moves()
        if not enabled:
            break
        bold = [move for move in enabled if not move.free]
        chosen = dice.choice(bold if bold and dice.random() < 0.35 else enabled)
        moves.append(chosen)
        world = world.apply(chosen)
        sentence = world.broken()
        if sentence is not None:
            return world, len(moves), shrunk(Story(sentence, tuple(moves), setup))
    world, sentence = drive(world, late=dice.random() < 0.5, moves=moves)
    return world, len(moves), None if sentence is None else shrunk(Story(sentence, tuple(moves), setup))


@dataclass
class Report:
    """What a search has seen."""

    worlds: int = 0
    ends: Counter[RunState] = field(default_factory=Counter[RunState])
    story: Story | None = None
    complete: bool = True


def explore(setup: Setup, *, worlds_max: int = 20_000) -> Report:
    """Every way through a world, breadth first; what is left when the limit is reached is driven on to rest."""
    report = Report()
    first = begin(setup)
    seen = {first.print()}
    came: list[tuple[int, Move | None]] = [(0, None)]
    queue: deque[tuple[World, int]] = deque([(first, 0)])
    while queue:
        world, place = queue.popleft()
        if len(seen) >= worlds_max:
            report.complete = False
            more: list[Move] = []
            end, sentence = drive(world, moves=more)
            report.ends[end.record.state] += 1
            if sentence is not None:
                report.story = shrunk(Story(sentence, (*_path(came, place), *more), setup))
                return report
            continue
        moves = world.moves()
        if not any(move.free for move in moves):
            report.ends[world.record.state] += 1
            more = []
            end, sentence = (world, world.broken(quiet=True))
            if sentence is None and world.record.ended is None:
                end, sentence = drive(world, moves=more)
            if sentence is not None:
                report.story = shrunk(Story(sentence, (*_path(came, place), *more), setup))
                return report
        for move in moves:
            after = world.apply(move)
            report.worlds += 1
            if after.events is not world.events or after.ledger is not world.ledger or after.wrong:
                sentence = after.broken()
                if sentence is not None:
                    report.story = shrunk(Story(sentence, (*_path(came, place), move), setup))
                    return report
            mark = after.print()
            if mark not in seen:
                seen.add(mark)
                came.append((place, move))
                queue.append((after, len(came) - 1))
    return report


def _path(came: Sequence[tuple[int, Move | None]], place: int) -> tuple[Move, ...]:
    moves: list[Move] = []
    while place:
        place, move = came[place]
        if move is not None:
            moves.append(move)
    return tuple(reversed(moves))


def replay(setup: Setup, names: Sequence[str]) -> World:
    """A story told by the names of its moves."""
    world = begin(setup)
    for name in names:
        moves = {move.name: move for move in reversed(world.moves())}
        moves.update({move.name: move for move in world.remedies()})
        if name not in moves:
            known = "\n  ".join(moves)
            raise AssertionError(f"{name!r} can't happen here; what can is\n  {known}")
        world = world.apply(moves[name])
        sentence = world.broken()
        assert sentence is None, sentence
    return world


def _breaks(setup: Setup, names: Sequence[str], promise: str) -> tuple[Move, ...] | None:
    """The moves, if this story still breaks the same promise, at any moment or when it is left alone afterwards."""
    world, taken = begin(setup), list[Move]()
    for name in names:
        move = next((each for each in (*world.moves(), *world.remedies()) if each.name == name), None)
        if move is None:
            continue
        taken.append(move)
        world = world.apply(move)
        sentence = world.broken()
        if sentence is not None:
            return tuple(taken) if sentence.startswith(promise) else None
    _, sentence = drive(world, moves=taken)
    return tuple(taken) if sentence is not None and sentence.startswith(promise) else None


def shrunk(story: Story) -> Story:
    """A shorter story that breaks the same promise: moves are left out as long as it still does."""
    promise = story.sentence.split(":")[0]
    names = [move.name for move in story.moves]
    best = story.moves
    again = True
    while again:
        again = False
        for leave in _gaps(len(names)):
            shorter = names[: leave.start] + names[leave.stop :]
            moves = _breaks(story.setup, shorter, promise)
            if moves is not None and len(moves) < len(best):
                best, names, again = moves, [move.name for move in moves], True
                break
    return Story(_sentence(story.setup, best) or story.sentence, best, story.setup)


def _gaps(length: int) -> Iterator[range]:
    size = max(1, length // 2)
    while size:
        for start in range(0, length, size):
            yield range(start, min(length, start + size))
        size //= 2


def _sentence(setup: Setup, moves: Sequence[Move]) -> str | None:
    world = begin(setup)
    for move in moves:
        world = world.apply(move)
        sentence = world.broken()
        if sentence is not None:
            return sentence
    return None
