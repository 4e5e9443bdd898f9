"""What an observer of the whole world writes down: what the log took, what was sent, and what really happened.

Some promises are about an order between the log and the wire ("nothing leaves before the log knows of it", "a call's
bytes never change"): those are checked here, at the moment itself. The rest is asked of the books at the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from amends.codecs.events import JsonEventCodec
from amends.core.run import events as e
from amends.core.words.keys import NOTICE, Phase
from amends.ports.log import Append, Start, StoredEvent, StoredRun
from amends.ports.transport import Outgoing
from amends.testing.broken import BrokenPromise
from amends.testing.invariants import Effect


@dataclass(slots=True)
class RunBook:
    """What is known of one run. `started`: its caller was told that it is durable."""

    stored: list[StoredEvent] = field(default_factory=list[StoredEvent])
    events: list[e.Event] = field(default_factory=list[e.Event])
    asked: set[tuple[str, str, Phase]] = field(default_factory=set[tuple[str, str, Phase]])
    sent: dict[str, tuple[bytes, int]] = field(default_factory=dict[str, tuple[bytes, int]])
    ledger: list[Effect] = field(default_factory=list[Effect])
    started: bool = False


_PLAIN: Final = (str, int, bytes, float, bool, type(None))

Trace: TypeAlias = list[tuple[object, ...]]
"""Everything that happened, in order."""


class SimulatedBooks:
    """The books of one world, by run."""

    def __init__(self, codec: JsonEventCodec, trace: Trace | None) -> None:
        self.runs: dict[str, RunBook] = {}
        self._codec = codec
        self._drivers: dict[tuple[str, int], int] = {}
        self._trace = trace
        self.wrong: BrokenPromise | None = None
        """The first promise that was seen to be broken. It is raised as well, but not all callers listen."""

    def of(self, run: str) -> RunBook:
        """The book of a run."""
        try:
            return self.runs[run]
        except KeyError:
            book = self.runs[run] = RunBook()
            return book

    def note(self, *what: object) -> None:
        """Add to the trace, if there is one; what isn't plain as its text, which takes long to write."""
        if self._trace is not None:
            self._trace.append(tuple([each if isinstance(each, _PLAIN) else str(each) for each in what]))

    def _broken(self, sentence: str) -> BrokenPromise:
        error = BrokenPromise(sentence)
        self.wrong = self.wrong or error
        return error

    def taken(self, now: int, process: int, entry: Start | Append) -> None:
        """The log has taken an entry, whether it says so or not."""
        book = self.of(entry.run)
        before = 0 if isinstance(entry, Start) else entry.expected
        if len(book.stored) < before:
            msg = f"the log is gapless: {entry.run} has {len(book.stored)} events, and the log took one after {before}"
            raise self._broken(msg)
        known = book.stored[before : before + len(entry.events)]
        if known and known != list(entry.events):
            msg = f"the log is append-only: {entry.run} has other events already after {before}"
            raise self._broken(msg)
        self._add(now, process, entry.run, book, entry.events[len(known) :])

    def found(self, now: int, process: int, row: StoredRun) -> None:
        """The log gives a run: all that it ever took is there, and perhaps what it took as its disk failed."""
        book = self.of(row.run)
        events = list(row.events)
        if len(events) != row.version or events[: len(book.stored)] != book.stored:
            msg = (
                f"P1 what the log took stays: {row.run} was given with {len(events)} events and version {row.version}, "
                f"and {len(book.stored)} had been taken"
            )
            raise self._broken(msg)
        self._add(now, process, row.run, book, events[len(book.stored) :])

    def _add(self, now: int, process: int, run: str, book: RunBook, events: Sequence[StoredEvent]) -> None:
        for stored in events:
            event = self._codec.decode(stored.kind, stored.body, stored.at, stored.epoch, run, len(book.stored) + 1)
            book.stored.append(stored)
            book.events.append(event)
            self._learn(book, event)
            self.note(now, "log", process, run, stored.kind, stored.epoch, stored.body)

    @staticmethod
    def _learn(book: RunBook, event: e.Event) -> None:
        match event:
            case e.ActionRequested(step=step, requests=requests):
                book.asked.update((step, each.item, Phase.ACTION) for each in requests)
            case e.CompensationRequested(step=step, item=item):
                book.asked.add((step, item, Phase.COMPENSATION))
            case e.SettleRequested(step=step, item=item, phase=phase):
                book.asked.add((step, item, phase))
            case e.NoticeRequested():
                book.asked.add((NOTICE, "", Phase.ACTION))
            case _:
                pass

    def sends(self, now: int, process: int, call: Outgoing) -> None:
        """A call leaves: it must be the one that the log knows, from the one process that drives the run."""
        book = self.of(call.run)
        self.note(now, "send", process, call.key, call.attempt, call.epoch, call.body)
        if (call.step, call.item, call.phase) not in book.asked:
            msg = f"P1 nothing leaves before the log knows of it: {call.key} was sent, and the log hasn't asked for it"
            raise self._broken(msg)
        now_sent = (call.body, call.since)
        if book.sent.setdefault(call.key, now_sent) != now_sent:
            msg = f"P6 same key, same bytes: {call.key} was sent with {book.sent[call.key]} and with {now_sent}"
            raise self._broken(msg)
        driver = self._drivers.setdefault((call.run, call.epoch), process)
        if driver != process:
            msg = (
                f"P7 one owner at a time: processes {driver} and {process} both drive {call.run} as epoch {call.epoch}"
            )
            raise self._broken(msg)

    def happened(self, now: int, run: str, effect: Effect) -> None:
        """Something was really done, or undone."""
        self.of(run).ledger.append(effect)
        self.note(now, "effect", run, effect)
