"""A run that this process drives: what is known of it, what is asked of it, what is in flight for it."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from amends.core.run.commands import Command, Refusal
from amends.core.run.decide import Decision, decide
from amends.core.run.definition import Definition
from amends.core.run.events import Event, Resolved, RetryAsked, Skipped
from amends.core.run.owed import Send
from amends.core.run.record import RunRecord
from amends.core.words.keys import ACTION, CallKey, Phase
from amends.engine.lanes import Lane, QueuedCall


@dataclass(slots=True)
class PendingCommand:
    """A command on its way into the log; `answer` is told what became of it, once that is durable.

    `expected`: it is meant for this version of the history alone.
    """

    command: Command
    answer: "asyncio.Future[RunRecord | Refusal] | None" = None
    expected: int | None = None


class Ready(QueuedCall):
    """A call that is owed. `sent`: it has left, or is about to; before that it can still be withdrawn.

    `begun`: its task runs, and gives the slot back by itself; one that is cancelled before that never runs.
    `held`: it has its slot, but may not leave just now.
    """

    __slots__ = ("begun", "driven", "held", "lane", "over", "send", "sent", "task")

    def __init__(self, driven: "Driven", send: Send, lane: "Lane[Ready]") -> None:
        self.urgent = send.phase is not ACTION
        self.asked = self.has_slot = self.gone = self.trial = False
        self.driven = driven
        self.send = send
        self.lane = lane
        self.sent = self.begun = self.held = False
        self.task: asyncio.Task[None] | None = None
        self.over: Callable[[asyncio.Task[None]], object] = nothing
        """Called back when its task is done without having had a turn."""


def nothing(_: "asyncio.Task[None]") -> None:
    """What is called back where nothing is to be done."""


class Driven:
    """`record` is what is durable; what it becomes if the append in flight is accepted goes along with that append.

    `moving`: the append in flight is progress. `urged`: calls that a person asked for, to be made at once even if their
    participant is taken for down.
    """

    __slots__ = (
        *("appending", "calls", "commands", "deciding", "definition", "dropped", "epoch", "moving", "record"),
        *("reached", "releasing", "tasks", "urged", "wake"),
    )

    def __init__(self, definition: Definition, record: RunRecord, epoch: int, *, dropped: bool = False) -> None:
        self.definition = definition
        self.record = record
        self.epoch = epoch
        self.commands: list[PendingCommand] = []
        self.deciding: list[PendingCommand] = []
        self.appending = False
        self.releasing = False
        self.moving = False
        self.dropped = dropped
        self.calls: dict[CallKey, Ready] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.wake: int | None = None
        self.reached = 0
        self.urged: set[CallKey] = set()

    def time(self, now: int) -> int:
        """The run's own time: never before its last event, nor before a moment that its alarm has rung for.

        It is ahead of the clock where the clock was set back while no process drove the run.
        """
        at, reached = self.record.at, self.reached
        latest = at if at > reached else reached  # noqa: FURB136 - asked ten times a run: `max` takes three times as long
        return now if now > latest else latest  # noqa: FURB136 - as above

    @property
    def is_current(self) -> bool:
        """`record` is how the run stands: no other process can have written since."""
        return not self.dropped or self.record.ended is not None

    @property
    def held(self) -> frozenset[CallKey]:
        """Calls that are owed and wait in a lane: nothing of them has left."""
        waiting = (key for key, ready in self.calls.items() if not (ready.sent or ready.has_slot or ready.send.starts))
        return frozenset(waiting)

    def decide(self, record: RunRecord, asked: PendingCommand) -> Decision | Refusal:
        """What follows from what a person asks, as far as the run got."""
        if asked.expected is not None and asked.expected != record.length:
            return changed(self.run, asked.expected, record.length)
        decided = decide(self.definition, record, asked.command, self.held)
        if not isinstance(decided, Refusal):
            self.hear_of(decided.events)
        return decided

    def hear_of(self, events: Iterable[Event]) -> None:
        """People decided on calls. Those that wait in a lane are taken back, so that none leaves while that is being
        written; what is owed afterwards is paid anew, and what was asked for then goes first.
        """
        for event in events:
            if not isinstance(event, RetryAsked | Resolved | Skipped):
                continue
            if isinstance(event, RetryAsked):
                self.urged.add((event.step, event.item, event.phase))
            for phase in Phase:
                ready = self.calls.get((event.step, event.item, phase))
                if ready is not None and not ready.sent and not ready.has_slot:
                    ready.gone = True
                    ready.lane.leave(ready)
                    del self.calls[event.step, event.item, phase]

    @property
    def run(self) -> str:
        """The run's id."""
        return self.record.run


def changed(run: str, expected: int, found: int | None) -> Refusal:
    """What was asked was meant for another version of the history."""
    now = "it has moved on since" if found is None else f"it is at version {found}"
    told = f"{run} is not at version {expected} any more: {now}. Look at it again, then decide."
    return Refusal("changed", told, status=412)
