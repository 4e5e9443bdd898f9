"""What is under way in a world, its drivers, and what can happen to it next: values without behaviour."""

from typing import Final, NamedTuple, TypeAlias

from amends.core.run.answers import Cause, Outcome
from amends.core.words.keys import Phase, unit_name
from amends.core.words.retry import Guard
from amends.core.words.values import Words
from amends.testing.explore.history import RunHistory
from amends.testing.explore.participants import Called, Wants
from amends.testing.explore.people import Does


class FaultKind(Words):
    """What needn't happen, and may. Each costs one of `faults_max`.

    `LOST`: it is not waited for any longer, the call or its answer may still arrive. `REPEATED`: a message arrives once
    more. `NOT_SENT`: no connection. `MISROUTED`: a wrong address or token. `UNREADABLE`: an answer that can't be read.
    `HALTED`: an answer that says trying again is no use. `BROKE`: the service failed, nothing happened. `NO`: it
    refused, or can't undo. `LATER`: it took the work on, and answers when it is done. `CANCEL`: a person wants the run
    to turn back. `DEADLINE`: it passes. `REPAIR`: a person retries or resolves. `GIVE_UP`: a person skips or abandons.
    """

    LOST = "lost"
    REPEATED = "repeated"
    NOT_SENT = "not-sent"
    MISROUTED = "misrouted"
    UNREADABLE = "unreadable"
    HALTED = "halted"
    BROKE = "broke"
    NO = "no"
    LATER = "later"
    CANCEL = "cancel"
    DEADLINE = "deadline"
    REPAIR = "repair"
    GIVE_UP = "give-up"


EVERY_FAULT: Final = frozenset(FaultKind)
USUAL_FAULTS: Final = EVERY_FAULT - {FaultKind.GIVE_UP}
"""What is tried by default. Giving up isn't: a run that a person abandons ends as that person wants."""


class RequestOnWay(NamedTuple):
    """A call under way. `sent` counts only where no barrier protects it."""

    epoch: int
    attempt: int
    guard: Guard
    local: bool
    since: int
    sent: int
    call: Called


class AnswerOnWay(NamedTuple):
    """An answer under way to the process of this epoch; 0: a callback, any process takes it."""

    epoch: int
    attempt: int
    step: str
    item: str
    phase: Phase
    outcome: Outcome


Message: TypeAlias = RequestOnWay | AnswerOnWay


class Flying(NamedTuple):
    """A call that its process waits for."""

    step: str
    item: str
    phase: Phase
    attempt: int


class PaperProcess(NamedTuple):
    """A process that drives, or drove, the run. `seen` is as far as it has read; `None`: it dropped the run."""

    epoch: int
    seen: RunHistory | None
    flying: tuple[Flying, ...] = ()


class Budget(NamedTuple):
    """What may still go wrong: faults of any kind, and ends of processes, known or (another adopts the run) unknown to
    them.
    """

    faults: int = 0
    crashes: int = 0

    def without(self, move: "Move") -> "Budget":
        """What is left after a move."""
        return Budget(self.faults - (move.costs is not None), self.crashes - move.ends_process)


class Move(NamedTuple):
    """Something that can happen next. `again`: a copy of the message stays on its way. `dies`: the owner does, before
    it acts on it. `phase`: of the work that is over. `costs` is what it is, where it needn't happen; `ends_process`: it
    takes one of the crashes.
    """

    kind: str
    message: Message | None = None
    wants: Wants = Wants.YES
    epoch: int = 0
    flying: Flying | None = None
    vertex: tuple[str, str] = ("", "")
    phase: Phase = Phase.ACTION
    does: Does | None = None
    cause: Cause = Cause.TIMED_OUT
    dies: bool = False
    again: bool = False
    costs: FaultKind | None = None
    ends_process: bool = False

    @property
    def free(self) -> bool:
        """It needs no budget, so it is among what must happen in the end."""
        return self.costs is None and not self.ends_process

    @property
    def name(self) -> str:
        """Short and readable: a story is a list of these."""
        what = ""
        match self.message:
            case RequestOnWay(call=call):
                what = f" {unit_name(call.step, call.item)}:{call.phase.value}#{self.message.attempt}"
            case AnswerOnWay(step=step, item=item, phase=phase, outcome=outcome):
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
        return f"{self.kind}{what}{wants}{', and again' if self.again else ''}{' and die' if self.dies else ''}"


def is_of(message: Message, epoch: int, flying: Flying) -> bool:
    """Whether a message belongs to a call that a process waits for."""
    if message.epoch != epoch or message.attempt != flying.attempt:
        return False
    if isinstance(message, RequestOnWay):
        call = message.call
        return (call.step, call.item, call.phase) == flying[:3]
    return (message.step, message.item, message.phase) == flying[:3]
