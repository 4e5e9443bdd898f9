"""A run that this process drives: what is known of it, what is asked of it, what is in flight for it."""

import asyncio
from dataclasses import dataclass, field

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
    """A call that is owed. `sent`: it has left, or is about to; before that it can still be withdrawn."""

    driven: "Driven"
    send: Send
    lane: "Lane[Ready]"
    sent: bool = False


@dataclass(slots=True)
class Driven:
    """`record` is what is durable, `next` what it becomes if the append in flight is accepted."""

    definition: Definition
    record: RunRecord
    epoch: int
    commands: list[Asked] = field(default_factory=list[Asked])
    deciding: list[Asked] = field(default_factory=list[Asked])
    appending: bool = False
    releasing: bool = False
    dropped: bool = False
    calls: dict[CallKey, Ready] = field(default_factory=dict[CallKey, Ready])
    tasks: "set[asyncio.Task[None]]" = field(default_factory=set["asyncio.Task[None]"])
    wake: int | None = None

    @property
    def is_current(self) -> bool:
        """`record` is how the run stands: nobody else can have written since."""
        return not self.dropped or self.record.ended is not None

    @property
    def run(self) -> str:
        """The run's id."""
        return self.record.run
