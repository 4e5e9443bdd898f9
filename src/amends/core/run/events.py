"""Facts. What happened to a run, in the past tense; the whole state of a run is the fold of these.

Every event carries `at` (microseconds UTC, never decreasing within a run) and `epoch` (the owner's when it was
appended; 0 where a visitor wrote it). Payloads (`body`, `reply`, `input`) are bytes holding JSON text, exactly as
sent or received. A step that makes many calls names them by `item`; it is `""` for a step that makes one.
"""

from typing import Final, TypeAlias

from amends.core.run.answers import Cause
from amends.core.words.keys import Phase
from amends.core.words.retry import Guard, Kind
from amends.core.words.values import value


@value
class Who:
    """A person's signature: the authenticated identity, the claimed name beside it, and the reason."""

    by: str
    reason: str
    claimed_by: str | None = None


@value
class Request:
    """One built call, logged; what is sent and re-sent is this.

    `participant` is `local` for work done in this process, `ask` and `sleep` for the built-in calls; for those
    `due_at` says when the question is void or the sleep over. `undo` names the operation that compensates (`""`:
    nothing does).
    """

    item: str
    participant: str
    operation: str
    guard: Guard
    body: bytes
    undo: str = ""
    can_settle: bool = False
    due_at: int | None = None


@value
class RunStarted:
    """A run was acknowledged."""

    at: int
    epoch: int
    run: str
    saga: str
    version: int
    digest: str
    input: bytes
    deadline: int | None
    by: str


@value
class ActionRequested:
    """A step's builder gave these calls; from here on they are owed. `shape`: `one`, `dict` or `list`."""

    at: int
    epoch: int
    step: str
    kind: Kind
    shape: str
    requests: tuple[Request, ...]


@value
class AttemptStarted:
    """A call that no barrier protects is about to leave under this epoch (attempt 1 of a single call needs no such
    fact).
    """

    at: int
    epoch: int
    step: str
    item: str
    phase: Phase


@value
class AttemptFailed:
    """A send has ended without a settled answer. `next_due` is when the same key goes out again; `None`: not by
    itself. `retry_after`: the wait that the participant asked for (microseconds).
    """

    at: int
    epoch: int
    step: str
    item: str
    phase: Phase
    cause: Cause
    detail: str
    next_due: int | None
    counted: bool
    retry_after: int = 0


@value
class ActionSucceeded:
    """The action took effect, once. `settled`: learnt by asking, not from the action's own answer."""

    at: int
    epoch: int
    step: str
    item: str
    reply: bytes
    settled: bool = False


@value
class ActionRejected:
    """A definite no: the action had no effect and can't have one any more. `word` is the answer's, or why we know."""

    at: int
    epoch: int
    step: str
    item: str
    code: str | None
    detail: str
    word: str = "rejected"


@value
class ActionPending:
    """The participant took the work on; the answer comes later, until `answer_due`."""

    at: int
    epoch: int
    step: str
    item: str
    answer_due: int


@value
class ActionUnknown:
    """The action is not retried automatically, and whether it took effect isn't known."""

    at: int
    epoch: int
    step: str
    item: str
    cause: Cause
    detail: str


@value
class SettleRequested:
    """The participant is asked what became of an action. `seal`: `""`, or how a person settled it (`undone`,
    `rejected`).
    """

    at: int
    epoch: int
    step: str
    item: str
    phase: Phase
    seal: str = ""


@value
class Sealed:
    """A seal "as undone" was answered. `found`: `succeeded` (a person must have undone it), `noop` or `blocked`."""

    at: int
    epoch: int
    step: str
    item: str
    found: str
    reply: bytes


@value
class StepSkipped:
    """A step's builder gave `None`: there is nothing to do and nothing to undo."""

    at: int
    epoch: int
    step: str


@value
class StepDeclined:
    """A step's builder said no, before anything was requested."""

    at: int
    epoch: int
    step: str
    code: str | None
    detail: str


@value
class BuildFailed:
    """A builder raised: a bug in the definition. Nothing was sent; a fixed one is called again after `retry`."""

    at: int
    epoch: int
    step: str
    item: str
    phase: Phase
    error: str


@value
class CompensationRequested:
    """What an action did, or may have done, is to be undone. The body is frozen; later knowledge doesn't change it."""

    at: int
    epoch: int
    step: str
    item: str
    participant: str
    operation: str
    guard: Guard
    body: bytes


@value
class CompensationSucceeded:
    """Undone. `word`: `succeeded`, or `noop`/`blocked` where there was nothing to undo and never will be."""

    at: int
    epoch: int
    step: str
    item: str
    word: str


@value
class CompensationPending:
    """The participant took the undo on; the answer comes later, until `answer_due`."""

    at: int
    epoch: int
    step: str
    item: str
    answer_due: int


@value
class Marked:
    """Only a person can move this on: the run is stuck. `code`: the participant's own word for why."""

    at: int
    epoch: int
    step: str
    item: str
    phase: Phase
    reason: str
    detail: str
    code: str | None = None


@value
class Unmarked:
    """What a person was needed for is settled."""

    at: int
    epoch: int
    step: str
    item: str


@value
class Aborted:
    """Compensation began, for good. `step` and `code`: what was rejected, where a step was."""

    at: int
    epoch: int
    step: str | None
    code: str | None
    reason: str


@value
class AbortRequested:
    """Compensation was asked for while the pivot's outcome is open; the pivot decides."""

    at: int
    epoch: int
    reason: str


@value
class AbortVoid:
    """The pivot had succeeded: the run goes forward, the wish to turn back is void."""

    at: int
    epoch: int


@value
class DeadlinePassed:
    """The run's deadline is over."""

    at: int
    epoch: int


@value
class CancelAsked:
    """An operator or client asked for compensation. `verb`: `cancel` or `compensate`."""

    at: int
    epoch: int
    verb: str
    who: Who


@value
class RetryAsked:
    """An operator asked for another attempt. `renewed`: with a new budget. `fact`: a possible effect is repeated."""

    at: int
    epoch: int
    step: str
    item: str
    phase: Phase
    who: Who
    renewed: bool
    fact: bool = False


@value
class Resolved:
    """An operator recorded the outcome of a call. `outcome`: `succeeded`, `rejected`, `undone` or `acknowledged`."""

    at: int
    epoch: int
    step: str
    item: str
    phase: Phase
    outcome: str
    reply: bytes
    who: Who


@value
class Skipped:
    """An operator decided that this stays as it is. `phase` says what was left: an action not done, or an effect not
    undone.
    """

    at: int
    epoch: int
    step: str
    item: str
    phase: Phase
    who: Who


@value
class Answered:
    """A question was answered (`reply`) or declined."""

    at: int
    epoch: int
    step: str
    item: str
    reply: bytes
    declined: bool
    who: Who


@value
class Abandoned:
    """An operator ended the run as it is. `effects`: every step whose effect may remain."""

    at: int
    epoch: int
    effects: tuple[str, ...]
    who: Who


@value
class LateReply:
    """An answer that changes nothing any more. `alert`: it contradicts what is known."""

    at: int
    epoch: int
    step: str
    item: str
    phase: Phase
    word: str
    body: bytes
    alert: bool


@value
class RunEnded:
    """The run is over. `effects` lists what may remain where it ends `abandoned`."""

    at: int
    epoch: int
    state: str
    effects: tuple[str, ...] = ()


@value
class NoticeRequested:
    """A completion notification is due."""

    at: int
    epoch: int
    participant: str
    operation: str
    guard: Guard
    body: bytes


@value
class NoticeDelivered:
    """They were told."""

    at: int
    epoch: int


@value
class NoticeFailed:
    """They could not be told, yet (`next_due`) or for good. How the run ended stays as it is."""

    at: int
    epoch: int
    cause: Cause
    detail: str
    next_due: int | None
    counted: bool


@value
class Quarantined:
    """Driving this run harmed its workers, or its history can't be read; only an operator moves it on."""

    at: int
    epoch: int
    reason: str


Event: TypeAlias = (
    RunStarted
    | ActionRequested
    | AttemptStarted
    | AttemptFailed
    | ActionSucceeded
    | ActionRejected
    | ActionPending
    | ActionUnknown
    | SettleRequested
    | Sealed
    | StepSkipped
    | StepDeclined
    | BuildFailed
    | CompensationRequested
    | CompensationSucceeded
    | CompensationPending
    | Marked
    | Unmarked
    | Aborted
    | AbortRequested
    | AbortVoid
    | DeadlinePassed
    | CancelAsked
    | RetryAsked
    | Resolved
    | Skipped
    | Answered
    | Abandoned
    | LateReply
    | RunEnded
    | NoticeRequested
    | NoticeDelivered
    | NoticeFailed
    | Quarantined
)

EVENT_TYPES: Final[tuple[type[Event], ...]] = (
    RunStarted,
    ActionRequested,
    AttemptStarted,
    AttemptFailed,
    ActionSucceeded,
    ActionRejected,
    ActionPending,
    ActionUnknown,
    SettleRequested,
    Sealed,
    StepSkipped,
    StepDeclined,
    BuildFailed,
    CompensationRequested,
    CompensationSucceeded,
    CompensationPending,
    Marked,
    Unmarked,
    Aborted,
    AbortRequested,
    AbortVoid,
    DeadlinePassed,
    CancelAsked,
    RetryAsked,
    Resolved,
    Skipped,
    Answered,
    Abandoned,
    LateReply,
    RunEnded,
    NoticeRequested,
    NoticeDelivered,
    NoticeFailed,
    Quarantined,
)
