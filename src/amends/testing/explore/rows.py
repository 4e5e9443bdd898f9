"""What participants keep of a run, as a value: equal ones are one object, and what they answer is worked out once."""

from typing import Final, NamedTuple

from amends.core.words.keys import Phase
from amends.core.words.retry import Guard
from amends.testing.explore.marks import Marks
from amends.testing.explore.moves import AnswerOnWay, RequestOnWay
from amends.testing.explore.participants import Answers, Barrier, Did, Naive, PaperAnswer, PaperRow, State, Wants
from amends.testing.explore.wire import MessagesOnWay

Vertex = tuple[str, str]

UNFINISHED: Final = frozenset({State.PENDING, State.COMPENSATING})
"""Rows with work that was taken on and isn't over."""

_MAY_BE_UNDONE: Final = frozenset({State.SUCCEEDED, State.PENDING, State.COMPENSATING})
"""Rows whose epoch still decides something: whether an undo comes from an owner that is out of date."""


class CallResult(NamedTuple):
    """What came of a call: what is kept after it, the answer on its way, and what really happened."""

    rows: "Rows"
    answer: AnswerOnWay
    did: Did


class Rows(dict[Vertex, PaperRow]):
    """The rows of all participants. Never changed: what follows from a call is another one.

    `unfinished`: some hold work that isn't over. `newest`: the latest epoch that an undo may still be held against.
    """

    __slots__ = ("_all", "_known", "_mark", "_marks", "newest", "unfinished")

    def __init__(self, every: "EveryRows", rows: dict[Vertex, PaperRow]) -> None:
        super().__init__(rows)
        self._all = every
        self._known: dict[object, CallResult] = {}
        self._marks: dict[tuple[int, int], int] = {}
        self.unfinished = any(row.state in UNFINISHED for row in rows.values())
        self.newest = max((row.epoch for row in rows.values() if row.state in _MAY_BE_UNDONE), default=0)
        self._mark = sum(self._mark_of(vertex, row, 0) for vertex, row in rows.items())

    def told(self, request: RequestOnWay, wants: Wants, answers: Answers, guard: Guard) -> CallResult:
        """What becomes of a call. `guard`: how its participant goes about repeats."""
        key = (id(request), wants, answers.reply)
        known = self._known.get(key)
        if known is None:
            call = request.call
            vertex = (call.step, call.item)
            if guard is Guard.BARRIER:
                said = Barrier.answer(self.get(vertex), call, wants, answers)
            else:
                said = Naive.answer(self.get(vertex), call, wants, answers, guard)
            answer = AnswerOnWay(request.epoch, request.attempt, call.step, call.item, call.phase, said.outcome)
            # The call is kept in `Marks`, where its answer goes as well: its identity stays its own.
            self._all.marks.message(request)
            known = self._known[key] = self._after(vertex, said, answer)
        return known

    def finished(self, vertex: Vertex, phase: Phase, wants: Wants, answers: Answers, guard: Guard) -> CallResult:
        """Work that was taken on in this phase is over: what is posted to the callback."""
        key = (vertex, phase, wants, answers.reply)
        known = self._known.get(key)
        if known is None:
            said = (Barrier if guard is Guard.BARRIER else Naive).finish(self[vertex], phase, wants, answers)
            assert said is not None, f"{vertex} isn't pending in phase {phase}"
            known = self._known[key] = self._after(vertex, said, AnswerOnWay(0, 0, *vertex, phase, said.outcome))
        return known

    def _after(self, vertex: Vertex, said: PaperAnswer, answer: AnswerOnWay) -> CallResult:
        rows = self if said.row == self.get(vertex) else self.with_row(vertex, said.row)
        return CallResult(rows, self._all.marks.message(answer), said.did)

    def with_row(self, vertex: Vertex, row: PaperRow | None) -> "Rows":
        """With another row in the place of one; `None`: with none."""
        rows = dict(self)
        if row is None:
            rows.pop(vertex, None)
        else:
            rows[vertex] = row
        return self._all.one(rows)

    def mark(self, wire: MessagesOnWay, alive: int, readers: int) -> int:
        """What matters of them: of the epoch in a row only which undos that may still come are older.

        `alive`, `readers`: epochs that are alive at all, and of processes that may still send, as bits.
        """
        newest = self.newest
        if not alive & ((1 << newest) - 1):
            return self._mark
        key = (id(wire), readers)
        known = self._marks.get(key)
        if known is None:
            known = self._marks[key] = self._mark_among(wire, readers)
        return known

    def _mark_among(self, wire: MessagesOnWay, late: int) -> int:
        newest = self.newest
        found: dict[Vertex, int] = {}
        for each in wire.requests:
            if each.call.phase is Phase.COMPENSATION and each.epoch < newest:
                vertex = (each.call.step, each.call.item)
                found[vertex] = found.get(vertex, 0) | 1 << each.epoch
        if not found and not late & ((1 << newest) - 1):
            return self._mark
        mark = 0
        for vertex, row in self.items():
            older = 0
            if row.state in _MAY_BE_UNDONE:
                older = ((late | found.get(vertex, 0)) & ((1 << row.epoch) - 1)).bit_count()
            mark += self._mark_of(vertex, row, older)
        return mark

    def _mark_of(self, vertex: Vertex, row: PaperRow, older: int) -> int:
        what = (vertex, row.state, older, row.request, row.undo_request, row.reply, row.undone_by_hand)
        return self._all.marks.number(what)


class EveryRows:
    """All that participants of one setting ever keep, each once."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self._all: dict[frozenset[tuple[Vertex, PaperRow]], Rows] = {}

    def one(self, rows: dict[Vertex, PaperRow]) -> Rows:
        """The one object for these rows."""
        key = frozenset(rows.items())
        known = self._all.get(key)
        if known is None:
            known = self._all[key] = Rows(self, rows)
        return known
