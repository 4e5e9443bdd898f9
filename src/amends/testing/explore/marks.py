"""Parts of worlds, each once, and numbers for what matters of them.

Worlds share most of their parts: the same message is on its way in thousands of them. So equal parts are kept as one
object, and what there is to know of one is found by its identity. Whatever is kept here is held on to, so that no other
part can ever come to have its identity.

Numbers of things whose order makes no difference are added up. So they are drawn, each for itself: hashes of what is
alike differ in like ways, and their sums would meet.
"""

from random import Random
from typing import Final, TypeVar

from amends.core.run.answers import Cause
from amends.core.words.keys import Phase
from amends.testing.explore.fingerprint import OpenPhase, of_counts
from amends.testing.explore.moves import AnswerOnWay, FaultKind, Flying, Message, Move, RequestOnWay
from amends.testing.explore.participants import Wants
from amends.testing.invariants import Effect

M = TypeVar("M", bound=Message)

Ledger = tuple[Effect, ...]
Open = frozenset[OpenPhase]

_NO_CALLS: Final = hash(frozenset[object]())


class View:
    """What matters of messages while certain epochs are alive and certain phases open."""

    def __init__(self, marks: "Marks", alive: int, is_open: Open) -> None:
        self._marks = marks
        self._alive = alive
        self._is_open = is_open
        self._of_messages: dict[int, int] = {}

    def age(self, epoch: int) -> int:
        """How many of those that are alive are older."""
        return (self._alive & ((1 << epoch) - 1)).bit_count()

    def of_messages(self, messages: tuple[Message, ...]) -> int:
        """All of these, in any order. Each must be kept in `Marks`."""
        known = self._of_messages
        for each in messages:
            if id(each) not in known:
                known[id(each)] = self._marks.number(_message(each, self.age(each.epoch), self._is_open))
        return sum([known[id(each)] for each in messages])


class Marks:
    """The parts of one setting's worlds."""

    def __init__(self) -> None:
        self.unguarded = False
        """Whether a call ever left that no barrier protects, so that time makes a difference to what is on its way."""
        self._dice = Random(0)  # noqa: S311 - numbers that differ, nothing is kept secret by them
        self._numbers: dict[object, int] = {}
        self._messages: dict[Message, Message] = {}
        self._places: dict[int, int] = {}
        self._moves: dict[tuple[object, ...], Move] = {}
        self._deadly: dict[int, tuple[Move, Move]] = {}
        self._ledgers: dict[Ledger, Ledger] = {}
        self._longer: dict[tuple[int, str, str, str, bool], Ledger] = {}
        self._of_ledgers: dict[int, int] = {}
        self._of_calls: dict[tuple[tuple[Flying, ...], Open], int] = {}
        self._views: dict[tuple[int, Open], View] = {}

    def number(self, what: object) -> int:
        """A number of its own, that nothing else is likely to have."""
        known = self._numbers.get(what)
        if known is None:
            known = self._numbers[what] = self._dice.getrandbits(64)
        return known

    # -- messages

    def message(self, message: M) -> M:
        """The one object for this message."""
        known = self._messages.get(message)
        if known is None:
            self._messages[message] = message
            self._places[id(message)] = len(self._places)
            self.unguarded = self.unguarded or (isinstance(message, RequestOnWay) and bool(message.sent))
            return message
        assert isinstance(known, type(message))
        return known

    def place(self, message: Message) -> int:
        """How many other messages there were before this one, which is kept here."""
        return self._places[id(message)]

    # -- moves, of which a search holds very many that are alike

    def arrival(
        self, request: RequestOnWay, wants: Wants = Wants.YES, *, again: bool = False, costs: FaultKind | None = None
    ) -> Move:
        """That a call arrives, and what comes of it."""
        key = (id(request), wants, again, costs)
        known = self._moves.get(key)
        if known is None:
            known = self._moves[key] = Move("deliver", self.message(request), wants, again=again, costs=costs)
        return known

    def hearing(self, answer: AnswerOnWay, *, again: bool = False, costs: FaultKind | None = None) -> Move:
        """That an answer arrives."""
        key = (id(answer), None, again, costs)
        known = self._moves.get(key)
        if known is None:
            known = self._moves[key] = Move("receive", self.message(answer), again=again, costs=costs)
        return known

    def end(self, epoch: int, flying: Flying, cause: Cause, costs: FaultKind | None, kind: str = "lose") -> Move:
        """That a call ends before its answer is there."""
        key = (epoch, flying, cause, costs)
        known = self._moves.get(key)
        if known is None:
            known = self._moves[key] = Move(kind, epoch=epoch, flying=flying, cause=cause, costs=costs)
        return known

    def deadly(self, move: Move) -> Move:
        """The same, and the owner dies of it. The move is held on to."""
        known = self._deadly.get(id(move))
        if known is None:
            known = self._deadly[id(move)] = (move._replace(dies=True, ends_process=True), move)
        return known[0]

    # -- views

    def view(self, alive: int, is_open: Open) -> View:
        """What matters while these epochs are alive, a bit for each, and these phases open."""
        known = self._views.get((alive, is_open))
        if known is None:
            known = self._views[alive, is_open] = View(self, alive, is_open)
        return known

    # -- what really happened

    def ledger(self, ledger: Ledger) -> Ledger:
        """The one object for this ledger."""
        return self._ledgers.setdefault(ledger, ledger)

    def longer(self, ledger: Ledger, effect: Effect) -> Ledger:
        """The one object for this ledger and an effect more."""
        key = (id(ledger), effect.step, effect.item, effect.did, effect.by_hand)
        known = self._longer.get(key)
        if known is None:
            known = self._longer[key] = self.ledger((*self.ledger(ledger), effect))
        return known

    def of_ledger(self, ledger: Ledger) -> int:
        """Acts and undos of each item, as one number."""
        known = self._of_ledgers.get(id(ledger))
        if known is None:
            counts: dict[tuple[str, str], int] = {}
            for effect in self.ledger(ledger):
                key = (effect.step, effect.item)
                counts[key] = counts.get(key, 0) + (1 if effect.did == "acted" else 1000)
            known = self._of_ledgers[id(ledger)] = hash(of_counts(counts))
        return known

    # -- calls

    def of_calls(self, flying: tuple[Flying, ...], is_open: Open) -> int:
        """The calls that a process waits for: which attempt each is counts only while attempts do."""
        if not flying:
            return _NO_CALLS
        key = (flying, is_open)
        known = self._of_calls.get(key)
        if known is None:
            calls = frozenset([(each[:3], each.attempt if each[:3] in is_open else 0) for each in flying])
            known = self._of_calls[key] = hash(calls)
        return known


def _message(message: Message, age: int, is_open: Open) -> tuple[object, ...]:
    key: tuple[str, str, Phase]
    if isinstance(message, AnswerOnWay):
        key = (message.step, message.item, message.phase)
        return (age, key, message.attempt if key in is_open else 0, message.outcome)
    call = message.call
    key = (call.step, call.item, call.phase)
    attempt = message.attempt if key in is_open else 0
    return (age, key, attempt, message.guard, call.body, call.seal, bool(message.sent))
