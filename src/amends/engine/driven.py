"""A run that this process drives: what is known of it, what is asked of it, what is in flight for it."""

import asyncio
from dataclasses import dataclass

from amends.core.commands import Command, Refusal
from amends.core.definition import Definition
from amends.core.keys import Phase
from amends.core.owed import Send
from amends.core.state import RunRecord
from amends.engine.lanes import Lane, Waiting

CallKey = tuple[str, str, Phase]


@dataclass(slots=True)
class Asked:
    """A command on its way into the log; `answer` is told what became of it, once that is durable."""

    command: Command
    answer: "asyncio.Future[RunRecord | Refusal] | None" = None


@dataclass(slots=True, kw_only=True)
class Ready(Waiting):
    """A call that is owed. `sent`: it has left, or is about to; before that it can still be withdrawn.

    `begun`: its task runs, and gives the slot back by itself; one that is cancelled before that never runs.
    """

    driven: "Driven"
    send: Send
    lane: "Lane[Ready]"
    sent: bool = False
    task: "asyncio.Task[None] | None" = None
    begun: bool = False


class Driven:
    """`record` is what is durable; what it becomes if the append in flight is accepted goes along with that append."""

    __slots__ = (
        *("appending", "calls", "commands", "deciding", "definition", "dropped", "epoch", "record", "releasing"),
        *("tasks", "wake"),
    )

    def __init__(self, definition: Definition, record: RunRecord, epoch: int, *, dropped: bool = False) -> None:
        self.definition = definition
        self.record = record
        self.epoch = epoch
        self.commands: list[Asked] = []
        self.deciding: list[Asked] = []
        self.appending = False
        self.releasing = False
        self.dropped = dropped
        self.calls: dict[CallKey, Ready] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.wake: int | None = None

    @property
    def is_current(self) -> bool:
        """`record` is how the run stands: nobody else can have written since."""
        return not self.dropped or self.record.ended is not None

    @property
    def run(self) -> str:
        """The run's id."""
        return self.record.run
