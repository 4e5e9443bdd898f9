"""A story on paper: how one run went, and what can be asked of it."""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Self, TypeVar

from amends.core.run.record import RunRecord, RunState
from amends.core.run.summary import outcome
from amends.core.saga.operation import Operation
from amends.core.saga.outcomes import Outcome
from amends.core.words.keys import Phase
from amends.testing.explore.mermaid import sequence
from amends.testing.explore.moment import WorldSetup
from amends.testing.explore.moves import Move, RequestOnWay
from amends.testing.explore.telling import MoveShown, StoryLine, lines, scenes
from amends.testing.explore.world import World, begin
from amends.testing.invariants import Effect

Q = TypeVar("Q")


class Unexpected(AssertionError):
    """A story went another way than was expected; the message says what was expected, what happened, and how to play
    it again.
    """


class Story:
    """How one run went. Its text is the story line by line, with the line that plays it again."""

    def __init__(self, setup: WorldSetup, moves: Sequence[Move], again: str) -> None:
        self._setup = setup
        self._moves = tuple(moves)
        self._first = begin(setup)
        self.again = again

    @cached_property
    def _scenes(self) -> list[MoveShown]:
        return scenes(self._first, self._moves)

    @property
    def _last(self) -> World:
        return self._scenes[-1].after if self._scenes else self._first

    @property
    def _record(self) -> RunRecord:
        return self._last.record

    @property
    def state(self) -> RunState:
        """Where the run stands at the end of the story; compares equal to its name (`"compensated"`)."""
        return self._record.state

    @property
    def outcome(self) -> Outcome:
        """What a caller that waits for the run is told, as `run.outcome()` gives it."""
        return outcome(self._setup.definition, self._record)

    @property
    def effects(self) -> list[str]:
        """What really happened at the participants, in order: `reserve`, `undo reserve`."""
        return [str(each) for each in self._last.ledger]

    @property
    def left_behind(self) -> list[str]:
        """Effects that are in place at the end of the story."""
        net, matters = self._last.evidence.net, self._last.evidence.matters
        return [Effect(*vertex, "acted").name for vertex, left in net.items() if left > 0 and matters(vertex[0])]

    def sent(self, operation: Operation[..., Q, Any], /) -> list[Q]:
        """The requests that were sent to an operation, in order, repeats included. Undos count for the operation that
        undoes.
        """
        decode = self._setup.definition.codec.decoder(operation.request_type)
        return [decode(body) for body in self._sent_to(operation.participant, operation.name)]

    def expect(
        self,
        state: str | None = None,
        *,
        effects: Iterable[str] | None = None,
        reason: str | None = None,
    ) -> Self:
        """See that it went like this; `Unexpected` tells the whole story otherwise. `reason`: a part of the outcome."""
        wanted = {"state": state, "effects": None if effects is None else list(effects)}
        went: dict[str, object] = {"state": self.state.value, "effects": self.effects}
        wrong = [name for name, value in wanted.items() if value is not None and value != went[name]]
        if reason is not None and reason not in str(self.outcome):
            wrong.append("reason")
            wanted["reason"], went["reason"] = reason, str(self.outcome)
        if wrong:
            told = [
                f"  {word} {name}: {values[name]}"
                for name in wrong
                for word, values in (("expected", wanted), ("happened", went))
            ]
            raise Unexpected("\n".join(["the story went another way", *told, self.text()]))
        return self

    def text(self, *, broken: str = "") -> str:
        """The story, line by line. `broken`: how it broke a promise, told in place of how it ended."""
        return "\n".join([*numbered(lines(self._scenes)), *self._ending(broken)])

    def mermaid(self) -> str:
        """The story as a Mermaid sequence diagram."""
        return sequence(self._first, self._scenes)

    def _ending(self, broken: str) -> list[str]:
        told = [f"  {broken}" if broken else f"  in the end: {self.outcome}"]
        if self.left_behind and self.state is not RunState.COMPLETED:
            told.append(f"  left behind: {', '.join(self.left_behind)}")
        return [*told, f"  again: {self.again}"]

    def __repr__(self) -> str:
        return (
            f"<story: {str(self.outcome).rstrip()}; effects: {', '.join(self.effects) or 'none'}; again: {self.again}>"
        )

    def __str__(self) -> str:
        return self.text()

    def _sent_to(self, participant: str, name: str) -> Iterable[bytes]:
        for world, before in self._worlds():
            for request in _new(world, before):
                call, item = request.call, self._record.item(request.call.step, request.call.item)
                if item is None or item.request is None:
                    continue
                if call.phase is Phase.ACTION and (item.request.participant, item.request.operation) == (
                    participant,
                    name,
                ):
                    yield call.body
                undo = item.undo
                undoes = undo is not None and (undo.participant, undo.operation) == (participant, name)
                if call.phase is Phase.COMPENSATION and undoes:
                    yield json.dumps(json.loads(call.body)["request"]).encode()

    def _worlds(self) -> Iterable[tuple[World, World | None]]:
        yield self._first, None
        for scene in self._scenes:
            yield scene.after, scene.before


def _new(world: World, before: World | None) -> list[RequestOnWay]:
    old = list(before.wire) if before is not None else []
    found: list[RequestOnWay] = []
    for each in world.wire:
        if each in old:
            old.remove(each)
        elif isinstance(each, RequestOnWay):
            found.append(each)
    return found


def numbered(told: Iterable[StoryLine]) -> list[str]:
    """Lines with their numbers, and their columns aligned."""
    listed = list(told)
    calls = max((len(line.call) for line in listed), default=0)
    whats = [f"{line.call:<{calls}} {line.what}" if line.call else line.what for line in listed]
    width = max((len(what) for what, line in zip(whats, listed, strict=True) if line.effects), default=0)
    digits = len(str(len(listed)))
    return [
        f"  {number:>{digits}}  {what:<{width}}   effect: {', '.join(line.effects)}"
        if line.effects
        else f"  {number:>{digits}}  {what}"
        for number, (what, line) in enumerate(zip(whats, listed, strict=True), 1)
    ]
