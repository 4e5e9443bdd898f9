"""Participants on paper: what a service would answer, and what would be left in its database, as values.

`Barrier` keeps the participant's contract to the letter: one row per step and run, repeats replayed, empty undos
remembered, late actions refused. `Naive` is a service that never heard of the contract: it repeats what it is told to
(`once`) or recognises a key (`idempotent`), and knows no tombstone.

Both are functions from a row and a call to a row and an answer. Whether the service's own code says yes or no is not
theirs to know: it comes in as `Wants`, so that whoever explores can try every way.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, TypeAlias

from amends.core.answers import NULL, Cause, Halt, Outcome, Pending, SaidNo, Succeeded, Unknown
from amends.core.keys import Phase
from amends.core.retry import Guard, Kind
from amends.core.values import Words


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
class Row:
    """What a participant keeps of one step. `undone_by_hand`: sealed as undone, no code was run."""

    state: State
    kind: Kind
    epoch: int
    request: bytes | None = None
    undo_request: bytes | None = None
    reply: bytes | None = None
    undone_by_hand: bool = False


Did: TypeAlias = Literal["", "acted", "undone"]


class Said(NamedTuple):
    """An answer, what the row is after it (`None`: there is none), and what it did to the world."""

    row: Row | None
    outcome: Outcome
    did: Did = ""


BLOCKED: Final = SaidNo("blocked", "its undo came first: it can't act any more", "blocked")
NEVER: Final = SaidNo("noop", "it never acted and can't any more", "noop")
FAILED: Final = Unknown(Cause.SERVER_ERROR, "503")
ABSENT: Final = Unknown(Cause.ABSENT, "nothing here yet")
PENDING: Final = Pending()
UNDONE: Final = Succeeded(NULL)
NOTHING_TO_UNDO: Final = Succeeded(NULL, "noop")
KEY_REUSED: Final = Halt("key-reused", "other bytes under the same key")
STALE: Final = Halt("stale-epoch", "a later owner of this run has called already")
CANNOT: Final = Halt("cannot-compensate", "the service can't undo this by itself")
HALT_BLOCKED: Final = Halt("blocked", "a compensation came before this step, which is never undone")

_GONE: Final = frozenset({State.BLOCKED, State.COMPENSATING, State.COMPENSATED})
_UNDOABLE: Final = frozenset({State.SUCCEEDED, State.PENDING})


class Barrier:
    """A participant that keeps the contract."""

    @staticmethod
    def runs_code(row: Row | None, call: Called) -> bool:
        """Whether the service's own code would be asked, so that what it wants matters."""
        match call.phase:
            case Phase.ACTION:
                return row is None
            case Phase.COMPENSATION:
                return (
                    row is not None
                    and row.state in _UNDOABLE
                    and row.epoch <= call.epoch
                    and row.undo_request in {None, call.body}
                )
            case Phase.PROBE | Phase.SEAL:
                return False

    @staticmethod
    def answer(row: Row | None, call: Called, wants: Wants, answers: Answers) -> Said:
        """What it answers."""
        match call.phase:
            case Phase.ACTION:
                return _act(row, call, wants, answers)
            case Phase.COMPENSATION:
                return _undo(row, call, wants)
            case Phase.PROBE:
                return Said(None, ABSENT) if row is None else Said(row, _what_happened(row, call, answers))
            case Phase.SEAL:
                return _seal(row, call, answers)

    @staticmethod
    def finish(row: Row, wants: Wants, answers: Answers) -> Said:
        """Work that was taken on is over: what is posted to the callback."""
        if row.state is State.COMPENSATING:
            if wants is Wants.YES:
                return Said(replace(row, state=State.COMPENSATED), UNDONE, "undone")
            before = State.PENDING if row.reply is None else State.SUCCEEDED
            return Said(replace(row, state=before, undo_request=None), CANNOT)
        if wants is Wants.YES:
            done = replace(row, state=State.SUCCEEDED, reply=answers.reply)
            return Said(done, Succeeded(answers.reply), "acted")
        if row.kind is Kind.RETRIABLE:
            return Said(None, answers.no)
        return Said(replace(row, state=State.REJECTED), answers.no)

    @staticmethod
    def can_finish(row: Row) -> bool:
        """Whether it has work that was taken on and isn't over."""
        return row.state is State.PENDING or row.state is State.COMPENSATING

    @staticmethod
    def is_settled(row: Row | None, call: Called) -> bool:
        """Whether this call changes nothing, now or at any time, so that only its answer could matter."""
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


def _act(row: Row | None, call: Called, wants: Wants, answers: Answers) -> Said:
    if row is None:
        fresh = Row(State.SUCCEEDED, call.kind, call.epoch, request=call.body, reply=answers.reply)
        match wants:
            case Wants.YES:
                return Said(fresh, Succeeded(answers.reply), "acted")
            case Wants.LATER:
                return Said(replace(fresh, state=State.PENDING, reply=None), PENDING)
            case Wants.NO:
                if call.kind is Kind.RETRIABLE:
                    return Said(None, answers.no)  # remembered, it could never succeed
                return Said(replace(fresh, state=State.REJECTED, reply=None), answers.no)
            case Wants.FAILS:
                return Said(None, FAILED)
    if row.state in _GONE:
        return Said(row, HALT_BLOCKED if call.kind is Kind.RETRIABLE else BLOCKED)
    if row.request != call.body:
        return Said(row, KEY_REUSED)
    return Said(row, _what_happened(row, call, answers))


def _what_happened(row: Row, call: Called, answers: Answers) -> Outcome:
    match row.state:
        case State.SUCCEEDED:
            return Succeeded(row.reply or NULL)
        case State.REJECTED:
            return answers.no
        case State.PENDING:
            return PENDING
        case State.ACTING:
            return FAILED
        case State.BLOCKED | State.COMPENSATING | State.COMPENSATED:
            return HALT_BLOCKED if call.kind is Kind.RETRIABLE and call.phase is Phase.ACTION else BLOCKED


def _undo(row: Row | None, call: Called, wants: Wants) -> Said:
    if row is None:
        return Said(Row(State.BLOCKED, call.kind, call.epoch, undo_request=call.body), NOTHING_TO_UNDO)
    if row.undo_request is not None and row.undo_request != call.body:
        return Said(row, KEY_REUSED)
    match row.state:
        case State.BLOCKED | State.REJECTED:
            return Said(replace(row, undo_request=call.body), NOTHING_TO_UNDO)
        case State.COMPENSATED:
            return Said(row, NOTHING_TO_UNDO if row.undone_by_hand else UNDONE)
        case State.COMPENSATING:
            return Said(row, PENDING)
        case State.ACTING:
            return Said(row, FAILED)
        case State.SUCCEEDED | State.PENDING:
            pass
    if row.epoch > call.epoch:
        return Said(row, STALE)
    did: Did = "undone" if row.state is State.SUCCEEDED else ""
    undone = replace(row, state=State.COMPENSATED, undo_request=call.body, epoch=call.epoch)
    match wants:
        case Wants.YES:
            return Said(undone, UNDONE, did)
        case Wants.LATER if did:
            return Said(replace(undone, state=State.COMPENSATING), PENDING)
        case Wants.LATER:
            return Said(undone, UNDONE)
        case Wants.NO:
            return Said(row, CANNOT)
        case Wants.FAILS:
            return Said(row, FAILED)


def _seal(row: Row | None, call: Called, answers: Answers) -> Said:
    if row is None:
        return Said(Row(State.BLOCKED, call.kind, call.epoch), NEVER)
    if call.seal == "undone":
        if row.state in _UNDOABLE or row.state is State.COMPENSATING:
            by_hand = replace(row, state=State.COMPENSATED, undone_by_hand=True, epoch=max(row.epoch, call.epoch))
            return Said(by_hand, Succeeded(row.reply or NULL))
        if row.state is State.COMPENSATED and row.undone_by_hand:
            return Said(row, Succeeded(row.reply or NULL))
        if row.state in {State.REJECTED, State.BLOCKED}:
            return Said(row, NEVER)
    if call.seal == "rejected" and row.state is State.PENDING:
        return Said(replace(row, state=State.REJECTED, epoch=max(row.epoch, call.epoch)), answers.no)
    return Said(row, _what_happened(row, call, answers))


class Naive:
    """A service without a barrier. Under `idempotent` it recognises a key; under `once` it does as it is told, again.

    A no is not remembered, an undo of nothing leaves no trace, and nothing stops a late copy.
    """

    @staticmethod
    def runs_code(_row: Row | None, call: Called) -> bool:
        """Whether what the service wants matters; a repeat may be told no though it was done before."""
        return call.phase in {Phase.ACTION, Phase.COMPENSATION}

    @staticmethod
    def answer(row: Row | None, call: Called, wants: Wants, answers: Answers, guard: Guard) -> Said:
        """What it answers. It knows `idempotent` and `once`; whatever else it was asked under, it acts every time."""
        acted = row is not None and row.request is not None
        undone = row is not None and row.undo_request is not None
        match call.phase:
            case Phase.PROBE | Phase.SEAL:
                if row is not None and row.state is State.PENDING:
                    return Said(row, PENDING)
                return Said(row, Succeeded(answers.reply) if acted else ABSENT)
            case Phase.ACTION:
                if wants is Wants.FAILS:
                    return Said(row, FAILED)
                if wants is Wants.NO:
                    return Said(row, answers.no)
                if row is not None and acted and guard is Guard.IDEMPOTENT:
                    return Said(row, PENDING if row.state is State.PENDING else Succeeded(answers.reply))
                fresh = Row(State.SUCCEEDED, call.kind, call.epoch, request=call.body)
                if wants is Wants.LATER:
                    return Said(replace(fresh, state=State.PENDING), PENDING)
                return Said(fresh, Succeeded(answers.reply), "acted")
            case Phase.COMPENSATION:
                if wants is Wants.FAILS:
                    return Said(row, FAILED)
                if wants is Wants.NO:
                    return Said(row, CANNOT)
                if row is None or not acted or (undone and guard is Guard.IDEMPOTENT):
                    return Said(row, UNDONE)
                return Said(replace(row, state=State.COMPENSATED, undo_request=call.body), UNDONE, "undone")

    @staticmethod
    def finish(row: Row, wants: Wants, answers: Answers) -> Said:
        """Work that was taken on is over."""
        if wants is Wants.YES:
            return Said(replace(row, state=State.SUCCEEDED), Succeeded(answers.reply), "acted")
        return Said(None, answers.no)

    @staticmethod
    def can_finish(row: Row) -> bool:
        """Whether it has work that was taken on and isn't over."""
        return row.state is State.PENDING
