"""What services offer and what sagas ask of them: participants, operations, calls.

An `Operation` is declared once, on a `Participant`, and shared by the service and the saga. Calling it builds a
`Call`: the request as data. Nothing in this module sends anything.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import update_wrapper
from typing import (
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Self,
    TypeGuard,
    TypeVar,
    assert_never,
    cast,
    overload,
)

from amends.core.words.codec import TypeForm
from amends.core.words.errors import DefinitionInvalid
from amends.core.words.keys import PUBLIC_NAME
from amends.core.words.retry import Guard
from amends.core.words.values import value

P = ParamSpec("P")
Q = TypeVar("Q")
R = TypeVar("R")
Q_co = TypeVar("Q_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)

AT_ONCE_DEFAULT: Final = 64
"""Calls in flight per participant and process."""

LATE_AFTER_DEFAULT: Final = timedelta(hours=1)
"""How long a request without a barrier may still be on its way before "nothing there" means "never"."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question to a person, answered within some time or never."""

    reply_type: Any
    question: str
    within: timedelta


@dataclass(frozen=True, slots=True)
class Slept:
    """A durable timer: for a while, or until a moment."""

    until: timedelta | datetime


@value
class RequestCall:
    """A request to an operation of a participant."""

    operation: "Operation[..., Any, Any]"
    request: object


CALLS_BUILT: Final[ContextVar["list[Call[Any]] | None"]] = ContextVar("amends_calls_built", default=None)
"""The calls built while a builder runs: two under one name in a dict would otherwise lose one without a word."""


class Call(Generic[R_co]):
    """A request as data. Building one sends nothing."""

    __slots__ = ("what",)

    def __init__(self, what: RequestCall | Question | Slept) -> None:
        self.what = what
        built = CALLS_BUILT.get()
        if built is not None:
            built.append(self)

    @property
    def operation(self) -> str:
        """`participant.operation`, or `ask` and `sleep` for the built-in calls."""
        match self.what:
            case RequestCall(operation=operation):
                return f"{operation.participant}.{operation.name}"
            case Question():
                return "ask"
            case Slept():
                return "sleep"
            case _ as never:
                assert_never(never)

    def _reply(self) -> R_co:
        """Ties the reply's type to the call, for type checkers only."""
        msg = "a call is a request; it has no reply"
        raise TypeError(msg)

    def __repr__(self) -> str:
        return f"<Call {self.operation}>"


def is_call(value: object) -> TypeGuard[Call[Any]]:
    """Whether a builder gave a call."""
    return isinstance(value, Call)


@dataclass(frozen=True, slots=True)
class Undo(Generic[Q_co, R_co]):
    """What a compensation is told: the body of every compensation request.

    `reply` is `None` where the orchestrator never saw it (`reply_known` is then false); behind a barrier the
    participant's own stored reply is filled in before the handler runs.
    """

    request: Q_co
    reply: R_co | None
    reply_known: bool
    reason: str

    @property
    def made(self) -> R_co:
        """The action's reply; `LookupError` where it isn't known, which a handler behind a barrier never sees."""
        if self.reply is None:
            msg = "the reply of the action is not known"
            raise LookupError(msg)
        return self.reply


@dataclass(frozen=True, slots=True)
class Rest:
    """One request of an API that never heard of us. Braces are looked up in `request`, `reply` and `key`.

    This version can describe such a request, but not send it yet: a saga that calls an operation with a `Rest` is
    refused when it is loaded, or when the call is built. Call the API from a `Service` of your own, or a local step.

    `resend`: `with-key` repeats under the same key while it is kept, `always` repeats (idempotent by method), `never`
    sends once. Statuses: `again` is no answer yet, `rejected` a definite no, `absent` (probe) nothing there, `undone`
    (undo) already gone.
    """

    line: str
    encode: Literal["json", "form", "none"] = "json"
    body: Mapping[str, str] | None = None
    key_header: str | None = None
    key_kept: timedelta | None = None
    resend: Literal["with-key", "always", "never"] | None = None
    again: Sequence[int] = ()
    rejected: Sequence[int] = ()
    absent: Sequence[int] = ()
    undone: Sequence[int] = ()
    reply: str = ""

    @property
    def guard(self) -> Guard:
        """What may be assumed of repeats."""
        resend = self.resend
        if resend is None:
            method = self.line.partition(" ")[0].upper()
            resend = "with-key" if self.key_header else "always" if method in {"GET", "PUT", "DELETE"} else "never"
        return Guard.ONCE if resend == "never" else Guard.IDEMPOTENT


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates towards a participant, as PEM files: the authority that signed its own (`None`: the system's), and
    ours, where it asks for authentication.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class CircuitLimits:
    """When a participant counts as down: after `failures` in a row `within` this time nothing more is sent to it, but
    for one call every `probe_every`, until one is answered.
    """

    failures: int = 20
    within: timedelta = timedelta(seconds=10)
    probe_every: timedelta = timedelta(seconds=5)

    def __post_init__(self) -> None:
        if self.failures < 1 or self.within <= timedelta() or self.probe_every <= timedelta():
            msg = f"{self}: expected at least one failure, and times above zero"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a participant is: a URL, a `Service`, an ASGI application.

    `at_once` bounds its calls in flight, `per_second` how many are begun a second (`None`: any number).
    """

    participant: str
    where: object
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    at_once: int = AT_ONCE_DEFAULT
    tls: Tls | None = None
    circuit: CircuitLimits = field(default_factory=CircuitLimits)
    per_second: float | None = None


class Operation(Generic[P, Q, R]):
    """A request/reply pair of a participant. Calling it builds the request from its fields and gives a `Call`."""

    def __init__(
        self,
        request: Callable[P, Q],
        reply: TypeForm,
        *,
        name: str | None,
        compensation: str | Rest | None,
        rest: Rest | None,
        probe: Rest | None,
        late_after: timedelta,
    ) -> None:
        self.request_type: Callable[P, Q] = request
        self.reply_type: Any = reply
        self.name = name or ""
        self.participant = ""
        self.owner = ""
        self.compensation = compensation
        self.rest = rest
        self.probe = probe
        self.late_after = late_after
        self.undone_by: Operation[..., Any, Any] | None = None
        """The operation that `compensation` names, where the participant declares one."""
        self.guard: Final = Guard.BARRIER if rest is None else rest.guard
        """What the participant promises about repeats of this call."""

    @property
    def label(self) -> str:
        """`Payments.hold`, as its author wrote it."""
        return f"{self.owner}.{self.name}"

    @property
    def uncallable(self) -> str | None:
        """Why this version can't call it, and what to do instead; `None` if it can."""
        if not self.participant:
            name = self.name or "the operation"
            return f"{name} belongs to no participant. Declare it in the body of a class that derives from Participant."
        described = (self.rest, self.probe, self.compensation, self.undone_by and self.undone_by.rest)
        if any(isinstance(each, Rest) for each in described):
            return (
                f"{self.label} is described by Rest, which this version can't send yet. Call it from a Service of your "
                "own, or from a local step."
            )
        return None

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = self.name or name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """A call with the request made of these fields."""
        return self.of(self.request_type(*args, **kwargs))

    def of(self, request: Q) -> Call[R]:
        """A call with a ready request."""
        return Call(RequestCall(self, request))

    def __repr__(self) -> str:
        return f"<operation {self.participant}.{self.name}>"


@overload
def operation(
    request: Callable[P, Q],
    /,
    *,
    name: str | None = None,
    compensation: str | Rest | None = None,
    rest: Rest | None = None,
    probe: Rest | None = None,
    late_after: timedelta = LATE_AFTER_DEFAULT,
) -> Operation[P, Q, None]: ...
@overload
def operation(
    request: Callable[P, Q],
    reply: type[R],
    /,
    *,
    name: str | None = None,
    compensation: str | Rest | None = None,
    rest: Rest | None = None,
    probe: Rest | None = None,
    late_after: timedelta = LATE_AFTER_DEFAULT,
) -> Operation[P, Q, R]: ...
def operation(
    request: Callable[..., Any],
    reply: Any = None,
    /,
    *,
    name: str | None = None,
    compensation: str | Rest | None = None,
    rest: Rest | None = None,
    probe: Rest | None = None,
    late_after: timedelta = LATE_AFTER_DEFAULT,
) -> Operation[..., Any, Any]:
    """Declare an operation: the type of its request, of its reply, and the name of the operation that undoes it.

    `name` is the last part of its URL (default: the attribute's name). `rest` and `probe` describe an API that can't be
    changed; this version doesn't send them yet (see `Rest`).
    """
    return Operation(
        request, reply, name=name, compensation=compensation, rest=rest, probe=probe, late_after=late_after
    )


class Participant:
    """Subclass it and list the operations; the class is the namespace, it is never instantiated.

    Its name is the class's in kebab-case (`OldHotel` is `old-hotel`) unless given: `class OldHotel(Participant,
    name="h")`.
    """

    _name: ClassVar[str]
    _operations: ClassVar[Mapping[str, Operation[..., Any, Any]]]

    def __init_subclass__(cls, *, name: str | None = None) -> None:
        super().__init_subclass__()
        cls._name = name or _kebab(cls.__name__)
        if PUBLIC_NAME.fullmatch(cls._name) is None:
            msg = f"participant {cls.__qualname__}: {cls._name!r} is no name for one: expected {PUBLIC_NAME.pattern}."
            raise DefinitionInvalid([msg])
        found: dict[str, Operation[..., Any, Any]] = {}
        for base in reversed(cls.__mro__):
            for attribute in vars(base).values():
                if isinstance(attribute, Operation):
                    each = cast("Operation[..., Any, Any]", attribute)
                    each.participant = cls._name
                    each.owner = cls.__name__
                    found[each.name] = each
        for each in found.values():
            each.undone_by = found.get(each.compensation) if isinstance(each.compensation, str) else None
        cls._operations = found

    def __new__(cls) -> Self:
        """Refused; not typed `NoReturn`, or mypy would take the class for a function that never returns."""
        msg = f"{cls.__name__} is a list of operations: call them on the class, it is never instantiated"
        raise TypeError(msg)

    @classmethod
    def at(
        cls,
        where: object,
        /,
        *,
        headers: Mapping[str, str] | None = None,
        at_once: int = AT_ONCE_DEFAULT,
        circuit: CircuitLimits | None = None,
    ) -> Route:
        """Where this participant is. `headers` is read for every request, so a refreshing token is a mapping.

        `circuit` says when it counts as down (default: 20 failures in a row within 10 s, then one call every 5 s).
        """
        return Route(cls._name, where, headers, at_once, circuit=circuit or CircuitLimits())


def name_of(participant: type[Participant]) -> str:
    """The participant's name in routes, settings and views."""
    return participant._name  # noqa: SLF001 - kept off the namespace of operations # pyright: ignore[reportPrivateUsage]


def operations_of(participant: type[Participant]) -> Mapping[str, Operation[..., Any, Any]]:
    """The participant's operations by their names on the wire."""
    return participant._operations  # noqa: SLF001 - as above # pyright: ignore[reportPrivateUsage]


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


def ask(reply: type[R], question: str, *, within: timedelta) -> Call[R]:
    """Ask a person. Answered by `answer`, declined by `decline`; no answer `within` that time is a no (`no-answer`)."""
    return Call(Question(reply, question, within))


def sleep(duration: timedelta) -> Call[None]:
    """Wait, durably: one row with a due time, no memory."""
    return Call(Slept(duration))


def sleep_until(moment: datetime) -> Call[None]:
    """Wait until a moment that carries its time zone."""
    if moment.tzinfo is None:
        msg = "sleep_until needs a moment with a time zone: datetime(..., tzinfo=UTC)"
        raise ValueError(msg)
    return Call(Slept(moment))


class Blocking(Generic[P, R]):
    """A plain function marked as one that blocks: run on a thread when it is a step's work."""

    def __init__(self, work: Callable[P, R]) -> None:
        self.work = work
        update_wrapper(self, work)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do the work right here; a runner calls `work` on a thread instead."""
        return self.work(*args, **kwargs)


def blocking(work: Callable[P, R]) -> Callable[P, Awaitable[R]]:
    """Say that a step's plain function does the work itself and blocks; it is run on a thread."""
    return Blocking(work)
