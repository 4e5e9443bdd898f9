"""What was decided so far, as a tree: every decision is made once, however many worlds go through it.

Worlds differ in what is on its way far more often than in what the log holds, so they share histories. A history
knows what follows from a command, what it owes, what of it still makes a difference, and which promise it breaks; each
is worked out once. Histories never change.
"""

from collections.abc import Mapping
from dataclasses import replace

from amends.core.run import events as e
from amends.core.run.answers import NULL
from amends.core.run.commands import Command, Refusal, StartRun
from amends.core.run.decide import decide, start
from amends.core.run.definition import Definition
from amends.core.run.owed import Owed, owed
from amends.core.run.record import RunRecord
from amends.testing.explore.fingerprint import Shape, shape_of
from amends.testing.explore.given import Given
from amends.testing.explore.participants import Answers
from amends.testing.invariants import WELL, Effect, Evidence, broken


class RunHistory:
    """The events of one run up to a moment, and the record they fold to."""

    __slots__ = ("_after", "_answers", "_broken", "_due", "_owed", "_shapes", "_told", "definition", "events", "record")

    def __init__(self, definition: Definition, events: tuple[e.Event, ...], record: RunRecord) -> None:
        self.definition = definition
        self.events = events
        self.record = record
        self._shapes: dict[int, Shape] = {}
        self._after: dict[Command, RunHistory | Refusal] = {}
        self._owed: dict[tuple[int, int], Owed] = {}
        self._broken: dict[int, tuple[str | None, tuple[Effect, ...]]] = {}
        self._told: Mapping[object, str | None] = {}
        self._answers: dict[tuple[str, str], Answers] = {}
        self._due: dict[int, RunHistory] | None = None

    @classmethod
    def begin(cls, definition: Definition, command: StartRun) -> "RunHistory":
        """The history right after the start was acknowledged."""
        started = start(definition, command)
        return cls(definition, started.events, started.record)

    def after(self, command: Command) -> "RunHistory | Refusal":
        """What the log holds after a command; this very history where nothing follows from it."""
        known = self._after.get(command)
        if known is None:
            decision = decide(self.definition, self.record, command)
            if isinstance(decision, Refusal):
                known = decision
            elif not decision.events:
                known = self
            else:
                known = RunHistory(self.definition, (*self.events, *decision.events), decision.record)
            self._after[command] = known
        return known

    def due_at(self, moment: int) -> "RunHistory":
        """The same run, had its deadline been at this moment. Nothing looks at a deadline before it has come."""
        if self._due is None:
            self._due = {}
        known = self._due.get(moment)
        if known is None:
            started = self.events[0]
            assert isinstance(started, e.RunStarted)
            record = self.record.copy()
            record.deadline = moment
            known = RunHistory(self.definition, (replace(started, deadline=moment), *self.events[1:]), record)
            self._due[moment] = known
        return known

    def shape(self, epoch: int) -> Shape:
        """What of it still makes a difference to the run's driver under this epoch."""
        known = self._shapes.get(epoch)
        if known is None:
            known = self._shapes[epoch] = shape_of(self.record, epoch)
        return known

    def owed(self, now: int, epoch: int) -> Owed:
        """What a process of this epoch owes by now, as far as it has read."""
        known = self._owed.get((now, epoch))
        if known is None:
            known = self._owed[now, epoch] = owed(self.definition, self.record, now, epoch)
        return known

    def evidence(self, ledger: tuple[Effect, ...]) -> Evidence:
        """What the promises are asked of."""
        return Evidence(self.definition, self.events, ledger, self.record, self._told)

    def broken(self, ledger: tuple[Effect, ...], *, quiet: bool = False) -> str | None:
        """The first promise that is broken, given what really happened. `quiet`: nothing moves any more."""
        if quiet:
            return broken(self.evidence(ledger), quiet=True)
        known = self._broken.get(id(ledger))
        if known is None:
            sentence = broken(self.evidence(ledger))
            known = self._broken[id(ledger)] = (sentence, ledger)
            if sentence is None:
                self._told = WELL
        return known[0]

    def answers(self, vertex: tuple[str, str], given: Given) -> Answers:
        """What a step's service says, where it says anything. There is one `given` for a history."""
        known = self._answers.get(vertex)
        if known is None:
            item = self.record.item(*vertex)
            reply = NULL if item is None else given.reply(self.record, item)
            known = self._answers[vertex] = Answers(reply, given.no(vertex[0]))
        return known


Net = Mapping[tuple[str, str], int]
"""How often each item acted and wasn't undone."""


def net_of(ledger: tuple[Effect, ...]) -> dict[tuple[str, str], int]:
    """What is left of each item's effects."""
    counts: dict[tuple[str, str], int] = {}
    for effect in ledger:
        key = (effect.step, effect.item)
        counts[key] = counts.get(key, 0) + (1 if effect.did == "acted" else -1)
    return counts
