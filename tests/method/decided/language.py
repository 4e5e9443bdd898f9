"""What is asked of a run and what is decided, as lines of text that a person can read and a test can compare.

A file of decisions holds stories of one saga. A line with `+` is a command that was taken in: seconds since the one
before it, the epoch it came with (0: a visitor's), and what was asked or answered. A line with `?` is one that might
have come instead. Under each stands what follows from it: the facts, with `:` what changed in the record, with `>` what
is owed now. Times are seconds since the run began.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, cast

from amends.core.run.answers import Cause, Halt, Outcome, Pending, SaidNo, Succeeded, Unknown
from amends.core.run.callback import heard
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
from amends.core.run.definition import Definition
from amends.core.run.events import EVENT_TYPES, Event, Quarantined, Request, Who
from amends.core.run.evolve import evolve, fold
from amends.core.run.owed import Send, owed, withdrawable
from amends.core.run.record import ItemRecord, RunRecord, Tries, TurnedBack
from amends.core.run.summary import outcome
from amends.core.words.keys import Phase, unit_name
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import MICROSECONDS

BEGAN: Final = 1_700_000_000 * MICROSECONDS
ANN: Final = Who("ann", "because")
NAMES: Final = frozenset({"reply-needed", "item-needed", "no-such-step"})
"""Refusals whose text is told as well: it names what is meant. The others' are for people, and may be worded anew."""
PLACE: Final = re.compile(r"\((?:[^()]*/)?([^/()]+\.py):\d+\)")
"""Where a builder failed: its line isn't what is decided."""


@dataclass(frozen=True)
class Asked:
    """A command as it is written: `after` microseconds since the one before."""

    after: int
    epoch: int
    words: str

    def __str__(self) -> str:
        return f"+{_seconds(self.after)} @{self.epoch} {self.words}"

    @classmethod
    def read(cls, line: str) -> "Asked":
        after, epoch, words = line.removeprefix("+").split(" ", 2)
        return cls(int(Decimal(after) * MICROSECONDS), int(epoch.removeprefix("@")), words)


@dataclass(frozen=True)
class Moment:
    """A run as it stands; `None` in `record`: it hasn't begun."""

    definition: Definition
    now: int = BEGAN
    record: RunRecord | None = None
    events: tuple[Event, ...] = ()
    owes: tuple[str, ...] = ()
    flat: tuple[tuple[str, str], ...] = ()

    def after(self, asked: Asked) -> "tuple[Moment, list[str]]":
        """The run after a command, and what is told of it."""
        now = self.now + asked.after
        if asked.words.startswith("quarantined "):
            decided: Refusal | tuple[Event, ...] = (Quarantined(now, asked.epoch, asked.words.partition(" ")[2]),)
            command: Command | None = None
        else:
            command = command_of(asked, now)
            decided = self._decide(command)
        if isinstance(decided, Refusal):
            named = f": {decided.detail}" if decided.problem in NAMES else ""
            return self, [f"{decided.status} {decided.problem}{named}"]
        events = (*self.events, *decided)
        record = self.record
        for event in decided:
            record = evolve(record, event)
        assert record is not None
        told = [*_facts(decided, now, asked.epoch)]
        told = told or ["nothing"]
        if isinstance(command, Reply) and self.record is not None:
            told[-1] += _heard(self.record, command, decided)
        flat = tuple(flattened(self.definition, record).items())
        owes = tuple(owes_of(self.definition, record, now, asked.epoch))
        told += [f": {line}" for line in _changes(dict(self.flat), dict(flat))]
        told += [f"> {line}" for line in owes if line not in self.owes and "#" in line]
        less = [f"no more {line.partition(' since')[0]}" for line in self.owes if line not in owes and "#" in line]
        if less or owes[-1:] != self.owes[-1:]:
            told.append(f"> {', '.join((owes[-1], *less))}")
        return Moment(self.definition, now, record, events, owes, flat), told

    def _decide(self, command: Command) -> Refusal | tuple[Event, ...]:
        if isinstance(command, StartRun):
            return start(self.definition, command).events
        assert self.record is not None
        decided = decide(self.definition, self.record, command)
        if isinstance(decided, Refusal):
            return decided
        assert decided.record == fold((*self.events, *decided.events)), "the facts don't fold to the decision's record"
        return decided.events


# -- commands


def command_of(asked: Asked, now: int) -> Command:
    """A command as it is written."""
    verb, _, rest = asked.words.partition(" ")
    at, epoch = now, asked.epoch
    match verb:
        case "start":
            limit = int(rest.removeprefix("deadline=")) if rest else None
            return StartRun(at, epoch, "run-1", b'"x"', None if limit is None else at + limit * MICROSECONDS)
        case "due":
            return Due(at, epoch)
        case "adopted":
            return Adopted(at, epoch)
        case "begin":
            called = _call(f"{rest}#0")
            return Begin(at, epoch, called.step, called.item, called.phase)
        case "cancel" | "compensate":
            return Cancel(at, epoch, ANN, verb)
        case "abandon":
            return Abandon(at, epoch, ANN)
        case "retry" | "skip" | "answer" | "decline" | "resolve":
            return _verb(at, epoch, verb, rest)
        case _:
            called = _call(verb)
            return Reply(at, epoch, called.step, called.item, called.phase, called.attempt, _outcome(rest))


def _verb(at: int, epoch: int, verb: str, rest: str) -> Command:
    """What a person asks of a step or an item."""
    unit, _, more = rest.partition(" ")
    step, item = _unit(unit)
    match verb:
        case "retry":
            return RetryStep(at, epoch, ANN, step or None, item)
        case "skip":
            return Skip(at, epoch, ANN, step, item)
        case "decline":
            return AnswerQuestion(at, epoch, ANN, step, None, item)
        case "answer":
            return AnswerQuestion(at, epoch, ANN, step, more.encode(), item)
        case _:
            how, _, reply = more.partition(" ")
            known = cast("Literal['succeeded', 'rejected', 'undone']", how)
            return Resolve(at, epoch, ANN, step, known, reply.encode() if reply else None, item)


class _Called(NamedTuple):
    step: str
    item: str
    phase: Phase
    attempt: int


def _unit(text: str) -> tuple[str, str | None]:
    step, slash, item = text.partition("/")
    return step, item if slash else None


def _call(text: str) -> _Called:
    unit, _, rest = text.partition(":")
    phase, _, attempt = rest.partition("#")
    step, item = _unit(unit)
    return _Called(step, item or "", Phase(phase), int(attempt))


def _outcome(text: str) -> Outcome:
    word, *rest = text.split(" ")
    match word:
        case "yes":
            return Succeeded(rest[0].encode())
        case "yes-noop" | "yes-blocked":
            return Succeeded(b"null", word.removeprefix("yes-"))
        case "no":
            return SaidNo(rest[1] if len(rest) > 1 else None, "said no", rest[0])
        case "later":
            return Pending()
        case "unknown":
            wait = next((int(each.removeprefix("wait=")) for each in rest if each.startswith("wait=")), 0)
            return Unknown(Cause(rest[0]), f"it was {rest[0]}", wait * MICROSECONDS, counted="free" not in rest)
        case _:
            return Halt(StuckReason(rest[0]), "halted", rest[1] if len(rest) > 1 else None)


# -- what is told


def _seconds(microseconds: int) -> str:
    return f"{Decimal(microseconds) / MICROSECONDS:f}"


def _moment(at: int | None) -> str:
    return "-" if at is None else _seconds(at - BEGAN)


_TIMES: Final = frozenset(
    {"at", "next_due", "answer_due", "due_at", "deadline", "since", "due", "last_end", "budget_from"}
)
_TIMES_TOO: Final = frozenset({"created_at", "ended_at"})


def _shown(name: str, value: object) -> str:
    match value:
        case int() if name in _TIMES | _TIMES_TOO and not isinstance(value, bool):
            return _moment(value)
        case bytes():
            return value.decode()
        case Who(by=by, reason=reason):
            return f"{by}({reason})"
        case Request():
            return f"[{_named(value, value.item, 'item')}]"
        case tuple():
            return ",".join(_shown("", each) for each in cast("tuple[object, ...]", value))
        case Tries():
            return _named(value, "", "")
        case _:
            return PLACE.sub(r"(\1)", str(value))


def _named(value: Any, first: str, *leave: str) -> str:  # noqa: ANN401 - any value with fields
    told = [first] if first else []
    for each in fields(value):
        known: object = getattr(value, each.name)
        if each.name in {*leave, "digest"} or known is None or known is False or known in {"", ()}:
            continue
        told.append(each.name if known is True else f"{each.name}={_shown(each.name, known)}")
    return " ".join(told)


def _facts(events: tuple[Event, ...], now: int, epoch: int) -> Iterator[str]:
    for event in events:
        assert type(event) in EVENT_TYPES
        unit = unit_name(getattr(event, "step", "") or "", getattr(event, "item", ""))
        leave = ["step", "item"]
        leave += ["at"] if event.at == now else []
        leave += ["epoch"] if event.epoch == epoch else []
        yield f"{type(event).__name__} {_named(event, unit, *leave)}".rstrip()


def _heard(before: RunRecord, reply: Reply, events: tuple[Event, ...]) -> str:
    item = before.item(reply.step, reply.item)
    return "" if item is None else f" ({heard(before, item, reply.phase, reply.outcome, events).value})"


def owes_of(definition: Definition, record: RunRecord, now: int, epoch: int) -> Iterator[str]:
    """What is owed by now, and the moment that is waited for."""
    owes = owed(definition, record, now, max(epoch, 1))
    for send in owes.sends:
        yield _send(send)
    yield f"wake {_moment(owes.wake)}"


def _send(send: Send) -> str:
    leave = ("step", "item", "phase", "attempt", "timeout", "since")
    call = f"{unit_name(send.step, send.item)}:{send.phase.value}#{send.attempt}"
    return f"{call} since={_moment(send.since)} {_named(send, '', *leave)} timeout={_seconds(send.timeout)}"


def flattened(definition: Definition, record: RunRecord) -> Mapping[str, str]:
    """Everything that a record says, by place."""
    leave = {
        "run",
        "saga",
        "version",
        "by",
        "created_at",
        "steps",
        "marks",
        "input",
        "digest",
        "length",
        "at",
        "deadline",
    }
    known: dict[str, str] = {"run state": record.state.value}
    for each in fields(record):
        if each.name not in leave:
            _put(known, f"run {each.name}", each.name, getattr(record, each.name))
    for name in ("notice_open", "hurries_pivot", "backward"):
        _put(known, f"run {name}", name, getattr(record, name))
    told = outcome(definition, record)
    text = f"{_shown('', told)}{_named(told, ' ', *_TOLD)}"
    known["run told"] = f"<{' '.join(text.split())}>"
    for step in record.steps.values():
        alone = list(step.items) == [""]
        if not alone or step.state is not step.items[""].state:
            known[f"{step.name} step"] = f"{step.state.value} {step.shape}{' settled' if step.settled else ''}"
        elif step.settled:
            known[f"{step.name} settled"] = "settled"
        for item in step.items.values():
            _item(known, item, definition, record)
    for mark in record.marks.values():
        known[f"mark {mark.name}:{mark.phase.value}"] = _named(mark, "", "step", "item", "phase")
    return known


_TOLD: Final = ("run", "read", "reason", "state", "current", "steps", "undone", "phase", "by")
"""What the text says already, of what is told of a run."""


def _item(known: dict[str, str], item: ItemRecord, definition: Definition, record: RunRecord) -> None:
    name = item.name
    known[f"{name} "] = item.state.value
    for each in fields(item):
        if each.name not in {"step", "item", "state", "request"}:
            _put(known, f"{name} {each.name}", each.name, getattr(item, each.name))
    if withdrawable(definition, record, item.step, item.item):
        known[f"{name} withdrawable"] = "yes"


def _put(known: dict[str, str], place: str, name: str, value: object) -> None:
    if isinstance(value, Tries):
        for each in fields(value):
            if each.name not in {"participant", "operation", "body"}:
                _put(known, f"{place}.{each.name}", each.name, getattr(value, each.name))
    elif isinstance(value, TurnedBack):
        known[place] = f"({_named(value, '')})"
    elif value is not None and value is not False and value not in {"", (), 0}:
        known[place] = "yes" if value is True else _shown(name, value)


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """What changed, a line for each step, item or mark."""
    lines: dict[str, list[str]] = {}
    for place in [*after, *[each for each in before if each not in after]]:
        old, new = before.get(place), after.get(place)
        if old == new:
            continue
        unit, _, what = place.partition(" ")
        if unit == "mark":
            unit, what = place, ""
        change = f"{what}={new}" if what and old is None else f"{what} {old or '-'}>{new or '-'}".strip()
        lines.setdefault(unit, []).append(change)
    for unit, changes in lines.items():
        yield f"{unit}: {', '.join(changes)}"
