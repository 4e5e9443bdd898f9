"""From what came back to what it means: one table for every transport.

Operations of the contract (guard `barrier`, and steps done in this process) are read by the header `Saga-Outcome`
alone: an answer without it came from something in between (a proxy, a login page, a wrong address), whatever its
status, and proves nothing. First match wins, top to bottom; where nothing matches the outcome is unknown, never
"failed".

`CONTRACT`, near the end, is that table; an API that never heard of us is read by a table of its own, made of the same
rows. Texts that came from outside are cut and cleaned here: they end up in the log and on terminals.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeAlias, assert_never, cast

from amends.core.words.codec import Undecodable
from amends.core.words.contract import ContractProblem, OutcomeWord
from amends.core.words.error_texts import CODE_CHARACTERS_MAX, clean
from amends.core.words.keys import COMPENSATION, Phase
from amends.core.words.limits import DETAIL_CHARACTERS_MAX, REPLY_BYTES_MAX, RETRY_AFTER_MAX_SECONDS
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import MICROSECONDS
from amends.core.words.values import Words, value


class Cause(Words):
    """Why a call's outcome isn't known, or why it wasn't made."""

    NOT_SENT = "not-sent"
    WITHDRAWN = "withdrawn"
    LOST = "lost"
    TIMED_OUT = "timed-out"
    SERVER_ERROR = "server-error"
    BUSY = "busy"
    IN_PROGRESS = "in-progress"
    UNREADABLE = "unreadable"
    PROTOCOL = "protocol"
    MISROUTED = "misrouted"
    OWNER_LOST = "owner-lost"
    NO_ANSWER = "no-answer"
    PENDING = "pending"
    RAISED = "raised"
    EXITED = "exited"
    REJECTED = "rejected"
    ABSENT = "absent"
    TURNED_BACK = "turned-back"


OUTAGES: Final = frozenset({Cause.NOT_SENT, Cause.LOST, Cause.TIMED_OUT, Cause.SERVER_ERROR})
"""Ends of a call that say "it isn't there": never reached, no answer, a server error. "Too busy" and a wrong address
are answers of a participant that is there.
"""


# -- what a transport saw


@value
class CallResponse:
    """A complete answer. Header names are lower-case; `repeated` names headers that came more than once.

    `own`: code of this process gave it, so that a reply that can't be read is a mistake in that code.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str = ""
    repeated: frozenset[str] = frozenset()
    own: bool = False


@value
class NotSent:
    """Provably no byte of the request left: name lookup, connect, TLS."""

    detail: str


@value
class NoRoom:
    """Our process lacked the descriptors, memory or threads to make the call; nothing was sent.

    It says nothing of the participant and is no attempt. The engine holds the call back until there is room.
    """

    detail: str


@value
class CodeMismatch:
    """Code of this process and the call don't fit: arguments that can't be read, a reply that can't be written.

    The same would happen at every attempt, until the author mends the code.
    """

    detail: str


@value
class Lost:
    """It may have been acted on: reset, time-out, truncated, malformed, an exception of the code that does the work.

    `ours`: the detail without the words of that code, where it has any; it may repeat what the call holds.
    """

    cause: Cause
    detail: str
    ours: str = field(default="", compare=False, repr=False)


Came: TypeAlias = CallResponse | NotSent | NoRoom | CodeMismatch | Lost

# -- what it means


@value
class Succeeded:
    """A yes. `word` is the contract's word for it: `succeeded`, or for compensations also `noop` and `blocked`."""

    reply: bytes
    word: str = OutcomeWord.SUCCEEDED


@value
class SaidNo:
    """A no without effect; whether it is definite depends on the guard and on what was sent before."""

    code: str | None
    detail: str
    word: str = OutcomeWord.REJECTED


@value
class Pending:
    """The work was taken on; the answer comes later."""


@value
class Unknown:
    """It may have happened, or it can't be told. `retry_after` in microseconds; `counted`: it uses up an attempt.

    `ours`: the detail without words of the service, where it has any: what may be said of the participant as a whole,
    since those words may repeat what one run's call holds.
    """

    cause: Cause
    detail: str
    retry_after: int = 0
    counted: bool = True
    ours: str = field(default="", compare=False, repr=False)


@value
class Halt:
    """Nothing is gained by trying again: a person must look, at once. `code` is the service's own word for why."""

    reason: StuckReason
    detail: str
    code: str | None = None


Outcome: TypeAlias = Succeeded | SaidNo | Pending | Unknown | Halt

NULL: Final = b"null"
_NOTHING: Final = Succeeded(NULL)

Decoder: TypeAlias = Callable[[bytes], Any]
"""Raises `Undecodable` for bytes that are not a value of the reply's type."""


def read_answer(
    came: Came,
    *,
    phase: Phase,
    retriable: bool,
    decode: Decoder | None,
    now: int,
    table: "Table | None" = None,
) -> Outcome:
    """What an answer means for a call of this phase. Raises nothing, whatever came.

    `decode` is the reply type's decoder (`None`: the operation has no reply, its body is ignored). `now` (microseconds)
    is what a `Retry-After` date is held against where the answer has no `Date`. `table` is the contract's unless given.
    """
    match came:
        case NotSent(detail):
            return Unknown(Cause.NOT_SENT, clean(detail))
        case NoRoom(detail):
            return Unknown(Cause.NOT_SENT, clean(detail), counted=False)
        case CodeMismatch(detail):
            return Halt(StuckReason.AUTHOR_ERROR, clean(detail) or _MISFIT)
        case Lost(cause, detail, ours):
            return Unknown(cause, clean(detail), ours=clean(ours))
        case CallResponse():
            if table is None and (plain := _plain_yes(came, phase, decode)) is not None:
                return plain
            seen = Seen(came, retriable=retriable, decode=decode, now=now)
            for row in table or CONTRACT:
                if row.matches(seen):
                    return row.columns[phase](seen)
            msg = "the last row of a table matches everything"
            raise AssertionError(msg)
        case _ as never:
            assert_never(never)


def _plain_yes(came: CallResponse, phase: Phase, decode: Decoder | None) -> Succeeded | None:
    """What nearly every answer is, told without the table, which says the same; `None` for all others."""
    if came.status != 200 or came.headers.get(OUTCOME_HEADER) != "succeeded" or came.repeated:
        return None
    if decode is None or phase is COMPENSATION:
        return _NOTHING
    if len(came.body) > REPLY_BYTES_MAX:
        return None
    try:
        decode(came.body)
    except Undecodable:
        return None
    return Succeeded(came.body.strip(_AROUND))


@value
class ProblemBody:
    """What an answer says about itself (RFC 9457), as far as it does. `name` is the type's last segment."""

    name: str = ""
    code: str | None = None
    detail: str = ""


class Seen:
    """An answer beside what is needed to read it. The problem in it is looked for once, and only if a row asks."""

    __slots__ = ("_problem", "answer", "decode", "now", "retriable", "status", "word")

    def __init__(self, answer: CallResponse, *, retriable: bool, decode: Decoder | None, now: int) -> None:
        self.answer = answer
        self.status = answer.status
        self.retriable = retriable
        self.decode = decode
        self.now = now
        self.word = answer.headers.get(OUTCOME_HEADER)
        self._problem: ProblemBody | None = None

    @property
    def problem(self) -> ProblemBody:
        """Empty for an answer that isn't an error: a reply may have a field `type` of its own."""
        if self._problem is None:
            self._problem = _problem(self.answer) if self.status >= 400 else ProblemBody()
        return self._problem

    @property
    def source(self) -> str:
        """`503 from http://inventory:8001/release`."""
        return f"{self.status} from {self.answer.url}" if self.answer.url else str(self.status)


OUTCOME_HEADER: Final = "saga-outcome"
_AROUND: Final = b" \t\r\n"

Verdict: TypeAlias = Callable[[Seen], Outcome]


@value
class AnswerRule:
    """One row of a table: which answers it is about, and what they mean in each phase."""

    name: str
    matches: Callable[[Seen], bool]
    columns: Mapping[Phase, Verdict]


Table: TypeAlias = tuple[AnswerRule, ...]
"""Read from the top; the last row matches everything."""


# -- verdicts


def again(cause: Cause, text: str = "", *, counted: bool = True) -> Verdict:
    """Unknown: the same call once more, later."""

    def verdict(seen: Seen) -> Outcome:
        said = seen.problem.detail
        ours = f"{seen.source}{text}"
        detail = f"{ours}: {said}" if said else ours
        return Unknown(cause, clean(detail), retry_after(seen.answer.headers, seen.now), counted, clean(ours))

    return verdict


def halt(reason: StuckReason, text: str) -> Verdict:
    """A person must look; `text` where the answer doesn't say why."""

    def verdict(seen: Seen) -> Outcome:
        return Halt(reason, seen.problem.detail or clean(f"{seen.source}: {text}"), seen.problem.code)

    return verdict


def said_no(word: str, text: str = "") -> Verdict:
    """A no, in this word."""

    def verdict(seen: Seen) -> Outcome:
        return SaidNo(seen.problem.code, seen.problem.detail or text or clean(seen.source), word)

    return verdict


def succeeded(seen: Seen) -> Outcome:
    """A yes whose reply must be complete, within the limit and of its type: else the answer isn't known."""
    if seen.decode is None:
        return Succeeded(NULL)
    body = seen.answer.body
    if len(body) > REPLY_BYTES_MAX:
        return _unreadable(seen, f"larger than {REPLY_BYTES_MAX} bytes")
    try:
        seen.decode(body)
    except Undecodable as error:
        return _unreadable(seen, f"{error.detail} at {error.path}")
    return Succeeded(body.strip(_AROUND))  # as it will be read back: no log keeps what stands around a value


def _unreadable(seen: Seen, why: str) -> Outcome:
    if seen.answer.own:
        return Halt(
            StuckReason.AUTHOR_ERROR, clean(f"the work was done, but its reply isn't of its declared type: {why}")
        )
    return Unknown(Cause.UNREADABLE, clean(f"{seen.source}: the reply can't be read: {why}"))


def _authors_error(seen: Seen) -> Outcome:
    return Halt(StuckReason.AUTHOR_ERROR, seen.problem.detail or _MISFIT)


def undone(word: str) -> Verdict:
    """A compensation's yes, in this word; its body is never needed."""
    outcome = Succeeded(NULL, word)
    return lambda _: outcome


def pending(_: Seen) -> Outcome:
    """Taken on."""
    return Pending()


def _blocked_action(seen: Seen) -> Outcome:
    return (_HALT_BLOCKED if seen.retriable else _BLOCKED)(seen)


def _nothing_yet(seen: Seen) -> Outcome:
    # Nothing here *yet*: the action may be on its way. Only a seal settles.
    return Unknown(Cause.ABSENT, clean(f"{seen.source}: the participant knows nothing of this call yet"))


def _protocol(seen: Seen) -> Outcome:
    if OUTCOME_HEADER in seen.answer.repeated:
        return Unknown(Cause.PROTOCOL, clean(f"{seen.source} with Saga-Outcome more than once"))
    return Unknown(Cause.PROTOCOL, clean(f"{seen.source} with Saga-Outcome {seen.word!r}, no word of the contract"))


_BLOCKED: Final = said_no(OutcomeWord.BLOCKED, "its compensation came first: it can't act any more")
_HALT_BLOCKED: Final = halt(StuckReason.BLOCKED, "a compensation came before this step, which is never undone")
_MISROUTED: Final = again(Cause.MISROUTED, ", without Saga-Outcome: not from the barrier")


# -- which answers


def word(value: str) -> Callable[[Seen], bool]:
    """`Saga-Outcome` says this, once."""
    return lambda seen: seen.word == value and OUTCOME_HEADER not in seen.answer.repeated


def problem(name: str) -> Callable[[Seen], bool]:
    """An error whose problem type ends in this name."""
    return lambda seen: seen.status >= 400 and seen.problem.name == name


def status(*values: int) -> Callable[[Seen], bool]:
    """One of these."""
    return lambda seen: seen.status in values


def every(verdict: Verdict) -> Mapping[Phase, Verdict]:
    """The same in all phases."""
    return dict.fromkeys(Phase, verdict)


def phases(action: Verdict, compensation: Verdict, probe: Verdict, seal: Verdict) -> Mapping[Phase, Verdict]:
    """One verdict per column."""
    return {Phase.ACTION: action, Phase.COMPENSATION: compensation, Phase.PROBE: probe, Phase.SEAL: seal}


_MISFIT: Final = "code of this process and the call don't fit"
_MISFITS: Final = frozenset({"request-invalid", "reply-invalid"})
"""Problems of a service whose types don't fit what it was sent, or what its handler returned."""

TRANSPORT_ROWS: Final[Table] = (
    AnswerRule("no status", lambda seen: not 100 <= seen.status <= 599, every(again(Cause.LOST, ", no HTTP status"))),
    AnswerRule("interim", status(100, 102, 103), every(again(Cause.LOST, " and nothing after it"))),
    AnswerRule("redirect", lambda seen: seen.status < 200 or 300 <= seen.status < 400, every(_MISROUTED)),
    # With `Saga-Outcome` or without: it may have been set before a commit that then failed.
    AnswerRule("server error", lambda seen: seen.status >= 500, every(again(Cause.SERVER_ERROR))),
)
"""What holds for every service, of the contract or not."""

SUCCEEDED: Final = AnswerRule(
    OutcomeWord.SUCCEEDED,
    word(OutcomeWord.SUCCEEDED),
    phases(succeeded, undone(OutcomeWord.SUCCEEDED), succeeded, succeeded),
)

CONTRACT: Final[Table] = (
    *TRANSPORT_ROWS,
    AnswerRule(
        ContractProblem.IN_PROGRESS,
        problem(ContractProblem.IN_PROGRESS),
        every(again(Cause.IN_PROGRESS, counted=False)),
    ),
    AnswerRule(
        ContractProblem.KEY_REUSED,
        problem(ContractProblem.KEY_REUSED),
        every(halt(StuckReason.KEY_REUSED, "other bytes under the same key")),
    ),
    AnswerRule(
        ContractProblem.BARRIER_EXPIRED,
        problem(ContractProblem.BARRIER_EXPIRED),
        every(halt(StuckReason.BARRIER_EXPIRED, "what was done is forgotten")),
    ),
    AnswerRule(
        ContractProblem.STALE_EPOCH,
        lambda seen: seen.status == 412 or problem(ContractProblem.STALE_EPOCH)(seen),
        every(halt(StuckReason.STALE_EPOCH, "a later owner of this run has called already")),
    ),
    SUCCEEDED,
    AnswerRule("own code", lambda seen: seen.answer.own and seen.problem.name in _MISFITS, every(_authors_error)),
    AnswerRule(
        OutcomeWord.REJECTED,
        word(OutcomeWord.REJECTED),
        phases(
            said_no(OutcomeWord.REJECTED),
            halt(StuckReason.COMPENSATION_REJECTED, "a compensation can't say no"),
            said_no(OutcomeWord.REJECTED),
            said_no(OutcomeWord.REJECTED),
        ),
    ),
    AnswerRule(OutcomeWord.PENDING, word(OutcomeWord.PENDING), every(pending)),
    AnswerRule(
        OutcomeWord.NOOP,
        word(OutcomeWord.NOOP),
        phases(
            halt(StuckReason.PROTOCOL, "an action can't be answered `noop`"),
            undone(OutcomeWord.NOOP),
            _nothing_yet,
            said_no(OutcomeWord.NOOP, "it never acted and can't any more"),
        ),
    ),
    AnswerRule(
        OutcomeWord.BLOCKED,
        word(OutcomeWord.BLOCKED),
        phases(_blocked_action, undone(OutcomeWord.BLOCKED), _BLOCKED, _BLOCKED),
    ),
    AnswerRule(
        OutcomeWord.CANNOT_COMPENSATE,
        word(OutcomeWord.CANNOT_COMPENSATE),
        phases(
            halt(StuckReason.PROTOCOL, "an action can't be answered `cannot-compensate`"),
            halt(StuckReason.CANNOT_COMPENSATE, "the service can't undo this by itself"),
            halt(StuckReason.PROTOCOL, "a probe can't be answered `cannot-compensate`"),
            halt(StuckReason.PROTOCOL, "a seal can't be answered `cannot-compensate`"),
        ),
    ),
    AnswerRule(
        "other word", lambda seen: seen.word is not None or OUTCOME_HEADER in seen.answer.repeated, every(_protocol)
    ),
    AnswerRule("busy", status(408, 425, 429), every(again(Cause.BUSY))),
    # Everything else without the header, 2xx included, came from something in between.
    AnswerRule("not from the barrier", lambda _: True, every(_MISROUTED)),
)


# -- parts of an answer


def retry_after(headers: Mapping[str, str], now: int) -> int:
    """`Retry-After` in microseconds, an hour at the most; 0 where there is none that can be read.

    A date is held against the answer's own `Date`: the two clocks may differ, that one agrees with itself.
    """
    given = headers.get("retry-after", "").strip()
    if not given:
        return 0
    if given.isascii() and given.isdigit():
        seconds = int(given) if len(given) < 6 else RETRY_AFTER_MAX_SECONDS
        return min(seconds, RETRY_AFTER_MAX_SECONDS) * MICROSECONDS
    until = _http_date(given)
    if until is None:
        return 0
    since = _http_date(headers.get("date", ""))
    return max(0, min(until - (now if since is None else since), RETRY_AFTER_MAX_SECONDS * MICROSECONDS))


def _http_date(text: str) -> int | None:
    try:
        moment = parsedate_to_datetime(text)
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return round((aware - datetime.fromtimestamp(0, UTC)).total_seconds()) * MICROSECONDS
    except (TypeError, ValueError, OverflowError, IndexError):  # its parser gives up in all these ways
        return None


def _problem(answer: CallResponse) -> ProblemBody:
    """The problem in an error's body, taken as leniently as can be: a service in trouble writes what it writes."""
    body = answer.body
    try:
        parsed: object = json.loads(body.decode()) if body.lstrip()[:1] == b"{" else None
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        plain = answer.headers.get("content-type", "").startswith("text/plain")
        return ProblemBody(detail=clean(body[: 4 * DETAIL_CHARACTERS_MAX].decode(errors="replace")) if plain else "")
    fields = cast("dict[str, object]", parsed)
    type_ = fields.get("type")
    name = type_.rstrip("/").replace(":", "/").rpartition("/")[2] if isinstance(type_, str) else ""
    code = fields.get("code")
    named = str(code) if isinstance(code, (str, int)) and not isinstance(code, bool) else ""
    # Where there is no code, the type is one, unless it only repeats the answer's word.
    named = named or (name if name not in {"blank", answer.headers.get(OUTCOME_HEADER)} else "")
    texts = (fields.get("detail"), fields.get("title"))
    detail = next((text for text in texts if isinstance(text, str) and text), "")
    return ProblemBody(name=name, code=clean(named)[:CODE_CHARACTERS_MAX] or None, detail=clean(detail))
