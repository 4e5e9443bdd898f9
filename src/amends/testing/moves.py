"""What is under way in a world, who drives it, and what can happen to it next: values without behaviour."""

from typing import NamedTuple

from amends.core.answers import Cause, Outcome
from amends.core.keys import Phase, unit_name
from amends.core.retry import Guard
from amends.core.state import RunRecord
from amends.testing.people import Does
from amends.testing.pretend import Called, Wants


class Request(NamedTuple):
    """A call under way. `sent` counts only where no barrier protects it."""

    epoch: int
    attempt: int
    guard: Guard
    local: bool
    since: int
    sent: int
    call: Called


class Answer(NamedTuple):
    """An answer under way to the process of this epoch; 0: a callback, anybody takes it."""

    epoch: int
    attempt: int
    step: str
    item: str
    phase: Phase
    outcome: Outcome


class Flying(NamedTuple):
    """A call that its process waits for."""

    step: str
    item: str
    phase: Phase
    attempt: int


class Process(NamedTuple):
    """Somebody who drives, or drove, the run. `seen` is the last record it read; `None`: it dropped the run."""

    epoch: int
    seen: RunRecord | None
    flying: frozenset[Flying] = frozenset()


class Budget(NamedTuple):
    """What may still go wrong. `verbs` are a person's; `noes` are services that say no; `laters` those that take
    work on; `cancels` wishes to turn back.
    """

    faults: int = 0
    crashes: int = 0
    verbs: int = 0
    noes: int = 0
    laters: int = 0
    cancels: int = 0


class Move(NamedTuple):
    """Something that can happen next. `free`: it needs no budget, so it is among what must happen in the end."""

    kind: str
    message: Request | Answer | None = None
    wants: Wants = Wants.YES
    epoch: int = 0
    flying: Flying | None = None
    vertex: tuple[str, str] = ("", "")
    does: Does | None = None
    cause: Cause = Cause.TIMED_OUT
    dies: bool = False
    free: bool = False

    @property
    def name(self) -> str:
        """Short and readable: a story is a list of these."""
        what = ""
        match self.message:
            case Request(call=call):
                what = f" {unit_name(call.step, call.item)}:{call.phase.value}#{self.message.attempt}"
            case Answer(step=step, item=item, phase=phase, outcome=outcome):
                word = getattr(outcome, "word", "") or type(outcome).__name__.lower()
                what = f" {unit_name(step, item)}:{phase.value}#{self.message.attempt} {word}"
            case None:
                pass
        if self.flying is not None:
            flying = self.flying
            what = f" {unit_name(flying.step, flying.item)}:{flying.phase.value}#{flying.attempt} {self.cause.value}"
        if self.vertex[0]:
            what = f" {unit_name(*self.vertex)}"
        if self.does is not None:
            what = f" {self.does}"
        wants = f" -> {self.wants.value}" if self.kind in {"deliver", "finish"} else ""
        return f"{self.kind}{what}{wants}{' and die' if self.dies else ''}"


def without(wire: tuple[Request | Answer, ...], message: Request | Answer) -> tuple[Request | Answer, ...]:
    """The wire without one copy of a message."""
    index = wire.index(message)
    return (*wire[:index], *wire[index + 1 :])


def is_of(message: Request | Answer, epoch: int, flying: Flying) -> bool:
    """Whether a message belongs to a call that a process waits for."""
    if message.epoch != epoch or message.attempt != flying.attempt:
        return False
    if isinstance(message, Request):
        call = message.call
        return (call.step, call.item, call.phase) == flying[:3]
    return (message.step, message.item, message.phase) == flying[:3]
