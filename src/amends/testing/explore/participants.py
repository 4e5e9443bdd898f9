"""Participants on paper: what a service would answer, and what would be left in its database, as values.

`Barrier` runs the barrier that ships (`amends.participant.barrier`) over one row in memory: what the explorer and the
simulator see is what a service does. `Naive` is a service that never heard of the contract: it repeats what it is told
to (`once`) or recognises a key (`idempotent`), and knows no tombstone.

Both are functions from a row and a call to a row and an answer. Whether the service's own code says yes or no is not
theirs to know: it comes in as `Wants`, so that an exploration can try every way.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar, assert_never

from amends.core.run.answers import (
    NULL,
    CallResponse,
    Cause,
    Halt,
    Outcome,
    Pending,
    SaidNo,
    Succeeded,
    Unknown,
    read_answer,
)
from amends.core.words.errors import CannotCompensate, Rejected
from amends.core.words.keys import Key, Phase
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import Guard, Kind
from amends.core.words.values import Words
from amends.participant import barrier
from amends.participant.effects import Asking, Done, Ended, HandlerRefused, Postponed
from amends.participant.request import Incoming
from amends.participant.response import JSON_TYPE, PROBLEM_TYPE, Answer
from amends.ports import inbox

T = TypeVar("T")


class Wants(Words):
    """What the service's own code makes of a call that reaches it."""

    YES = "yes"
    NO = "no"
    LATER = "later"
    FAILS = "fails"


class State(Words):
    """A row's state. `acting` is seen only where an effect outside the database is under way."""

    ACTING = "acting"
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    REJECTED = "rejected"
    BLOCKED = "blocked"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"


class Called(NamedTuple):
    """What a participant sees of a call. `seal` is how a person settled it: `""`, `undone` or `rejected`."""

    step: str
    item: str
    phase: Phase
    kind: Kind
    body: bytes
    epoch: int
    seal: str = ""


class Answers(NamedTuple):
    """What a step's service says where it says anything: what its action gives, and how it refuses."""

    reply: bytes
    no: SaidNo


@dataclass(frozen=True, slots=True)
class PaperRow:
    """What a participant keeps of one step. `reply`: what its action was answered, a refusal too; `undone_by_hand`:
    sealed as undone, no code was run.
    """

    state: State
    kind: Kind
    epoch: int
    request: bytes | None = None
    undo_request: bytes | None = None
    reply: bytes | None = None
    undone_by_hand: bool = False


Did: TypeAlias = Literal["", "acted", "undone"]


class PaperAnswer(NamedTuple):
    """An answer, what the row is after it (`None`: there is none), and what it did to the world."""

    row: PaperRow | None
    outcome: Outcome
    did: Did = ""


FAILED: Final = Unknown(Cause.SERVER_ERROR, "503")
ABSENT: Final = Unknown(Cause.ABSENT, "nothing here yet")
PENDING: Final = Pending()
UNDONE: Final = Succeeded(NULL)
NOTHING_TO_UNDO: Final = Succeeded(NULL, "noop")
CANNOT: Final = Halt(StuckReason.CANNOT_COMPENSATE, "the service can't undo this by itself")

RUN: Final = "run"
OPERATION: Final = "operation"
LONG_AFTER: Final = 1 << 53
"""When every action was first logged: long after anything was purged, for nothing ever is here."""

KNOWN_MAX: Final = 1 << 16
"""Answers that are kept in mind: few rows and few calls meet again and again."""


class Barrier:
    """A participant that keeps the contract, because it runs the barrier that ships."""

    @staticmethod
    def runs_code(row: PaperRow | None, call: Called) -> bool:
        """Whether the service's own code would be asked, so that what it wants matters."""
        return _asked(row, call, Wants.YES, _ANY).works

    @staticmethod
    def answer(row: PaperRow | None, call: Called, wants: Wants, answers: Answers) -> PaperAnswer:
        """What it answers."""
        return _asked(row, call, wants, answers).said

    @staticmethod
    def finish(row: PaperRow, phase: Phase, wants: Wants, answers: Answers) -> PaperAnswer | None:
        """Work that was taken on in this phase is over: what is posted to the callback. `None`: it isn't pending."""
        return _finished(row, phase, wants, answers)

    @staticmethod
    def can_finish(row: PaperRow, phase: Phase | None = None) -> bool:
        """Whether it has work that was taken on (in this phase) and isn't over."""
        phases = PENDING_PHASES if phase is None else (phase,)
        return any(_finished(row, each, Wants.YES, _ANY) is not None for each in phases)

    @staticmethod
    def is_settled(row: PaperRow | None, call: Called) -> bool:
        """Whether this call changes nothing, now or at any time, so that only its answer could matter.

        This is a claim about all rows that may follow; a test holds it against the barrier itself.
        """
        if call.phase is Phase.PROBE:
            return True
        if row is None or (row.state is State.PENDING and row.kind is Kind.RETRIABLE):
            return False
        match call.phase:
            case Phase.ACTION:
                return True
            case Phase.SEAL:
                return not call.seal
            case Phase.COMPENSATION:
                never = row.state in {State.BLOCKED, State.REJECTED} and row.undo_request == call.body
                return never or row.state is State.COMPENSATED


PENDING_PHASES: Final = (Phase.ACTION, Phase.COMPENSATION)
"""Phases whose work may be taken on and answered later."""

_ANY: Final = Answers(NULL, SaidNo("no", "no"))


class _Fails(Exception):
    """The service's own code raised something."""


class _Came(NamedTuple):
    """What came of a call; `works`: the service's own code was asked."""

    said: PaperAnswer
    works: bool


@lru_cache(KNOWN_MAX)
def _asked(row: PaperRow | None, call: Called, wants: Wants, answers: Answers) -> _Came:
    """One transaction of the barrier, over one row in memory."""
    key = Key(RUN, call.step, call.item, call.phase)
    seal: Literal["undone", "rejected"] | None = None
    if call.seal:
        seal = "undone" if call.seal == "undone" else "rejected"
    incoming = Incoming(key, OPERATION, call.kind, LONG_AFTER, call.epoch, seal, 1, None, None)
    worked: list[inbox.Row | None] = []

    def work(undone: inbox.Row | None) -> Ended:
        worked.append(undone)
        match wants:
            case Wants.YES:
                return Done(NULL if undone is not None else answers.reply)
            case Wants.LATER:
                return Postponed()
            case Wants.NO if undone is None:
                return HandlerRefused(Rejected(answers.no.detail, code=answers.no.code))
            case Wants.NO:
                return HandlerRefused(CannotCompensate(CANNOT.detail))
            case Wants.FAILS:
                raise _Fails

    kept = None if row is None else _real(row, key)
    try:
        verdict, after = _walk(barrier.program(barrier.BarrierCall(incoming, incoming.print_of(call.body))), kept, work)
    except _Fails:
        return _Came(PaperAnswer(row, FAILED), works=True)
    did: Did = ""
    if worked and wants is Wants.YES and verdict.commit:
        (undone,) = worked
        if undone is None:
            did = "acted"
        elif undone.state is inbox.RowState.SUCCEEDED:
            did = "undone"
    left = row if not verdict.commit else None if after is None else _paper(after, row, call)
    return _Came(PaperAnswer(left, _read(verdict.final(), call), did), works=bool(worked))


@lru_cache(KNOWN_MAX)
def _finished(row: PaperRow, phase: Phase, wants: Wants, answers: Answers) -> PaperAnswer | None:
    key = Key(RUN, "step", "", phase)
    said = Rejected(answers.no.detail, code=answers.no.code)

    def reply(_: inbox.Row) -> bytes:
        return answers.reply

    try:
        answer, after = _walk(
            barrier.answer_pending(key, reply if wants is Wants.YES else said), _real(row, key), _never
        )
    except barrier.Blocked:
        return None
    did: Did = ""
    if wants is Wants.YES:
        undoes = phase is Phase.COMPENSATION
        did = "acted" if not undoes else "" if row.reply is None else "undone"
    called = Called("step", "", phase, row.kind, b"", row.epoch)
    return PaperAnswer(None if after is None else _paper(after, row, called), _read(answer, called), did)


def _never(_: inbox.Row | None) -> Ended:
    msg = "answering pending work runs no handler"
    raise AssertionError(msg)


def _walk(
    asking: Asking[T], row: inbox.Row | None, work: Callable[[inbox.Row | None], Ended]
) -> tuple[T, inbox.Row | None]:
    """Perform a generator's steps on one row; what it returns, and the row as it left it."""
    given: object = None
    while True:
        try:
            step = asking.send(given)
        except StopIteration as end:
            result: T = end.value
            return result, row
        given = None
        match step:
            case inbox.Insert(row=new):
                given = row is None
                row = new if row is None else row
            case inbox.Lock() | inbox.Read():
                given = row
            case inbox.Update(row=new):
                row = new
            case inbox.Delete():
                row = None
            case inbox.ReadPurgedThrough():
                given = 0
            case inbox.Savepoint():
                pass
            case inbox.Work(row=undone):
                given = work(undone)
            case inbox.Release() | inbox.RollBack():
                given = True
            case _ as never:
                assert_never(never)


def _read(answer: Answer, call: Called) -> Outcome:
    """The answer as the orchestrator reads it."""
    return read_answer(
        CallResponse(answer.status, answer.headers, answer.body),
        phase=call.phase,
        retriable=call.kind is Kind.RETRIABLE,
        decode=None if call.phase is Phase.COMPENSATION or call.seal == "undone" else bytes,
        now=0,
    )


# -- a row as the barrier has it, and back


def _print(body: bytes | None) -> bytes | None:
    return None if body is None else sha256(OPERATION.encode() + b"\0" + body).digest()


def _real(row: PaperRow, key: Key) -> inbox.Row:
    refused = row.state is State.REJECTED
    return inbox.Row(
        key.run,
        key.vertex,
        inbox.RowState(row.state.value),
        kind=row.kind,
        operation=OPERATION if row.request is not None else None,
        request_print=_print(row.request),
        reply_status=None if row.reply is None else 409 if refused else 200,
        reply_type=None if row.reply is None else PROBLEM_TYPE if refused else JSON_TYPE,
        reply=row.reply,
        compensation_print=_print(row.undo_request),
        compensation_reply=NULL if row.state is State.COMPENSATED and not row.undone_by_hand else None,
        epoch=row.epoch,
    )


def _paper(real: inbox.Row, before: PaperRow | None, call: Called) -> PaperRow:
    return PaperRow(
        State(real.state.value),
        call.kind if real.kind is None else real.kind,
        real.epoch,
        _body(real.request_print, None if before is None else before.request, call),
        _body(real.compensation_print, None if before is None else before.undo_request, call),
        real.reply,
        real.state is inbox.RowState.COMPENSATED and real.compensation_reply is None,
    )


def _body(printed: bytes | None, before: bytes | None, call: Called) -> bytes | None:
    if printed is None:
        return None
    return before if before is not None and printed == _print(before) else call.body


class Naive:
    """A service without a barrier. Under `idempotent` it recognises a key; under `once` it does as it is told, again.

    A no is not remembered, an undo of nothing leaves no trace, and nothing stops a late copy.
    """

    @staticmethod
    def runs_code(_row: PaperRow | None, call: Called) -> bool:
        """Whether what the service wants matters; a repeat may be told no though it was done before."""
        return call.phase in {Phase.ACTION, Phase.COMPENSATION}

    @staticmethod
    def answer(row: PaperRow | None, call: Called, wants: Wants, answers: Answers, guard: Guard) -> PaperAnswer:
        """What it answers. It knows `idempotent` and `once`; whatever else it was asked under, it acts every time."""
        acted = row is not None and row.request is not None
        undone = row is not None and row.undo_request is not None
        match call.phase:
            case Phase.PROBE | Phase.SEAL:
                if row is not None and row.state is State.PENDING:
                    return PaperAnswer(row, PENDING)
                return PaperAnswer(row, Succeeded(answers.reply) if acted else ABSENT)
            case Phase.ACTION:
                if wants is Wants.FAILS:
                    return PaperAnswer(row, FAILED)
                if wants is Wants.NO:
                    return PaperAnswer(row, answers.no)
                if row is not None and acted and guard is Guard.IDEMPOTENT:
                    return PaperAnswer(row, PENDING if row.state is State.PENDING else Succeeded(answers.reply))
                fresh = PaperRow(State.SUCCEEDED, call.kind, call.epoch, request=call.body)
                if wants is Wants.LATER:
                    return PaperAnswer(replace(fresh, state=State.PENDING), PENDING)
                return PaperAnswer(fresh, Succeeded(answers.reply), "acted")
            case Phase.COMPENSATION:
                if wants is Wants.FAILS:
                    return PaperAnswer(row, FAILED)
                if wants is Wants.NO:
                    return PaperAnswer(row, CANNOT)
                if row is None or not acted or (undone and guard is Guard.IDEMPOTENT):
                    return PaperAnswer(row, UNDONE)
                return PaperAnswer(replace(row, state=State.COMPENSATED, undo_request=call.body), UNDONE, "undone")

    @staticmethod
    def finish(row: PaperRow, _phase: Phase, wants: Wants, answers: Answers) -> PaperAnswer | None:
        """Work that was taken on is over."""
        if row.state is not State.PENDING:
            return None
        if wants is Wants.YES:
            return PaperAnswer(replace(row, state=State.SUCCEEDED), Succeeded(answers.reply), "acted")
        return PaperAnswer(None, answers.no)

    @staticmethod
    def can_finish(row: PaperRow, phase: Phase | None = None) -> bool:
        """Whether it has work that was taken on (in this phase) and isn't over."""
        return row.state is State.PENDING and phase is not Phase.COMPENSATION
