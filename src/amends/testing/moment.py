"""A moment of one run, as a value: the log, who drives it, what is under way, what participants keep, what happened."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

from amends.core import events as e
from amends.core.definition import Definition
from amends.core.keys import Phase
from amends.core.retry import Guard
from amends.core.state import RunRecord
from amends.testing.fingerprint import LATE_AFTER, ranks
from amends.testing.given import Given
from amends.testing.history import History, net_of
from amends.testing.invariants import Effect, Evidence
from amends.testing.marks import Marks
from amends.testing.moves import USUAL_FAULTS, Answer, Budget, FaultKind, Flying, Process, Request, is_of
from amends.testing.people import Sight
from amends.testing.pretend import Naive, Row


@dataclass(frozen=True)
class Setup:
    """What doesn't change in a world. `kinds`: which faults are tried. `services`: what the services really do, where
    the saga was promised a barrier.
    """

    given: Given
    budget: Budget
    kinds: frozenset[FaultKind] = USUAL_FAULTS
    services: Guard = Guard.BARRIER

    @cached_property
    def definition(self) -> Definition:
        """The saga, loaded."""
        return self.given.definition

    @cached_property
    def marks(self) -> Marks:
        """What is known of the parts of its worlds."""
        return Marks()

    def keeps_contract(self, guard: Guard) -> bool:
        """Whether calls that were promised this are answered by a service with a barrier."""
        return guard is Guard.BARRIER and self.services is Guard.BARRIER

    def does_under(self, guard: Guard) -> Guard:
        """What a service without a barrier does about repeats."""
        return self.services if guard is Guard.BARRIER else guard


class Moment:
    """A moment of one run. Treat it as frozen."""

    __slots__ = (
        "budget",
        "cancelled",
        "epoch",
        "history",
        "ledger",
        "now",
        "processes",
        "rows",
        "sent",
        "setup",
        "wire",
        "wrong",
    )

    epoch: int
    history: History

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.now = 0
        self.epoch = 0
        self.processes: tuple[Process, ...] = ()
        self.wire: tuple[Request | Answer, ...] = ()
        self.rows: dict[tuple[str, str], Row] = {}
        self.ledger: tuple[Effect, ...] = ()
        self.sent: dict[tuple[str, str, Phase], tuple[bytes, int]] = {}
        self.budget = setup.budget
        self.cancelled = 0
        self.wrong: str | None = None

    def copy(self) -> Self:
        """Another one, the same so far."""
        new = object.__new__(type(self))
        new.setup = self.setup
        new.now = self.now
        new.epoch = self.epoch
        new.history = self.history
        new.processes = self.processes
        new.wire = self.wire
        new.rows = self.rows
        new.ledger = self.ledger
        new.sent = self.sent
        new.budget = self.budget
        new.cancelled = self.cancelled
        new.wrong = None
        return new

    # -- what can be said of it

    @property
    def record(self) -> RunRecord:
        """Where the run stands, by its log."""
        return self.history.record

    @property
    def events(self) -> tuple[e.Event, ...]:
        """The log."""
        return self.history.events

    @property
    def evidence(self) -> Evidence:
        """What the promises are asked of."""
        return self.history.evidence(self.ledger)

    @property
    def owner(self) -> Process | None:
        """The process that drives the run, if it lives."""
        last = self.processes[-1] if self.processes else None
        return last if last is not None and last.epoch == self.epoch and last.seen is not None else None

    def broken(self, *, quiet: bool = False) -> str | None:
        """The first promise this world breaks."""
        return self.wrong or self.history.broken(self.ledger, quiet=quiet)

    def print(self) -> int:
        """Equal for worlds whose futures are the same, as far as anybody can tell them apart, but for what may still go
        wrong in them. `amends.testing.fingerprint` says what is left out, and why.
        """
        marks, history, wire = self.setup.marks, self.history, self.wire
        head = history.shape(self.epoch)
        is_open = head.open
        epochs = {each.epoch for each in wire}
        epochs.add(self.epoch)
        epochs.update([each.epoch for each in self.processes])
        alive = sorted(epochs)
        age = {epoch: n for n, epoch in enumerate(alive)}
        moments = list(head.moments)
        processes: list[object] = []
        for epoch, seen, flying in self.processes:
            if seen is None or seen is history:
                knows: int | bool = seen is None
            else:
                shape = seen.shape(epoch)
                moments += shape.moments
                knows = shape.mark
            processes += (age[epoch], marks.of_calls(flying, is_open), knows)
        moments += [each.sent + LATE_AFTER for each in wire if isinstance(each, Request) and each.sent]
        oldest = alive[0]
        rows = [
            (vertex, marks.of_row(row, sum([epoch < row.epoch for epoch in alive]) if oldest < row.epoch else 0))
            for vertex, row in self.rows.items()
        ]
        return hash(
            (
                head.mark,
                tuple(processes),
                age[self.epoch],
                self.cancelled,
                frozenset(rows),
                tuple(sorted([marks.of_message(each, age[each.epoch], is_open) for each in wire])),
                marks.of_ledger(self.ledger),
                ranks(moments, self.now) if moments else (),
            )
        )

    def stale_sends(self, process: Process) -> bool:
        """Whether a process that doesn't own the run any more, and doesn't know, has something to send."""
        if process.seen is None:
            return False
        sends = process.seen.owed(self.now, process.epoch).sends
        if not sends:
            return False
        flying = {each[:3] for each in process.flying}
        return any((each.step, each.item, each.phase) not in flying for each in sends)

    def under_way(self, process: Process, flying: Flying) -> bool:
        """Whether a message of this call is on its way."""
        return any(is_of(each, process.epoch, flying) for each in self.wire)

    def guard_of(self, vertex: tuple[str, str]) -> Guard:
        """What was promised about repeats of this item's calls."""
        item = self.record.item(*vertex)
        return Guard.BARRIER if item is None else item.guard

    def owes_notice(self) -> bool:
        """Whether somebody is still to be told how it ended."""
        notice = self.record.notice
        return notice is not None and notice.due is not None and not self.record.notice_delivered

    def to_cancel(self) -> bool:
        """Whether it is time for what the story gives: somebody asks the run to turn back after a step is done."""
        after = self.setup.given.cancelled_after
        if not after:
            return False
        succeeded = {event.step for event in self.events if isinstance(event, e.ActionSucceeded)}
        done = sum(step in succeeded for step in after)
        return self.cancelled < done

    def sight(self) -> Sight:
        """What somebody sees who looks into everything."""
        setup = self.setup
        return Sight(setup.definition, self.record, net_of(self.ledger), self.copies(), setup.given)

    def copies(self) -> frozenset[tuple[str, str]]:
        """Items that an unguarded call is under way for, or whose service hasn't done yet what it took on."""
        flying = {
            (each.call.step, each.call.item)
            for each in self.wire
            if isinstance(each, Request) and each.guard is not Guard.BARRIER
        }
        taken_on = {
            key for key, row in self.rows.items() if self.guard_of(key) is not Guard.BARRIER and Naive.can_finish(row)
        }
        return frozenset(flying | taken_on)
