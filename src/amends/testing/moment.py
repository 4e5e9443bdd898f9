"""A moment of one run, as a value: the log, who drives it, what is under way, what participants keep, what happened."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from amends.core import events as e
from amends.core.definition import Definition
from amends.core.keys import Phase
from amends.core.owed import owed
from amends.core.retry import Guard
from amends.core.state import RunRecord
from amends.testing.fingerprint import LATE_AFTER, of_counts, of_record, ranks
from amends.testing.invariants import Effect, Evidence, broken
from amends.testing.moves import Answer, Budget, Flying, Process, Request, is_of
from amends.testing.pretend import Naive, Row

FAULTS: Final = frozenset({"timed-out", "duplicate", "not-sent", "misrouted", "halt", "fails"})
"""Every kind of fault there is."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What doesn't change in a world. `may_wait`: steps whose service may take work on and answer later. `faults`:
    which kinds are tried. `replies`: what a step's action gives, as JSON.
    """

    definition: Definition
    input: bytes
    budget: Budget
    may_wait: frozenset[str] = frozenset()
    replies: Mapping[str, bytes] | None = None
    deadline: int | None = None
    faults: frozenset[str] = frozenset({"timed-out", "duplicate"})

    def reply(self, step: str) -> bytes:
        """What a step's action gives."""
        return (self.replies or {}).get(step, b'{"id":"' + step.encode() + b'"}')


class Moment:
    """A moment of one run. Treat it as frozen."""

    __slots__ = (
        "budget",
        "epoch",
        "events",
        "ledger",
        "now",
        "processes",
        "record",
        "rows",
        "sent",
        "setup",
        "wire",
        "wrong",
    )

    epoch: int
    record: RunRecord

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.now = 0
        self.epoch = 0
        self.events: tuple[e.Event, ...] = ()
        self.processes: tuple[Process, ...] = ()
        self.wire: tuple[Request | Answer, ...] = ()
        self.rows: dict[tuple[str, str], Row] = {}
        self.ledger: tuple[Effect, ...] = ()
        self.sent: dict[tuple[str, str, Phase], tuple[bytes, int]] = {}
        self.budget = setup.budget
        self.wrong: str | None = None

    def copy(self) -> Self:
        """Another one, the same so far."""
        new = object.__new__(type(self))
        new.setup = self.setup
        new.now = self.now
        new.epoch = self.epoch
        new.record = self.record
        new.events = self.events
        new.processes = self.processes
        new.wire = self.wire
        new.rows = self.rows
        new.ledger = self.ledger
        new.sent = self.sent
        new.budget = self.budget
        new.wrong = None
        return new

    # -- what can be said of it

    @property
    def evidence(self) -> Evidence:
        """What the promises are asked of."""
        return Evidence(self.setup.definition, self.events, self.ledger, self.record)

    @property
    def owner(self) -> Process | None:
        """The process that drives the run, if it lives."""
        last = self.processes[-1] if self.processes else None
        return last if last is not None and last.epoch == self.epoch and last.seen is not None else None

    def broken(self, *, quiet: bool = False) -> str | None:
        """The first promise this world breaks."""
        return self.wrong or broken(self.evidence, quiet=quiet)

    def print(self) -> int:
        """Equal for worlds whose futures are the same, as far as anybody can tell them apart."""
        moments: list[int] = []
        now, head = self.now, self.record
        record = of_record(head, moments)
        processes = tuple(
            [
                (
                    each.epoch,
                    each.flying,
                    0 if each.seen is head else 1 if each.seen is None else of_record(each.seen, moments),
                )
                for each in self.processes
            ]
        )
        moments += [each.sent + LATE_AFTER for each in self.wire if isinstance(each, Request) and each.sent]
        return hash(
            (
                record,
                processes,
                self.epoch,
                frozenset(self.rows.items()),
                tuple(sorted([hash(each) for each in self.wire])),
                of_counts(self._counts()),
                self.budget,
                ranks(moments, now),
            )
        )

    def _counts(self) -> dict[tuple[str, str], int]:
        """Acts and undos of each item, as one number."""
        counts: dict[tuple[str, str], int] = {}
        for effect in self.ledger:
            key = (effect.step, effect.item)
            counts[key] = counts.get(key, 0) + (1 if effect.did == "acted" else 1000)
        return counts

    def stale_sends(self, process: Process) -> bool:
        """Whether a process that doesn't own the run any more, and doesn't know, has something to send."""
        if process.seen is None:
            return False
        sends = owed(self.setup.definition, process.seen, self.now, process.epoch).sends
        flying = {each[:3] for each in process.flying}
        return any((each.step, each.item, each.phase) not in flying for each in sends)

    def under_way(self, process: Process, flying: Flying) -> bool:
        """Whether a message of this call is on its way."""
        return any(is_of(each, process.epoch, flying) for each in self.wire)

    def behind_barrier(self, vertex: tuple[str, str]) -> bool:
        """Whether a barrier protects this item's calls."""
        item = self.record.item(*vertex)
        return item is None or item.behind_barrier

    def owes_notice(self) -> bool:
        """Whether somebody is still to be told how it ended."""
        notice = self.record.notice
        return notice is not None and notice.due is not None and not self.record.notice_delivered

    def copies(self) -> frozenset[tuple[str, str]]:
        """Items that an unguarded call is under way for, or whose service hasn't done yet what it took on."""
        flying = {
            (each.call.step, each.call.item)
            for each in self.wire
            if isinstance(each, Request) and each.guard is not Guard.BARRIER
        }
        taken_on = {key for key, row in self.rows.items() if not self.behind_barrier(key) and Naive.can_finish(row)}
        return frozenset(flying | taken_on)
