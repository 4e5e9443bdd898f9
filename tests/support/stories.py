"""Given, when, then for the core: stories told by commands, checked by the names of the facts that follow.

A saga is written with the constructors `c`, `p`, `r` and `n` (compensable, pivot, retriable, neutral) and real
participants, one per guard. A `Story` stands in for the engine: it waits until a call is due, says `Begin` where the
log must know first, and answers. After every command it checks what must hold whatever is told: that the facts fold
to the decision's record, that the record before stayed as it was, that time never goes back, that an end is final.
"""

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Literal

from amends.codecs.json import JsonCodec
from amends.core.run import events as e
from amends.core.run.answers import Cause, Halt, Outcome, Pending, SaidNo, Succeeded, Unknown
from amends.core.run.commands import (
    Abandon,
    Adopted,
    AnswerQuestion,
    Begin,
    Cancel,
    Command,
    Due,
    Refusal,
    Reply,
    Resolve,
    RetryStep,
    Skip,
    StartRun,
)
from amends.core.run.decide import decide, start
from amends.core.run.definition import Definition, define
from amends.core.run.events import Event, Who
from amends.core.run.evolve import evolve
from amends.core.run.owed import Owed, Send, owed
from amends.core.run.record import RunRecord, Tries
from amends.core.run.summary import outcome
from amends.core.saga.operation import Operation, Participant, Rest, operation
from amends.core.saga.outcomes import Outcome as RunOutcome
from amends.core.saga.saga import Saga
from amends.core.saga.steps import Step
from amends.core.words.keys import NOTICE, Phase
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import MICROSECONDS, Kind, Policy
from amends.core.words.retry import Retry as Tried

CODEC: Final = JsonCodec()
BEGIN: Final = 1_700_000_000 * MICROSECONDS
ALLOWED_AFTER_THE_END: Final = {"LateReply", "NoticeRequested", "NoticeDelivered", "NoticeFailed"}


@dataclass(frozen=True, slots=True)
class Ask:
    """The request of every operation here."""

    what: str


class Barrier(Participant):
    act = operation(Ask, str, compensation="undo")
    bare = operation(Ask, str)
    undo = operation(Ask)


class Plain(Participant):
    """Idempotent; nobody can be asked what became of a call."""

    act = operation(Ask, str, compensation="undo", rest=Rest("PUT /act"))
    undo = operation(Ask, rest=Rest("PUT /undo"))


class Asked(Participant):
    """Idempotent, and can be asked."""

    act = operation(Ask, str, compensation="undo", rest=Rest("PUT /act"), probe=Rest("GET /act"))
    undo = operation(Ask, rest=Rest("PUT /undo"))


class Once(Participant):
    act = operation(Ask, str, compensation="undo", rest=Rest("POST /act"))
    undo = operation(Ask, rest=Rest("POST /undo"))


class OnceAsked(Participant):
    act = operation(Ask, str, compensation="undo", rest=Rest("POST /act"), probe=Rest("GET /act"))
    undo = operation(Ask, rest=Rest("POST /undo"))


GUARDS: Final[dict[str, Operation[..., Any, Any]]] = {
    "barrier": Barrier.act,
    "idempotent": Plain.act,
    "idempotent, asked": Asked.act,
    "once": Once.act,
    "once, asked": OnceAsked.act,
}

Does = Operation[..., Any, Any] | Callable[..., Any]


@dataclass(frozen=True)
class Spec:
    """One step of a saga under test. `does`: an operation, or the function itself."""

    name: str
    kind: Kind
    does: Does = Barrier.act
    reads: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    policy: Policy | None = None
    undo: Callable[..., Any] | None = None


def c(name: str, does: Does = Barrier.act, **more: Any) -> Spec:  # noqa: ANN401 - the fields of a Spec
    return _spec(name, Kind.COMPENSABLE, does, more)


def p(name: str = "p", does: Does = Barrier.bare, **more: Any) -> Spec:  # noqa: ANN401 - as above
    return _spec(name, Kind.PIVOT, does, more)


def r(name: str = "r", does: Does = Barrier.bare, **more: Any) -> Spec:  # noqa: ANN401 - as above
    return _spec(name, Kind.RETRIABLE, does, more)


def n(name: str = "n", does: Does = Barrier.bare, **more: Any) -> Spec:  # noqa: ANN401 - as above
    return _spec(name, Kind.NEUTRAL, does, more)


def _spec(name: str, kind: Kind, does: Does, more: dict[str, Any]) -> Spec:
    for edges in ("reads", "after"):
        if isinstance(more.get(edges), str):
            more[edges] = tuple(more[edges].split())
    return Spec(name, kind, does, **more)


def calls(does: Operation[..., Any, Any], name: str) -> Callable[..., Any]:
    """A builder of one call."""

    def build(_input: str, *_replies: object) -> object:
        return does(name)

    return build


def many(*items: str, does: Operation[..., Any, Any] = Barrier.act) -> Callable[..., Any]:
    """A builder of one call per item."""

    def build(_input: str, *_replies: object) -> object:
        return {item: does(item) for item in items}

    return build


def gives(value: object) -> Callable[..., Any]:
    """A builder that returns, or raises, this."""

    def build(_input: str, *_replies: object) -> object:
        if isinstance(value, BaseException):
            raise value
        return value

    return build


def saga_of(specs: Iterable[Spec], *, name: str = "s", notice: Callable[..., Any] | None = None) -> Saga[str]:
    saga = Saga(name, str)
    made: dict[str, Step[str, Any]] = {}
    for spec in specs:
        function = _named(spec.does, spec.name)
        declare: Any = getattr(saga, spec.kind.value)
        step = declare(
            *(made[each] for each in spec.reads), after=[made[each] for each in spec.after], policy=spec.policy
        )(function)
        step.undo = spec.undo
        made[spec.name] = step
    if notice is not None:
        saga.notices.append(notice)
    return saga


def _named(does: Any, name: str) -> Any:  # noqa: ANN401 - builders of every shape
    function: Any = calls(does, name) if isinstance(does, Operation) else does  # pyright: ignore[reportUnknownArgumentType]
    function.__name__ = name
    return function


def definition_of(*specs: Spec, notice: Callable[..., Any] | None = None, checked: bool = False) -> Definition:
    """Unchecked on purpose: calls without a barrier can be decided on before they can be sent."""
    saga = saga_of(specs, notice=notice)
    return define(saga, CODEC) if checked else Definition(saga, CODEC)


ME: Final = Who("ann", "because")


class Story:
    """One run, told command by command. `last` holds the facts of the last command, `refused` its refusal."""

    def __init__(
        self,
        *specs: Spec,
        deadline: float | None = None,
        notice: Callable[..., Any] | None = None,
        checked: bool = False,
    ) -> None:
        self.definition = definition_of(*specs, notice=notice, checked=checked)
        self.now = BEGIN
        self.epoch = 1
        due = None if deadline is None else BEGIN + int(deadline * MICROSECONDS)
        first = start(self.definition, StartRun(self.now, self.epoch, "run-1", b'"x"', due))
        self.record: RunRecord = first.record
        self.events: list[Event] = list(first.events)
        self.last: tuple[Event, ...] = first.events
        self.refused: Refusal | None = None
        self.folded: RunRecord | None = None
        self.turned = self.ended = False
        self.check_history()

    # -- telling

    def do(self, command: Command) -> "Story":
        """Decide a command and take its facts in."""
        before = deepcopy(self.record)
        given = self.record
        decision = decide(self.definition, given, command)
        assert given == before, "decide changed the record it was given"
        if isinstance(decision, Refusal):
            self.refused, self.last = decision, ()
            return self
        self.refused = None
        self.last = decision.events
        self.record = decision.record
        self.events += decision.events
        self.check_history()
        return self

    def check_history(self) -> None:
        """What must hold after every command; only new facts are looked at, so a story stays linear in its length."""
        for event in self.last:
            name = type(event).__name__
            assert event.at >= (self.folded.at if self.folded else 0), "time went back"
            assert name != "Aborted" or not self.turned, "the run turned twice"
            assert name != "CompensationRequested" or self.turned, "undone before the run turned back"
            assert not self.ended or name in ALLOWED_AFTER_THE_END, "an end was rewritten"
            self.turned = self.turned or name == "Aborted"
            self.ended = self.ended or name in {"RunEnded", "Abandoned"}
            self.folded = evolve(self.folded, event)
        assert self.folded == self.record, "the facts don't fold to the decision's record"
        assert self.record.length == len(self.events)
        assert self.owed == self.owed

    def wait(self, seconds: float) -> "Story":
        self.now += int(seconds * MICROSECONDS)
        return self

    @property
    def owed(self) -> Owed:
        return owed(self.definition, self.record, self.now, self.epoch)

    @property
    def sends(self) -> list[str]:
        """`step:phase` or `step/item:phase` of everything due now, in order."""
        return [f"{each.step}{'/' * bool(each.item)}{each.item}:{each.phase.value}" for each in self.owed.sends]

    def reply(
        self,
        step: str,
        came: Outcome,
        *,
        phase: Phase = Phase.ACTION,
        item: str = "",
        attempt: int | None = None,
        epoch: int | None = None,
    ) -> "Story":
        """An answer, as the engine would bring it: when the call is due, and after the log knows of it."""
        if step == NOTICE:
            tries = self.record.notice
        else:
            found = self.record.item(step, item)
            tries = None if found is None else found.tries(phase)
        if attempt is None and epoch is None and tries is not None and tries.due is not None:
            self.now = max(self.now, tries.due)
            if step != NOTICE and self._send(step, item, phase).starts:
                self.do(Begin(self.now, self.epoch, step, item, phase))
        if attempt is None:
            attempt = 1 if tries is None else tries.sends + 1
        return self.do(Reply(self.now, self.epoch if epoch is None else epoch, step, item, phase, attempt, came))

    def _send(self, step: str, item: str, phase: Phase) -> Send:
        found = [each for each in self.owed.sends if (each.step, each.item, each.phase) == (step, item, phase)]
        assert len(found) == 1, f"{step}/{item}:{phase} is not owed; owed: {self.sends}"
        return found[0]

    def yes(self, *steps: str, reply: bytes = b'"ok"', **more: Any) -> "Story":  # noqa: ANN401 - as `reply`
        for step in steps:
            self.reply(step, Succeeded(reply), **more)
        return self

    def no(self, step: str, code: str | None = "no-stock", word: str = "rejected", **more: Any) -> "Story":  # noqa: ANN401
        return self.reply(step, SaidNo(code, "said no", word), **more)

    def fails(self, step: str, cause: Cause = Cause.TIMED_OUT, **more: Any) -> "Story":  # noqa: ANN401
        return self.reply(step, Unknown(cause, "?", counted=cause is not Cause.IN_PROGRESS), **more)

    def spends(self, step: str, cause: Cause = Cause.TIMED_OUT, phase: Phase = Phase.ACTION, item: str = "") -> "Story":
        """The same failure until nothing more is tried."""
        for _ in range(2_000):
            found = self.record.item(step, item)
            tries = None if found is None else found.tries(phase)
            if tries is None or tries.due is None:
                return self
            self.fails(step, cause, phase=phase, item=item)
        raise AssertionError(f"{step} is never spent")

    def takes_on(self, step: str, **more: Any) -> "Story":  # noqa: ANN401 - as `reply`
        return self.reply(step, Pending(), **more)

    def halts(self, step: str, reason: str = "key-reused", **more: Any) -> "Story":  # noqa: ANN401 - as `reply`
        return self.reply(step, Halt(StuckReason(reason), "?"), **more)

    def undoes(self, *steps: str, word: str = "succeeded", item: str = "") -> "Story":
        for step in steps:
            self.reply(step, Succeeded(b"null", word), phase=Phase.COMPENSATION, item=item)
        return self

    def due(self, seconds: float = 0) -> "Story":
        return self.wait(seconds).do(Due(self.now, self.epoch))

    def wakes(self) -> "Story":
        """Time passes until the next moment that matters."""
        wake = self.owed.wake
        assert wake is not None, "nothing is waited for"
        self.now = max(self.now, wake)
        return self.do(Due(self.now, self.epoch))

    def adopted(self) -> "Story":
        self.epoch += 1
        return self.do(Adopted(self.now, self.epoch))

    def cancel(self, verb: Literal["cancel", "compensate"] = "cancel") -> "Story":
        return self.do(Cancel(self.now, self.epoch, ME, verb))

    def retry(self, step: str | None = None, item: str | None = None) -> "Story":
        return self.do(RetryStep(self.now, self.epoch, ME, step, item))

    def resolve(
        self,
        step: str,
        how: Literal["succeeded", "rejected", "undone"],
        reply: bytes | None = None,
        item: str | None = None,
    ) -> "Story":
        if how == "succeeded" and reply is None:
            reply = b'"by hand"'
        return self.do(Resolve(self.now, self.epoch, ME, step, how, reply, item))

    def skip(self, step: str, item: str | None = None) -> "Story":
        return self.do(Skip(self.now, self.epoch, ME, step, item))

    def abandon(self) -> "Story":
        return self.do(Abandon(self.now, self.epoch, ME))

    def answer(self, step: str, reply: bytes | None, item: str | None = None) -> "Story":
        return self.do(AnswerQuestion(self.now, self.epoch, ME, step, reply, item))

    # -- checking

    def then(
        self, names: str | None = None, *, run: str | None = None, marks: str | None = None, **states: str
    ) -> "Story":
        """The last command's facts, and where run, marks (`step:phase:reason`) and steps stand."""
        assert self.refused is None, f"refused: {self.refused}"
        if names is not None:
            assert self.names == names.split()
        shown = {step: self.record.step_state(step).value for step in states}
        assert shown == states
        if run is not None:
            assert self.record.state.value == run
        if marks is not None:
            assert self.marks == marks.split()
        return self

    def refuses(self, problem: str, status: int = 409) -> "Story":
        assert self.refused is not None, f"not refused: {self.names}"
        assert (self.refused.problem, self.refused.status) == (problem, status)
        return self

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.last]

    @property
    def marks(self) -> list[str]:
        return [f"{mark.name}:{mark.phase.value}:{mark.reason}" for mark in self.record.marks.values()]

    def items(self, step: str) -> dict[str, str]:
        return {item.item: item.state.value for item in self.record.steps[step].items.values()}

    @property
    def outcome(self) -> RunOutcome:
        return outcome(self.definition, self.record)

    def tries(self, step: str, item: str = "") -> Tries:
        """The life of an action's key."""
        found = self.record.steps[step].items[item].action
        assert found is not None
        return found

    def last_of(self, kind: type[Any]) -> Any:  # noqa: ANN401 - the event of that class
        return next(event for event in reversed(self.events) if isinstance(event, kind))


def policy(
    on_unknown: Literal["compensate", "settle", "stuck"] | None = None, attempts: int | None = None, hours: int = 24
) -> Policy:
    given = Tried(attempts_max=attempts if attempts is not None else 8, give_up_after=timedelta(hours=hours))
    return replace(Policy(on_unknown=on_unknown), retry=given)


def error_of(build: Callable[..., Any], kind: str = "compensable") -> str:
    make = {"compensable": c, "pivot": p}[kind]
    error: str = Story(c("z"), make("hotel", build, after="z")).yes("z").last_of(e.BuildFailed).error
    return error
