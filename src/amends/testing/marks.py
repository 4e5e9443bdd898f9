"""Numbers for what worlds are made of, each worked out once per search.

Worlds share most of their parts: the same message is on its way in thousands of them. So equal parts are kept as one
object, and what a part looks like in a fingerprint is found by its identity. What is found like that is held on to, so
that no other part can ever come to have its identity.
"""

from typing import Final

from amends.core.keys import Phase
from amends.testing.fingerprint import OpenPhase, of_counts
from amends.testing.invariants import Effect
from amends.testing.moves import Answer, Flying, Request
from amends.testing.pretend import Row

Ledger = tuple[Effect, ...]
Message = Request | Answer
Open = frozenset[OpenPhase]

_NO_CALLS: Final = hash(frozenset[object]())


class Marks:
    """What is known of the parts of one setting's worlds."""

    def __init__(self) -> None:
        self._messages: dict[Message, Message] = {}
        self._rows: dict[Row, Row] = {}
        self._ledgers: dict[Ledger, Ledger] = {}
        self._of_messages: dict[tuple[int, int, Open], tuple[int, Message]] = {}
        self._of_rows: dict[tuple[int, int], tuple[int, Row]] = {}
        self._of_ledgers: dict[int, tuple[int, Ledger]] = {}
        self._of_calls: dict[tuple[tuple[Flying, ...], Open], int] = {}

    # -- equal parts are one object

    def message(self, message: Message) -> Message:
        """The one object for this message."""
        return self._messages.setdefault(message, message)

    def row(self, row: Row) -> Row:
        """The one object for this row."""
        return self._rows.setdefault(row, row)

    def ledger(self, ledger: Ledger) -> Ledger:
        """The one object for this ledger."""
        return self._ledgers.setdefault(ledger, ledger)

    # -- what matters of them

    def of_message(self, message: Message, age: int, is_open: Open) -> int:
        """Which attempt it is counts only while its phase is open."""
        key = (id(message), age, is_open)
        known = self._of_messages.get(key)
        if known is None:
            known = self._of_messages[key] = (hash(_message(message, age, is_open)), message)
        return known[0]

    def of_row(self, row: Row, older: int) -> int:
        """Of the epoch in it only how many of those that may still call it are earlier."""
        key = (id(row), older)
        known = self._of_rows.get(key)
        if known is None:
            what = (row.state, older, row.request, row.undo_request, row.reply, row.undone_by_hand)
            known = self._of_rows[key] = (hash(what), row)
        return known[0]

    def of_ledger(self, ledger: Ledger) -> int:
        """Acts and undos of each item, as one number."""
        known = self._of_ledgers.get(id(ledger))
        if known is None:
            counts: dict[tuple[str, str], int] = {}
            for effect in ledger:
                key = (effect.step, effect.item)
                counts[key] = counts.get(key, 0) + (1 if effect.did == "acted" else 1000)
            known = self._of_ledgers[id(ledger)] = (hash(of_counts(counts)), ledger)
        return known[0]

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
    if isinstance(message, Answer):
        key = (message.step, message.item, message.phase)
        return (age, key, message.attempt if key in is_open else 0, message.outcome)
    call = message.call
    key = (call.step, call.item, call.phase)
    attempt = message.attempt if key in is_open else 0
    return (age, key, attempt, message.guard, call.body, call.seal, bool(message.sent))
