"""A story in lines: what happened, in the order in which it did, and what of it took effect.

A call and its answer are one line where nothing came between them. That the owner reads what others wrote isn't told.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from amends.core.run.answers import Halt, Outcome, Pending, SaidNo, Succeeded, Unknown
from amends.core.run.record import RunState
from amends.core.words.keys import Phase, unit_name
from amends.core.words.retry import MICROSECONDS
from amends.testing.explore.moves import AnswerOnWay, Flying, Move, RequestOnWay
from amends.testing.explore.participants import Wants
from amends.testing.explore.world import World

_NAMES: Final[Mapping[Phase, str]] = {
    Phase.ACTION: "",
    Phase.COMPENSATION: "undo ",
    Phase.PROBE: "probe ",
    Phase.SEAL: "seal ",
}


@dataclass(frozen=True, slots=True)
class StoryLine:
    """One thing that happened: to which call, if to one; what; and what it did to the world."""

    call: str
    what: str
    effects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MoveShown:
    """One move, and the world before and after it."""

    before: World
    move: Move
    after: World

    @property
    def effects(self) -> tuple[str, ...]:
        """What took effect by it."""
        return tuple(str(each) for each in self.after.ledger[len(self.before.ledger) :])


def scenes(first: World, moves: Sequence[Move]) -> list[MoveShown]:
    """The moves with their worlds."""
    found: list[MoveShown] = []
    world = first
    for move in moves:
        after = world.apply(move)
        found.append(MoveShown(world, move, after))
        world = after
    return found


def lines(told: Sequence[MoveShown]) -> Iterator[StoryLine]:
    """The story, line by line, from its start."""
    yield StoryLine("", "start")
    place = 0
    while place < len(told):
        scene = told[place]
        following = told[place + 1] if place + 1 < len(told) else None
        joined = None if following is None else _joined(scene, following)
        if joined is not None and following is not None:
            yield joined
            yield from _dies(following)
            place += 2
            continue
        yield from _line(scene)
        yield from _dies(scene)
        place += 1
    if told:
        yield from _never_sent(told[-1].after)


def _joined(scene: MoveShown, following: MoveShown) -> StoryLine | None:
    """A call and what came of it, where the one followed the other."""
    message, move = scene.move.message, following.move
    if scene.move.kind != "deliver" or not isinstance(message, RequestOnWay):
        return None
    call = message.call
    called = Flying(call.step, call.item, call.phase, message.attempt)
    if move.kind == "receive" and isinstance(move.message, AnswerOnWay):
        answer = move.message
        if (answer.epoch, Flying(*answer[2:5], answer.attempt)) == (message.epoch, called):
            return StoryLine(
                _name(called), f"-> {_told(answer.outcome)}{_copied(scene.move)}", (*scene.effects, *following.effects)
            )
    if move.kind in {"lose", "halt"} and (move.epoch, move.flying) == (message.epoch, called):
        did = ", took effect" if scene.effects else ""
        return StoryLine(
            _name(called), f"-> {_lost(move)}{did}{_copied(scene.move)}", (*scene.effects, *following.effects)
        )
    return None


def _line(scene: MoveShown) -> Iterator[StoryLine]:
    move, effects = scene.move, scene.effects
    match move.kind:
        case "poll":
            pass
        case "deliver" if isinstance(move.message, RequestOnWay):
            call = move.message.call
            name = _name(Flying(call.step, call.item, call.phase, move.message.attempt))
            yield StoryLine(name, f"arrives{_whose(scene, move.message)}{_wanted(move)}{_copied(move)}", effects)
        case "receive" if isinstance(move.message, AnswerOnWay):
            answer = move.message
            name = _name(Flying(answer.step, answer.item, answer.phase, max(answer.attempt, 1)))
            yield StoryLine(
                name, f"answer arrives{_whose(scene, answer)}: {_told(answer.outcome)}{_copied(move)}", effects
            )
        case "lose" | "halt" if move.flying is not None:
            still = any(_belongs(each, move) for each in scene.after.wire)
            yield StoryLine(_name(move.flying), f"-> {_lost(move)}{', still on its way' if still else ''}", effects)
        case "finish":
            done = "refused after a while" if move.wants is Wants.NO else "done after a while"
            yield StoryLine(unit_name(*move.vertex), f"is {done}", effects)
        case _:
            yield StoryLine("", _alone(scene), effects)


def _alone(scene: MoveShown) -> str:
    move, before = scene.move, scene.before
    match move.kind:
        case "jump":
            return f"{_duration(scene.after.now - before.now)} later"
        case "crash":
            return "the owner dies"
        case "adopt" if before.owner is not None:
            return "another owner takes over, and the former one doesn't know"
        case "adopt":
            return "a new owner takes over"
        case "deadline":
            return "the deadline passes"
        case _:
            return str(move.does)


def _dies(scene: MoveShown) -> Iterator[StoryLine]:
    if scene.move.dies:
        yield StoryLine("", "the owner dies before it sends what follows")


def _never_sent(last: World) -> Iterator[StoryLine]:
    """What an end left behind although its undo was never asked for."""
    if last.record.ended is not RunState.COMPENSATED:
        return
    for (step, item), left in last.evidence.net.items():
        known = last.record.item(step, item)
        if left > 0 and last.evidence.matters(step) and (known is None or known.undo is None):
            yield StoryLine("", f"undo {unit_name(step, item)}: not sent")


def _name(call: Flying) -> str:
    again = f" #{call.attempt}" if call.attempt > 1 else ""
    return f"{_NAMES[call.phase]}{unit_name(call.step, call.item)}{again}"


def _key(called: object) -> tuple[str, str, Phase]:
    step, item, phase = getattr(called, "step", ""), getattr(called, "item", ""), getattr(called, "phase", Phase.ACTION)
    return step, item, phase


def _belongs(message: RequestOnWay | AnswerOnWay, move: Move) -> bool:
    flying = move.flying
    called = message.call if isinstance(message, RequestOnWay) else message
    return flying is not None and _key(called) == flying[:3] and message.attempt == flying.attempt


def _whose(scene: MoveShown, message: RequestOnWay | AnswerOnWay) -> str:
    if message.epoch == 0:
        return " by callback"
    return " late, from a former owner" if message.epoch != scene.before.epoch else ""


def _wanted(move: Move) -> str:
    match move.wants:
        case Wants.YES:
            return ""
        case Wants.NO:
            return ", and is refused"
        case Wants.LATER:
            return ", and is taken on"
        case Wants.FAILS:
            return ", and the service fails"


def _copied(move: Move) -> str:
    return " (and once more, later)" if move.again else ""


def _lost(move: Move) -> str:
    return "halted" if move.kind == "halt" else "no answer" if move.cause == "timed-out" else move.cause.value


def _told(outcome: Outcome) -> str:
    match outcome:
        case Succeeded(word=word):
            return word
        case SaidNo(code=code, detail=detail, word=word):
            return word if word != "rejected" else f"no: {code or detail}"
        case Pending():
            return "pending"
        case Unknown(cause=cause):
            return cause.value
        case Halt(reason=reason):
            return f"halted: {reason}"


def _duration(micros: int) -> str:
    seconds = round(micros / MICROSECONDS)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{round(seconds / size)} {unit}"
    return f"{seconds} s"
