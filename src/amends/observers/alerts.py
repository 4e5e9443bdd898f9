"""Alerts by cause: forty runs that are stuck for one reason are one message, however far apart they become stuck.

Marks that come within a moment of each other are gathered. Later marks of a cause that is open already are counted, and
told when the runs are ten times as many or when an hour is over. A cause is open while one of its runs is stuck by it.
A participant that is down is told after a while of it, and again when it is back: no operator has to act, but one may
want to know. What is told goes to webhooks that ask for `alert`, and as one line of JSON to the logger `amends.alerts`.
"""

import json
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TextIO, TypeAlias, TypeGuard

from amends.core.run.definition import Definition
from amends.core.run.record import ItemRecord, Mark, RunRecord, StepState
from amends.core.words.keys import Phase
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import MICROSECONDS, Kind
from amends.core.words.values import value
from amends.core.words.visible import visible, visible_json
from amends.ports.rows import RUN_PHASE, WHOLE_RUN

GATHER_SECONDS: Final = 2.0
"""How long after the first mark of a cause it is told: an outage of one service marks many runs at once."""

DOWN_AFTER_SECONDS: Final = 120.0
"""How long a participant is down before an alert says so."""

AGAIN_SECONDS: Final = 3_600.0
"""How long an open cause is told once. A run that was moved by another process leaves its cause unnoticed here, so an
open cause must not stay silent for ever."""

GROWN: Final = 10
"""An open cause is told again at once when its runs are so many times as many as were told."""

CAUSES_MAX: Final = 1_000
"""Causes that are remembered as open; the one that was told longest ago is forgotten first, and told again."""

ALERT_FIELD: Final = "alert_body"
"""The attribute of a log record that has the alert as an object."""

HELD_MAX: Final = 8
"""Steps that an alert names of one run."""

HIDDEN: Final = "***"
FIELDS_MAX: Final = 3
FIELD_CHARACTERS_MAX: Final = 40

TOLD_MAX: Final = 50_000
RUNS_NAMED_MAX: Final = 20

_LOGGER = logging.getLogger("amends.alerts")


Cause: TypeAlias = tuple[str, str, str, str, str | None]


@value
class StuckMark:
    """One mark of one run, with what an alert says of it. `step` is `""` where the run as a whole is stuck."""

    saga: str
    run: str
    step: str
    phase: str
    reason: str
    code: str | None
    detail: str
    since: int
    participant: str
    took_effect: bool
    else_open: bool
    held: tuple[str, ...] = ()
    """Effects in place, as `reserve (id=r-8812)`."""

    unknown: tuple[str, ...] = ()
    """Calls that may have taken effect."""

    @property
    def cause(self) -> Cause:
        """Runs of one cause are one thing to repair."""
        return self.saga, self.step.partition("/")[0], self.phase, self.reason, self.code


@value
class Alert:
    """One message. `id` is the same wherever it is made; `text` is for people, `fields` for programs."""

    id: str
    kind: str
    saga: str | None
    text: str
    fields: dict[str, Any]

    def body(self) -> dict[str, Any]:
        """As it is sent and logged."""
        return {"type": "alert", "alert": self.kind, "id": self.id, **self.fields, "text": self.text}


@value
class AlertLinks:
    """Where to look: the server's public URL, and each saga's runbook."""

    url: str = ""
    runbooks: tuple[tuple[str, str], ...] = ()

    def runbook(self, saga: str) -> str | None:
        """The page that says what to do, if there is one."""
        return dict(self.runbooks).get(saga)


@dataclass(slots=True)
class _Open:
    """A cause that has been told: its runs, how many were told, and when (microseconds UTC)."""

    runs: dict[str, None]
    told: int = 0
    told_at: int = 0


class AlertBook:
    """Remembers what was told. `tell` is given every alert, once."""

    def __init__(
        self,
        tell: Callable[[Alert], None],
        links: AlertLinks | None = None,
        shown: "Shown | None" = None,
        replies: "ShownReply | None" = None,
    ) -> None:
        self._tell = tell
        self._shown = shown or _as_it_is
        self._replies = replies or _no_reply
        self._links = links or AlertLinks()
        self._told: OrderedDict[tuple[str, str, str, int], None] = OrderedDict()
        self._gathered: dict[Cause, list[StuckMark]] = {}
        self._open: OrderedDict[Cause, _Open] = OrderedDict()
        self._causes_of: dict[str, set[Cause]] = {}
        self._down: dict[str, bool] = {}

    @property
    def is_gathering(self) -> bool:
        """Marks wait to be told."""
        return bool(self._gathered)

    def changed(self, definition: Definition, record: RunRecord) -> bool:
        """A record became durable; whether there is a mark in it that wasn't told."""
        if record.ended is not None or not (record.marks or record.quarantined):
            self._close(record.run, frozenset())
            return False
        marks = marks_of(definition, record, self._shown, self._replies)
        self._close(record.run, {mark.cause for mark in marks})
        return self.take(marks)

    def take(self, marks: Iterable[StuckMark]) -> bool:
        """Gather those that weren't told yet."""
        new = False
        for mark in marks:
            key = (mark.run, mark.step, mark.phase, mark.since)
            if key in self._told:
                continue
            self._told[key] = None
            if len(self._told) > TOLD_MAX:
                self._told.popitem(last=False)
            self._gathered.setdefault(mark.cause, []).append(mark)
            new = True
        return new

    def flush(self, now: int = 0) -> None:
        """Tell what was gathered (`now` in microseconds UTC), a message per cause that is news."""
        gathered, self._gathered = self._gathered, {}
        for cause, marks in gathered.items():
            cause_open = self._open.setdefault(cause, _Open({}))
            for mark in marks:
                cause_open.runs[mark.run] = None
                self._causes_of.setdefault(mark.run, set()).add(cause)
            if cause_open.told and not self._is_news(cause_open, now):
                continue
            again = cause_open.told > 0
            cause_open.told, cause_open.told_at = len(cause_open.runs), now
            self._open.move_to_end(cause)
            ordered = sorted(marks, key=lambda mark: mark.since)
            self._tell(stuck_alert(ordered, self._links, list(cause_open.runs) if again else ()))
        while len(self._open) > CAUSES_MAX:
            forgotten, was_open = self._open.popitem(last=False)
            for run in was_open.runs:
                self._left(run, forgotten)

    @staticmethod
    def _is_news(cause: _Open, now: int) -> bool:
        over = now - cause.told_at >= AGAIN_SECONDS * MICROSECONDS
        return over or len(cause.runs) >= GROWN * cause.told

    def _close(self, run: str, still: Collection[Cause]) -> None:
        """The run isn't stuck by other causes than these any more; a cause without runs is over."""
        for cause in [each for each in self._causes_of.get(run, ()) if each not in still]:
            self._left(run, cause)
            was_open = self._open.get(cause)
            if was_open is not None:
                was_open.runs.pop(run, None)
                if not was_open.runs:
                    del self._open[cause]

    def _left(self, run: str, cause: Cause) -> None:
        causes = self._causes_of.get(run, set())
        causes.discard(cause)
        if not causes:
            self._causes_of.pop(run, None)

    def stands(self, participant: str, down_since: int | None, now: int, waiting: Callable[[], "WaitingRuns"]) -> None:
        """How a participant stands; told when it has been down for a while, and when it is back after that."""
        if down_since is None:
            if self._down.pop(participant, False):
                self._tell(back_alert(participant, now))
            return
        long = now - down_since >= DOWN_AFTER_SECONDS * MICROSECONDS
        if long and not self._down.get(participant):
            self._down[participant] = True
            self._tell(down_alert(participant, down_since, waiting(), self._links))


Shown = Callable[[Definition, RunRecord, str], str]
"""What a service said, without what the run's input hides."""


def _as_it_is(_definition: Definition, _record: RunRecord, text: str) -> str:
    return text


ShownReply = Callable[[Definition, RunRecord, ItemRecord], bytes | None]
"""The reply of an action as JSON in which what is redacted is `***`; `None`: there is none to show."""


def _no_reply(_definition: Definition, _record: RunRecord, _item: ItemRecord) -> bytes | None:
    return None


def marks_of(
    definition: Definition, record: RunRecord, shown: Shown, replies: ShownReply = _no_reply
) -> list[StuckMark]:
    """Why a run is stuck, as alerts tell it."""
    if record.quarantined is not None:
        return [
            StuckMark(
                saga=record.saga,
                run=record.run,
                step=WHOLE_RUN,
                phase=RUN_PHASE,
                reason=record.quarantined,
                code=None,
                detail="",
                since=record.at,
                participant="",
                took_effect=False,
                else_open=False,
            )
        ]
    effects = _effects(definition, record, shown, replies)
    return [
        _stuck_mark(definition, record, mark, shown(definition, record, mark.detail), effects)
        for mark in record.marks.values()
    ]


def _effects(
    definition: Definition, record: RunRecord, shown: Shown, replies: ShownReply
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a run holds, and what of it may have taken effect without an answer that says so."""
    held: list[str] = []
    unknown: list[str] = []
    for item in record.items():
        known = definition.steps.get(item.step)
        if known is None or known.kind is Kind.NEUTRAL or item.request is None:
            continue
        match item.state:
            case StepState.DONE:
                held.append(
                    _named(item, replies(definition, record, item), lambda text: shown(definition, record, text))
                )
            case StepState.COMPENSATING if item.reply is not None:
                held.append(
                    _named(item, replies(definition, record, item), lambda text: shown(definition, record, text))
                )
            case StepState.ACTING | StepState.UNKNOWN | StepState.COMPENSATING if _may_have_left(item):
                unknown.append(item.name)
            case _:
                pass
    return tuple(held), tuple(unknown)


def _may_have_left(item: ItemRecord) -> bool:
    tries = item.action
    return (
        tries is not None
        and item.request is not None
        and (tries.tainted or tries.is_open or tries.pending or item.behind_barrier)
    )


def _is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, dict)


def _named(item: ItemRecord, reply_json: bytes | None, shown: Callable[[str], str]) -> str:
    """`reserve (id=r-8812)`: the plain fields of its reply that may be shown."""
    reply: object = None if reply_json is None else json.loads(reply_json)
    fields = reply.items() if _is_object(reply) else ()
    told = [
        f"{name}={each if isinstance(each, str) else json.dumps(each)}"[:FIELD_CHARACTERS_MAX]
        for name, each in fields
        if isinstance(each, str | int | float) and each != HIDDEN
    ][:FIELDS_MAX]
    return visible(f"{item.name} ({shown(', '.join(told))})") if told else item.name


def _stuck_mark(
    definition: Definition,
    record: RunRecord,
    mark: Mark,
    detail: str,
    effects: tuple[tuple[str, ...], tuple[str, ...]],
) -> StuckMark:
    item = record.item(mark.step, mark.item)
    tries = None if item is None else item.tries(mark.phase) or item.action
    others = [each for each in record.items() if each is not item and not record.item_has_mark(each)]
    busy = {StepState.ACTING, StepState.UNKNOWN, StepState.COMPENSATING}
    known = definition.steps.get(mark.step)
    return StuckMark(
        saga=record.saga,
        run=record.run,
        step=mark.name,
        phase=mark.phase.value,
        reason=mark.reason,
        code=mark.code,
        detail=detail,
        since=mark.since,
        participant="" if tries is None else tries.participant,
        took_effect=item is not None
        and item.reply is not None
        and known is not None
        and known.kind is not Kind.NEUTRAL,
        else_open=any(each.state in busy for each in others),
        held=effects[0],
        unknown=effects[1],
    )


# -- texts


def stuck_alert(marks: Sequence[StuckMark], links: AlertLinks, all_runs: Sequence[str] = ()) -> Alert:
    """`amends: 2 place-order runs are STUCK undoing reserve`. `all_runs`: of a cause that is told again."""
    first = marks[0]
    step = first.step.partition("/")[0]
    runs = list(dict.fromkeys([*all_runs, *(mark.run for mark in marks)]))
    are = f"{len(runs)} {first.saga} runs are" if len(runs) > 1 else f"1 {first.saga} run is"
    told = [
        f"amends: {are} STUCK{_at(first)}",
        f"{_says(first)}{_more(len(runs) - 1)}. First {_clock(first.since)} UTC.",
    ]
    told += [_effect(first, len(runs)), _look("amends stuck", links.url and f"{links.url}/stuck?{_query(first)}")]
    book = links.runbook(first.saga)
    if book is not None:
        told.append(f"Book:   {book}" + (f"#{step}-{first.phase}" if step else ""))
    fields: dict[str, Any] = {
        "saga": first.saga,
        "step": step,
        "phase": first.phase,
        "reason": first.reason,
        "code": first.code,
        "detail": first.detail or None,
        "count": len(runs),
        "runs": runs[:RUNS_NAMED_MAX],
        "first": runs[0],
        "held": list(first.held[:HELD_MAX]),
        "unknown": list(first.unknown[:HELD_MAX]),
        "since": _moment(first.since),
    }
    return Alert(f"stuck:{first.run}:{first.step}:{first.since}", "stuck", first.saga, "\n".join(told), fields)


def _at(mark: StuckMark) -> str:
    match mark.phase:
        case _ if mark.phase == RUN_PHASE:
            return ""
        case Phase.COMPENSATION.value:
            return f" undoing {mark.step.partition('/')[0]}"
        case Phase.ACTION.value:
            return f" at {mark.step.partition('/')[0]}"
        case _:
            return f" settling {mark.step.partition('/')[0]}"


def _says(mark: StuckMark) -> str:
    who = mark.participant or "amends"
    said = " ".join(part for part in (mark.code or "", f'"{mark.detail}"' if mark.detail else "") if part)
    cannot = (
        f"{who} says it can't: "
        if mark.reason == StuckReason.CANNOT_COMPENSATE
        else f"{who}: "
        if mark.participant
        else ""
    )
    return f"{cannot}{mark.reason} {said}".rstrip() + f" ({mark.run})"


def _more(others: int) -> str:
    if not others:
        return ""
    return " and one more" if others == 1 else f" and {others} more"


def _effect(mark: StuckMark, runs: int) -> str:
    """What is held and what is unknown, of the first run; and whether anything goes on."""
    of = f" by {mark.run}" if runs > 1 else ""
    told = [f"Held{of}: {_some(mark.held)}."] if mark.held else []
    told += (
        [f"Unknown{f' of {mark.run}' if runs > 1 else ''}: whether {_some(mark.unknown)} took effect."]
        if mark.unknown
        else []
    )
    if mark.took_effect and not mark.held and mark.phase == "compensation":
        told.append(f"{mark.step} took effect and is not undone.")
    these = "these runs" if runs > 1 else "this run"
    if mark.else_open:
        told.append(f"Other steps of {these} go on by themselves.")
    elif not told and mark.step:
        told.append(f"Nothing is held by {mark.run}, and nothing of it is unknown.")
    else:
        told.append(f"Nothing of {these} goes on until it is settled.")
    return " ".join(told)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - HELD_MAX} more" if len(names) > HELD_MAX else ""
    return ", ".join(names[:HELD_MAX]) + more


def _query(mark: StuckMark) -> str:
    step = mark.step.partition("/")[0]
    return f"saga={mark.saga}&step={step}" if step else f"saga={mark.saga}"


@value
class WaitingRuns:
    """Runs that wait for a participant that is down. `forward`: how many wait at which step; `done`: what they did."""

    detail: str
    probe_seconds: float
    undone: int
    forward: tuple[tuple[str, int], ...]
    done: tuple[tuple[str, int], ...]
    late: int
    next_deadline: int | None

    @property
    def runs(self) -> int:
        """How many in all."""
        return self.undone + sum(count for _, count in self.forward)


def waiting_for(
    participant: str, records: Iterable[RunRecord], now: int, detail: str, probe_seconds: float
) -> WaitingRuns:
    """Which of these runs wait."""
    undone, late = 0, 0
    forward: Counter[str] = Counter()
    done: Counter[str] = Counter()
    deadlines: list[int] = []
    for record in records:
        steps = [each.step for each in record.items() if _calls(each) == participant]
        if record.ended is not None or not steps:
            continue
        if record.backward:
            undone += 1
        else:
            forward[steps[0]] += 1
        done.update({name for name in record.steps if record.step_state(name) is StepState.DONE})
        if record.deadline is not None:
            late += record.deadline <= now
            if record.deadline > now:
                deadlines.append(record.deadline)
    return WaitingRuns(
        detail=detail,
        probe_seconds=probe_seconds,
        undone=undone,
        forward=tuple(forward.most_common()),
        done=tuple(done.most_common()),
        late=late,
        next_deadline=min(deadlines, default=None),
    )


def _calls(item: ItemRecord) -> str:
    match item.state:
        case StepState.ACTING | StepState.UNKNOWN if item.action is not None:
            return item.action.participant
        case StepState.COMPENSATING if item.undo is not None:
            return item.undo.participant
        case _:
            return ""


def down_alert(participant: str, since: int, waiting: WaitingRuns, links: AlertLinks) -> Alert:
    """`amends: inventory is down, 41 runs wait for it`."""
    wait = "1 run waits" if waiting.runs == 1 else f"{waiting.runs} runs wait"
    parts = [f"{waiting.undone} are being undone"] if waiting.undone else []
    parts += [f"{count} wait to {step}" for step, count in waiting.forward]
    who = f" {', '.join(parts)}{_before(waiting)}." if parts else ""
    reason = waiting.detail.partition(" from ")[0] or "no answer"
    deadline = f"; the first will be at {_clock(waiting.next_deadline)[:5]}" if waiting.next_deadline else ""
    told = [
        f"amends: {participant} is down, {wait} for it",
        f"{reason} since {_clock(since)[:5]} UTC (circuit open, probed every {waiting.probe_seconds:g} s).{who}",
        f"{GO_ON.format(participant)} {waiting.late} are past their deadline{deadline}.",
        _look(f"amends ls --waiting-for {participant}", links.url and f"{links.url}/participants/{participant}"),
    ]
    fields: dict[str, Any] = {
        "participant": participant,
        "since": _moment(since),
        "detail": waiting.detail or None,
        "count": waiting.runs,
        "compensating": waiting.undone,
    }
    return Alert(f"down:{participant}:{since}", "participant-down", None, "\n".join(told), fields)


GO_ON: Final = "Nobody needs to act in amends: the runs go on when {} answers."


def _before(waiting: WaitingRuns) -> str:
    done = ", ".join(f"{count} of them have done {step}" for step, count in waiting.done)
    return f"; {done}" if done else ""


def back_alert(participant: str, now: int) -> Alert:
    """It answers again."""
    text = f"amends: {participant} is back\nIts runs go on by themselves."
    return Alert(f"back:{participant}:{now}", "participant-back", None, text, {"participant": participant})


def _look(command: str, link: str) -> str:
    return f"Look:   {command:<52} {link}".rstrip()


def _clock(micros: int) -> str:
    return f"{datetime.fromtimestamp(micros / MICROSECONDS, UTC):%H:%M:%S}"


def _moment(micros: int) -> str:
    return datetime.fromtimestamp(micros / MICROSECONDS, UTC).isoformat().replace("+00:00", "Z")


def write_lines(stream: TextIO) -> None:
    """Have alerts written to a stream as lines of JSON and nothing else; once per process."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _LOGGER.handlers = [handler]
    _LOGGER.setLevel(logging.WARNING)
    _LOGGER.propagate = False


def propagate_lines() -> None:
    """Have alerts written by the process's own handler, which knows `ALERT_FIELD`; whatever its level is."""
    _LOGGER.handlers = []
    _LOGGER.setLevel(logging.WARNING)
    _LOGGER.propagate = True


def log_line(alert: Alert) -> None:
    """The alert as one line of JSON, for whatever collects the process's log."""
    body = alert.body()
    _LOGGER.warning("%s", visible_json(json.dumps(body, ensure_ascii=False)), extra={ALERT_FIELD: body})
