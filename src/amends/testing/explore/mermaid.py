"""A story as a Mermaid sequence diagram: what was sent between which parties, what arrived, and what took effect."""

from collections.abc import Iterator, Sequence
from typing import Final

from amends.core.run.record import LOCAL
from amends.core.words.keys import Phase, unit_name
from amends.testing.explore.moves import AnswerOnWay, Move, RequestOnWay
from amends.testing.explore.telling import MoveShown
from amends.testing.explore.world import World

_OWNER: Final = "owner"
_PERSON: Final = "person"


def sequence(first: World, told: Sequence[MoveShown]) -> str:
    """The diagram, as text that starts with `sequenceDiagram`."""
    body = [line for scene in told for line in _messages(scene)]
    last = told[-1].after if told else first
    people = [_PERSON] if any(scene.move.does is not None for scene in told) else []
    owners = [f"{_OWNER}{epoch}" for epoch in range(1, last.epoch + 1)]
    services = list(dict.fromkeys(_service(last, item.step, item.item) for item in last.record.items()))
    names = [*people, *owners, *(_id(each) for each in services)]
    titles = ["a person" for _ in people] + [f"owner {n}" for n in range(1, last.epoch + 1)] + services
    who = [f"    participant {name} as {title}" for name, title in zip(names, titles, strict=True)]
    over = f"{names[len(people)]},{names[-1]}" if len(names) > len(people) + 1 else names[len(people)]
    end = f"    Note over {over}: {last.record.state.value}"
    return "\n".join(["sequenceDiagram", *who, *body, end])


def _messages(scene: MoveShown) -> Iterator[str]:
    move, before = scene.move, scene.before
    owner = f"{_OWNER}{before.epoch}"
    match move.kind:
        case "deliver" if isinstance(move.message, RequestOnWay):
            call = move.message.call
            to = _id(_service(scene.after, call.step, call.item))
            again = " (and once more, later)" if move.again else ""
            yield f"    {_OWNER}{move.message.epoch}->>{to}: {_call(call.phase, call.step, call.item)}{again}"
        case "receive" if isinstance(move.message, AnswerOnWay):
            answer = move.message
            back = _id(_service(before, answer.step, answer.item))
            word = getattr(answer.outcome, "word", "") or type(answer.outcome).__name__.lower()
            to = f"{_OWNER}{answer.epoch}" if answer.epoch else owner
            yield f"    {back}-->>{to}: {_call(answer.phase, answer.step, answer.item)} {word}"
        case "lose" | "halt" if move.flying is not None:
            flying = move.flying
            service = _id(_service(before, flying.step, flying.item))
            yield f"    {service}--x{owner}: {_call(flying.phase, flying.step, flying.item)} {move.cause.value}"
        case "finish":
            yield f"    Note over {_id(_service(before, *move.vertex))}: {unit_name(*move.vertex)} done after a while"
        case "person":
            yield f"    {_PERSON}->>{owner}: {move.does}"
        case _:
            yield from _notes(move, before, owner)
    for effect in scene.after.ledger[len(before.ledger) :]:
        yield f"    Note over {_id(_service(scene.after, effect.step, effect.item))}: effect: {effect}"
    if move.dies:
        yield f"    Note over {owner}: dies"


def _notes(move: Move, before: World, owner: str) -> Iterator[str]:
    notes = {"jump": "time passes", "crash": "dies", "deadline": "the deadline passes"}
    if move.kind in notes:
        yield f"    Note over {owner}: {notes[move.kind]}"
    elif move.kind == "adopt":
        yield f"    Note over {_OWNER}{before.epoch + 1}: takes over"


def _service(world: World, step: str, item: str) -> str:
    known = world.record.item(step, item)
    if known is None or known.request is None:
        return step
    return "in this process" if known.request.participant == LOCAL else known.request.participant


def _id(name: str) -> str:
    return "".join(each if each.isalnum() else "_" for each in name)


def _call(phase: Phase, step: str, item: str) -> str:
    prefix = {Phase.ACTION: "", Phase.COMPENSATION: "undo "}.get(phase, f"{phase.value} ")
    return f"{prefix}{unit_name(step, item)}"
