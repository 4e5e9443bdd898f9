"""The barrier: repeated, empty and late calls are settled inside the service's own transaction.

Each phase is one transaction, written here once as a generator that yields steps; `amends.participant.driver`
performs them on an inbox, blocking or awaited. Rules of this file:

* The insert comes first. A concurrent twin makes it wait, so what `lock` reads afterwards is settled.
* A generator never commits. It returns a `Verdict`; the word of the contract is put on the answer after the commit
  returned.
* Where the table says "roll back everything", the verdict isn't committed and the row was never there.
* Errors of business code other than the contract's own never reach this file: the driver ends the transaction.
* The fence: business code isn't run on a row that a later owner of the run has written. What was done is replayed to
  any caller: that changes nothing.

    state          action            compensation             seal
    none           acts              tombstone, noop          tombstone, noop
    pending        202               undoes                   202
    succeeded      replayed          undoes                   200, replayed
    rejected       replayed          noop                     replayed
    blocked        410               noop                     410
    compensating   410               202                      410
    compensated    410               replayed                 410
    acting         500: a handler committed on its own, so the row was seen half-made
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, assert_never

from amends.core.words.contract import ContractProblem, OutcomeWord
from amends.core.words.error_texts import words_of
from amends.core.words.errors import AmendsError, CannotCompensate, Rejected
from amends.core.words.keys import Key, Phase
from amends.core.words.limits import REPLY_BYTES_MAX
from amends.core.words.retry import Kind
from amends.participant import effects as steps
from amends.participant.effects import Asking, Done, HandlerRefused, Postponed, Program, TooMuch, Verdict
from amends.participant.request import Incoming
from amends.participant.response import JSON_TYPE, NULL, Answer, plain, problem
from amends.ports.inbox import Busy, Row, RowState

GONE_MAX: Final = 3
"""How often a row may vanish between the insert that met it and the read: the twin rolled back, or a purge came."""

LATE_MICROSECONDS: Final = 3_600 * 1_000_000
"""How far the clocks of orchestrator and database may differ before a purged row could be taken for none."""

HANDLER_COMMITTED: Final = "handler-committed"


class Blocked(AmendsError):
    """The work isn't pending (any more): undone, settled or never taken on. The business change must not happen."""


@dataclass(frozen=True, slots=True)
class BarrierCall:
    """One call at the barrier: what the headers say, and the print of the body."""

    incoming: Incoming
    print: bytes

    @property
    def run(self) -> str:
        """First part of the row's key."""
        return self.incoming.key.run

    @property
    def step(self) -> str:
        """Second part of the row's key."""
        return self.incoming.key.vertex

    def row(self, state: RowState) -> Row:
        """A row that isn't there yet."""
        return Row(self.run, self.step, state, kind=self.incoming.kind, epoch=self.incoming.epoch)

    def changed(self, row: Row, state: RowState) -> Row:
        """The row in another state. The epoch is written with a change of state only."""
        return replace(row, state=state, epoch=max(row.epoch, self.incoming.epoch))


def program(call: BarrierCall) -> Program:
    """The transaction that answers this call."""
    match call.incoming.key.phase:
        case Phase.ACTION:
            return action(call)
        case Phase.COMPENSATION:
            return compensation(call)
        case Phase.PROBE:
            return probe(call)
        case Phase.SEAL:
            return seal(call)
        case _ as never:
            assert_never(never)


# -- the action


def action(call: BarrierCall) -> Program:
    """Act once."""
    fresh = replace(call.row(RowState.ACTING), operation=call.incoming.operation, request_print=call.print)
    found = yield from _insert_or_lock(fresh)
    if found is not None:
        return _acted_before(call, found)
    if (yield from _may_have_been_purged(call)):
        return _expired()
    ended = yield from steps.work(None)
    match ended:
        case Done(reply=reply):
            if not (yield from steps.release()):
                return _handler_committed(call)
            yield from steps.update(_answered(call.changed(fresh, RowState.SUCCEEDED), plain(200, reply)))
            return Verdict(plain(200, reply), OutcomeWord.SUCCEEDED, commit=True)
        case Postponed():
            if not (yield from steps.release()):
                return _handler_committed(call)
            yield from steps.update(call.changed(fresh, RowState.PENDING))
            return Verdict(plain(202), OutcomeWord.PENDING, commit=True)
        case HandlerRefused(error=error):
            return (yield from _refuse(call, fresh, _no(OutcomeWord.REJECTED, error)))
        case TooMuch(size=size):
            return (yield from _refuse(call, fresh, _too_large(size)))
        case _ as never:
            assert_never(never)


def _refuse(call: BarrierCall, fresh: Row, said: Answer) -> Program:
    if call.incoming.kind is Kind.RETRIABLE:
        # Remembered, it could never succeed later; and a retriable must, in the end.
        return Verdict(said, OutcomeWord.REJECTED, commit=False)
    if not (yield from steps.roll_back()):
        return _handler_committed(call)
    yield from steps.update(_answered(call.changed(fresh, RowState.REJECTED), said))
    return Verdict(said, OutcomeWord.REJECTED, commit=True)


def _acted_before(call: BarrierCall, row: Row) -> Verdict:
    if row.state in _UNDONE:
        return _blocked(call, row)
    if row.request_print != call.print:
        return _key_reused(call)
    return _what_happened(call, row)


def _what_happened(call: BarrierCall, row: Row) -> Verdict:
    """What an action and a seal are told of a row that isn't theirs to change."""
    match row.state:
        case RowState.SUCCEEDED:
            return Verdict(_stored(row), OutcomeWord.SUCCEEDED, commit=False)
        case RowState.REJECTED:
            return Verdict(_stored(row), OutcomeWord.REJECTED, commit=False)
        case RowState.PENDING:
            return Verdict(plain(202), OutcomeWord.PENDING, commit=False)
        case RowState.BLOCKED | RowState.COMPENSATING | RowState.COMPENSATED:
            return _blocked(call, row)
        case RowState.ACTING:
            return _handler_committed(call)
        case _ as never:
            assert_never(never)


# -- the compensation


def compensation(call: BarrierCall) -> Program:
    """Undo what the action did; if it did nothing, see to it that it never will."""
    found = yield from _insert_or_lock(replace(call.row(RowState.BLOCKED), compensation_print=call.print))
    if found is None:
        if (yield from _may_have_been_purged(call)):
            return _expired()
        return Verdict(plain(200), OutcomeWord.NOOP, commit=True)
    if found.compensation_print is not None and found.compensation_print != call.print:
        return _key_reused(call)
    match found.state:
        case RowState.BLOCKED | RowState.REJECTED:
            if found.compensation_print is None:
                yield from steps.update(replace(found, compensation_print=call.print))
            return Verdict(plain(200), OutcomeWord.NOOP, commit=found.compensation_print is None)
        case RowState.COMPENSATED:
            if found.compensation_reply is None:
                return Verdict(plain(200), OutcomeWord.NOOP, commit=False)  # a person undid it; nothing is left to do
            return Verdict(plain(200, found.compensation_reply), OutcomeWord.SUCCEEDED, commit=False)
        case RowState.COMPENSATING:
            return Verdict(plain(202), OutcomeWord.PENDING, commit=False)
        case RowState.ACTING:
            return _handler_committed(call)
        case RowState.SUCCEEDED | RowState.PENDING:
            return (yield from _undo(call, found))
        case _ as never:
            assert_never(never)


def _undo(call: BarrierCall, row: Row) -> Program:
    if row.epoch > call.incoming.epoch:
        return _stale(call, row)
    ended = yield from steps.work(row)
    undone = replace(row, compensation_print=call.print)
    match ended:
        case Done(reply=reply):
            if not (yield from steps.release()):
                return _handler_committed(call)
            yield from steps.update(replace(call.changed(undone, RowState.COMPENSATED), compensation_reply=reply))
            return Verdict(plain(200, reply), OutcomeWord.SUCCEEDED, commit=True)
        case Postponed():
            if not (yield from steps.release()):
                return _handler_committed(call)
            yield from steps.update(call.changed(undone, RowState.COMPENSATING))
            return Verdict(plain(202), OutcomeWord.PENDING, commit=True)
        case HandlerRefused(error=error):
            # Not remembered: a person may repair what is wrong and try again.
            said = _no(OutcomeWord.CANNOT_COMPENSATE, error)
            return Verdict(said, OutcomeWord.CANNOT_COMPENSATE, commit=False)
        case TooMuch(size=size):
            return Verdict(_too_large(size), OutcomeWord.CANNOT_COMPENSATE, commit=False)
        case _ as never:
            assert_never(never)


# -- ask, and ask for good


def probe(call: BarrierCall) -> Program:
    """Say what is here and change nothing. Nothing here means only: nothing here yet."""
    row = yield from steps.read(call.run, call.step)
    return Verdict(plain(200), OutcomeWord.NOOP, commit=False) if row is None else _what_happened(call, row)


def seal(call: BarrierCall) -> Program:
    """Say what happened; if nothing did, see to it that nothing will."""
    row = yield from _insert_or_lock(call.row(RowState.BLOCKED))
    if row is None:
        if (yield from _may_have_been_purged(call)):
            return _expired()
        return Verdict(plain(200), OutcomeWord.NOOP, commit=True)
    match call.incoming.seal:
        case None:
            return _what_happened(call, row)
        case "rejected":
            return (yield from _seal_rejected(call, row))
        case "undone":
            return (yield from _seal_undone(call, row))
        case _ as never:
            assert_never(never)


def _seal_rejected(call: BarrierCall, row: Row) -> Program:
    """A person says that pending work is never going to be done."""
    if row.state is not RowState.PENDING:
        return _what_happened(call, row)
    said = problem(409, OutcomeWord.REJECTED, "settled by a person while it was pending", code="resolved-by-hand")
    yield from steps.update(_answered(call.changed(row, RowState.REJECTED), said))
    return Verdict(said, OutcomeWord.REJECTED, commit=True)


def _seal_undone(call: BarrierCall, row: Row) -> Program:
    """A person undoes it by hand: no code runs, now or later, and the person hears what there is to undo."""
    match row.state:
        case RowState.SUCCEEDED | RowState.PENDING | RowState.COMPENSATING:
            yield from steps.update(replace(call.changed(row, RowState.COMPENSATED), compensation_reply=None))
            return Verdict(_stored(row), OutcomeWord.SUCCEEDED, commit=True)
        case RowState.COMPENSATED if row.compensation_reply is None:
            # The same seal again, its answer lost: told "already undone", the person would leave the effect in place.
            return Verdict(_stored(row), OutcomeWord.SUCCEEDED, commit=False)
        case RowState.REJECTED | RowState.BLOCKED:
            return Verdict(plain(200), OutcomeWord.NOOP, commit=False)
        case RowState.COMPENSATED:
            return _blocked(call, row)
        case RowState.ACTING:
            return _handler_committed(call)
        case _ as never:
            assert_never(never)


# -- pending work, answered by the service


def answer_pending(key: Key, said: Callable[[Row], bytes] | Rejected) -> Asking[Answer]:
    """Settle the pending call with this key, in the transaction of the business change; `Blocked` if it isn't pending.

    The phase in the key decides what is settled: the action's completion never settles its compensation, nor the
    reverse. `said` is a rejection, or makes the reply's JSON for the row. The answer that is returned is posted to the
    callback once that transaction is committed; its `idempotency-key` names the call, so that a callback of another
    call refuses it.
    """
    row = yield from steps.lock(key.run, key.vertex)
    match key.phase, row:
        case Phase.ACTION, Row(state=RowState.PENDING):
            answer = yield from _answer_action(row, said)
        case Phase.COMPENSATION, Row(state=RowState.COMPENSATING, holder=None):
            answer = yield from _answer_compensation(row, said)
        case _:
            found = "unknown here" if row is None else f"not pending: its row is {row.state.value}"
            msg = f"{key} is {found}. Roll back: the business change must not happen."
            raise Blocked(msg)
    return answer.with_key(str(key))


def _no(name: str, error: Rejected | CannotCompensate) -> Answer:
    """A no in the words of the handler, whatever it put into them."""
    code, detail = words_of(error)
    return problem(409, name, detail, code=code)


def _answer_action(row: Row, said: Callable[[Row], bytes] | Rejected) -> Asking[Answer]:
    if not isinstance(said, Rejected):
        answer = plain(200, said(row))
        yield from steps.update(_answered(replace(row, state=RowState.SUCCEEDED), answer))
        return answer.with_outcome(OutcomeWord.SUCCEEDED)
    answer = _no(OutcomeWord.REJECTED, said)
    if row.kind is Kind.RETRIABLE:
        # As a retriable's immediate no: forgotten, so that trying again can succeed.
        yield from steps.delete(row.run, row.step)
    else:
        yield from steps.update(_answered(replace(row, state=RowState.REJECTED), answer))
    return answer.with_outcome(OutcomeWord.REJECTED)


def _answer_compensation(row: Row, said: Callable[[Row], bytes] | Rejected) -> Asking[Answer]:
    if not isinstance(said, Rejected):
        yield from steps.update(replace(row, state=RowState.COMPENSATED, compensation_reply=NULL))
        return plain(200).with_outcome(OutcomeWord.SUCCEEDED)
    # As an immediate no of a compensation: it is as if it had not been tried, and a person may have it tried again.
    before = RowState.PENDING if row.reply_status is None else RowState.SUCCEEDED
    yield from steps.update(replace(row, state=before, compensation_print=None))
    return _no(OutcomeWord.CANNOT_COMPENSATE, said).with_outcome(OutcomeWord.CANNOT_COMPENSATE)


# -- what the phases share

_UNDONE: Final = frozenset({RowState.BLOCKED, RowState.COMPENSATING, RowState.COMPENSATED})


def _insert_or_lock(row: Row) -> Asking[Row | None]:
    """None: the row was inserted. Else the row that was there, locked."""
    for _ in range(1 + GONE_MAX):
        if (yield from steps.insert(row)):
            return None
        found = yield from steps.lock(row.run, row.step)
        if found is not None:
            return found
    msg = f"{row.run}, {row.step}: its row comes and goes."
    raise Busy(msg)


def _may_have_been_purged(call: BarrierCall) -> Asking[bool]:
    """A row of this call may have been here and be gone: to say that nothing ever happened would be a guess."""
    through = yield from steps.purged_through()
    return through != 0 and call.incoming.since <= through + LATE_MICROSECONDS


def _answered(row: Row, answer: Answer) -> Row:
    return replace(row, reply_status=answer.status, reply_type=answer.headers["content-type"], reply=answer.body)


def _stored(row: Row) -> Answer:
    """The action's answer, byte for byte; a pending one that was settled by hand has none."""
    if row.reply_status is None or row.reply is None:
        return plain(200)
    return Answer(row.reply_status, {"content-type": row.reply_type or JSON_TYPE}, row.reply)


def _blocked(call: BarrierCall, row: Row) -> Verdict:
    detail = f"{call.run}, {call.step} is {row.state.value}: its undo came first, so it can't act any more."
    return Verdict(
        problem(410, OutcomeWord.BLOCKED, detail, code=OutcomeWord.BLOCKED), OutcomeWord.BLOCKED, commit=False
    )


def _key_reused(call: BarrierCall) -> Verdict:
    detail = f"{call.incoming.key}: this key came before with other bytes."
    return Verdict(
        problem(422, ContractProblem.KEY_REUSED, detail, code=ContractProblem.KEY_REUSED), None, commit=False
    )


def _stale(call: BarrierCall, row: Row) -> Verdict:
    detail = (
        f"{call.incoming.key}: owner {row.epoch} of this run has called already, and this call is from owner "
        f"{call.incoming.epoch}. Nothing was done."
    )
    return Verdict(
        problem(412, ContractProblem.STALE_EPOCH, detail, code=ContractProblem.STALE_EPOCH), None, commit=False
    )


def _expired() -> Verdict:
    detail = "Rows as old as this call were purged here: whether it was answered before can't be told any more."
    return Verdict(
        problem(409, ContractProblem.BARRIER_EXPIRED, detail, code=ContractProblem.BARRIER_EXPIRED), None, commit=False
    )


def _too_large(size: int) -> Answer:
    detail = f"the reply has {size} bytes, {REPLY_BYTES_MAX} may be stored; nothing was kept."
    return problem(409, "reply-too-large", detail, code="reply-too-large")


def _handler_committed(call: BarrierCall) -> Verdict:
    detail = f"{call.incoming.operation} ended the transaction itself: its effect and the barrier's row could part."
    return Verdict(problem(500, HANDLER_COMMITTED, detail, code=HANDLER_COMMITTED), None, commit=False)
