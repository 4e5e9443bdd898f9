"""A moment of one run, as a value: the log, its drivers, what is under way, what participants keep, what happened."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

from amends.core.run import events as e
from amends.core.run.definition import Definition
from amends.core.run.record import RunRecord
from amends.core.words.keys import Phase
from amends.core.words.retry import Guard
from amends.testing.explore.drive import Drive, Drives, owes_notice
from amends.testing.explore.fingerprint import LATE_AFTER, ranks
from amends.testing.explore.given import Given
from amends.testing.explore.history import RunHistory, net_of
from amends.testing.explore.marks import Marks
from amends.testing.explore.moves import USUAL_FAULTS, Budget, FaultKind, Flying, PaperProcess, RequestOnWay, is_of
from amends.testing.explore.participants import Naive
from amends.testing.explore.people import Sight
from amends.testing.explore.rows import EveryRows, Rows
from amends.testing.explore.wire import EveryWire, MessagesOnWay
from amends.testing.invariants import Effect, Evidence


@dataclass(frozen=True)
class WorldSetup:
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

    @cached_property
    def drives(self) -> Drives:
        """The drivers of its run, in all its worlds."""
        return Drives(self.marks)

    @cached_property
    def wires(self) -> EveryWire:
        """What is on its way, in all its worlds."""
        return EveryWire(self.marks)

    @cached_property
    def rows(self) -> EveryRows:
        """What its participants keep, in all its worlds."""
        return EveryRows(self.marks)

    def keeps_contract(self, guard: Guard) -> bool:
        """Whether calls that were promised this are answered by a service with a barrier."""
        return guard is self.services is Guard.BARRIER

    def does_under(self, guard: Guard) -> Guard:
        """What a service that was promised to be like this does about repeats."""
        return self.services if guard is Guard.BARRIER else guard


class Moment:
    """A moment of one run. Treat it as frozen."""

    __slots__ = (
        "budget",
        "cancelled",
        "drive",
        "ledger",
        "rows",
        "sent",
        "setup",
        "wire",
        "wrong",
    )

    drive: Drive

    def __init__(self, setup: WorldSetup) -> None:
        self.setup = setup
        self.wire: MessagesOnWay = setup.wires.one(())
        self.rows: Rows = setup.rows.one({})
        self.ledger: tuple[Effect, ...] = setup.marks.ledger(())
        self.sent: dict[tuple[str, str, Phase], tuple[bytes, int]] = {}
        self.budget = setup.budget
        self.cancelled = 0
        self.wrong: str | None = None

    def copy(self) -> Self:
        """Another one, the same so far."""
        new = object.__new__(type(self))
        new.setup = self.setup
        new.drive = self.drive
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
    def history(self) -> RunHistory:
        """What was decided so far."""
        return self.drive.history

    @property
    def processes(self) -> tuple[PaperProcess, ...]:
        """Those that drive the run, or drove it; the owner last."""
        return self.drive.processes

    @property
    def now(self) -> int:
        """The time."""
        return self.drive.now

    @property
    def epoch(self) -> int:
        """The latest owner's."""
        return self.drive.epoch

    @property
    def record(self) -> RunRecord:
        """Where the run stands, by its log."""
        return self.drive.history.record

    @property
    def events(self) -> tuple[e.Event, ...]:
        """The log."""
        return self.drive.history.events

    @property
    def evidence(self) -> Evidence:
        """What the promises are asked of."""
        return self.history.evidence(self.ledger)

    @property
    def owner(self) -> PaperProcess | None:
        """The process that drives the run, if it lives."""
        return self.drive.owner

    def broken(self, *, quiet: bool = False) -> str | None:
        """The first promise this world breaks."""
        return self.wrong or self.drive.history.broken(self.ledger, quiet=quiet)

    def print(self) -> int:
        """Equal for worlds whose futures are the same, as far as they can be told apart, but for what may still go
        wrong in them. `amends.testing.explore.fingerprint` says what is left out, and why.
        """
        drive, wire, setup = self.drive, self.wire, self.setup
        alive = drive.alive | wire.alive
        head = drive.head(alive)
        times: tuple[int, ...] = ()
        if setup.marks.unguarded:
            late = [each.sent + LATE_AFTER for each in wire if isinstance(each, RequestOnWay) and each.sent]
            times = ranks([*head.moments, *late], drive.now) if late else ()
        return hash(
            (
                head.mark,
                self.cancelled,
                self.rows.mark(wire, alive, drive.readers),
                wire.mark(head.view),
                setup.marks.of_ledger(self.ledger),
                times,
            )
        )

    def under_way(self, process: PaperProcess, flying: Flying) -> bool:
        """Whether a message of this call is on its way."""
        return any(is_of(each, process.epoch, flying) for each in self.wire)

    def guard_of(self, vertex: tuple[str, str]) -> Guard:
        """What was promised about repeats of this item's calls."""
        item = self.record.item(*vertex)
        return Guard.BARRIER if item is None else item.guard

    def owes_notice(self) -> bool:
        """Whether a completion notification is still due."""
        return owes_notice(self.record)

    def to_cancel(self) -> bool:
        """Whether it is time for what the story gives: a person asks the run to turn back after a step is done."""
        after = self.setup.given.cancelled_after
        if not after:
            return False
        succeeded = {event.step for event in self.events if isinstance(event, e.ActionSucceeded)}
        done = sum(step in succeeded for step in after)
        return self.cancelled < done

    def sight(self) -> Sight:
        """What a person sees with a look into everything."""
        setup = self.setup
        return Sight(setup.definition, self.record, net_of(self.ledger), self.copies(), setup.given)

    def copies(self) -> frozenset[tuple[str, str]]:
        """Items that an unguarded call is under way for, or whose service hasn't done yet what it took on."""
        flying = {
            (each.call.step, each.call.item)
            for each in self.wire
            if isinstance(each, RequestOnWay) and each.guard is not Guard.BARRIER
        }
        taken_on = {
            key for key, row in self.rows.items() if self.guard_of(key) is not Guard.BARRIER and Naive.can_finish(row)
        }
        return frozenset(flying | taken_on)
